"""Make room in a full cache."""

from __future__ import annotations

import base64
from collections import Counter
from typing import Any

from remediate.actions.base import ActionContext, ActionError, Effect, Probe, Target

_SAMPLE = 2_000
_KEEP_KEYS = 5_000
_KEEP_BYTES = 32 * 1024 * 1024


class PurgePrefix:
    """Deletes the keys of the prefix (up to the first `:`) that holds most memory, protected ones excepted.

    The prefix is measured, never read from telemetry. What is deleted is kept (DUMP and time to live) for
    undo, up to 32 MB; beyond that the snapshot is refused, so nothing unattended runs.
    """

    name, title = "cache.purge_prefix", "Purge the largest key prefix of {service}"
    applies_when = frozenset({"cache_full"})
    needs_change = False
    is_reversible, disruption = True, 1

    def parameters(self, target: Target) -> dict[str, Any]:
        return {"service": target.service}

    def _client(self, context: ActionContext) -> Any:
        import redis

        if not context.endpoints.redis_url:
            raise ActionError("no cache: set [actuator] redis_url_env", reason="no_actuator")
        return redis.Redis.from_url(context.endpoints.redis_url, socket_timeout=context.timeout_seconds)

    def _largest(self, client: Any, context: ActionContext) -> bytes:
        sizes: Counter[bytes] = Counter()
        for n, key in enumerate(client.scan_iter(count=500)):
            if n >= _SAMPLE:
                break
            prefix, separator, _ = key.partition(b":")
            if separator:
                sizes[prefix + b":"] += client.memory_usage(key, samples=0) or 0
        for protected in context.endpoints.protected_prefixes:
            sizes.pop(protected.encode(), None)
        if not sizes:
            raise ActionError("no prefix that may be purged", reason="nothing_to_do")
        prefix, size = sizes.most_common(1)[0]
        if size < 0.5 * sum(sizes.values()):
            raise ActionError("no prefix holds most of the memory", reason="nothing_to_do")
        return prefix

    def probe(self, params: dict[str, Any], context: ActionContext) -> Probe:
        info = self._guarded(lambda client: client.info("memory"), context)
        used, top = info["used_memory"], info["maxmemory"]
        return Probe(False, f"{used / max(1, top):.0%} used")

    def _guarded(self, work: Any, context: ActionContext) -> Any:
        import redis

        client = self._client(context)
        try:
            return work(client)
        except redis.RedisError as error:
            raise ActionError(f"cache: {type(error).__name__}", reason="refused", is_transient=True) from error
        finally:
            client.close()

    def snapshot(self, params: dict[str, Any], context: ActionContext) -> dict[str, Any]:
        def take(client: Any) -> dict[str, Any]:
            prefix, size = self._largest(client, context), 0
            kept: list[list[Any]] = []
            for key in client.scan_iter(prefix + b"*", count=500):
                body = client.dump(key)
                if body is None:
                    continue
                size += len(body)
                if size > _KEEP_BYTES:
                    raise ActionError("too much to keep for undo: a person must decide", reason="snapshot_too_large")
                if len(kept) < _KEEP_KEYS:
                    kept.append([base64.b64encode(key).decode(), base64.b64encode(body).decode(),
                                 max(0, client.pttl(key))])
            return {"prefix": prefix.decode(errors="replace"), "keys": kept}

        found: dict[str, Any] = self._guarded(take, context)
        return found

    def run(self, params: dict[str, Any], context: ActionContext) -> Effect:
        def purge(client: Any) -> Effect:
            info = client.info("memory")
            if info["maxmemory"] and info["used_memory"] < 0.8 * info["maxmemory"]:
                return Effect("there is room: nothing purged", False)
            prefix, count, batch = self._largest(client, context), 0, []
            for key in client.scan_iter(prefix + b"*", count=1000):
                batch.append(key)
                if len(batch) >= 500:
                    count += client.unlink(*batch)
                    batch = []
            if batch:
                count += client.unlink(*batch)
            return Effect(f"purged {count} keys of one prefix", count > 0)

        effect: Effect = self._guarded(purge, context)
        return effect

    def undo(self, snapshot: dict[str, Any], context: ActionContext) -> Effect:
        def restore(client: Any) -> Effect:
            count = 0
            for key, body, ttl in snapshot["keys"]:
                client.restore(base64.b64decode(key), ttl, base64.b64decode(body), replace=True)
                count += 1
            return Effect(f"restored {count} keys", True)

        effect: Effect = self._guarded(restore, context)
        return effect
