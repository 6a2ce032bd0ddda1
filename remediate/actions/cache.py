"""Make room in a full cache."""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Callable
from typing import Any, TypeVar

from remediate.actions.base import ActionContext, ActionError, Effect, Probe, Target

_SAMPLE = 5_000
_KEEP_KEYS = 20_000
_KEEP_BYTES = 32 * 1024 * 1024
_FULL_SHARE = 0.8
_MARK = "opsmend:done:"
_MARK_SECONDS = 86_400
_T = TypeVar("_T")


class PurgePrefix:
    """Deletes the keys of the prefix (up to the first `:`) that holds most memory, protected ones excepted.

    The prefix is measured, never read from telemetry, and it must hold most of the sampled memory. What is
    deleted is kept (DUMP and time to live) for undo, up to 20,000 keys and 32 MB; beyond that the snapshot is
    refused, so nothing unattended runs. Undo never overwrites a key that was written since.
    """

    name, title = "cache.purge_prefix", "Purge the largest key prefix of {service}"
    applies_when = frozenset({"cache_full"})
    needs_change = False
    is_reversible, disruption = True, 1

    def parameters(self, target: Target) -> dict[str, Any]:
        return {"service": target.service}

    def _connected(self, context: ActionContext, work: Callable[[Any], _T]) -> _T:
        import redis

        if not context.endpoints.redis_url:
            raise ActionError("no cache: set [actuator] redis_url_env", reason="no_actuator")
        client = redis.Redis.from_url(context.endpoints.redis_url, socket_timeout=context.timeout_seconds)
        try:
            return work(client)
        except redis.RedisError as error:
            raise ActionError(f"cache: {type(error).__name__}", reason="refused", is_transient=True) from error
        finally:
            client.close()

    def _largest(self, client: Any, context: ActionContext) -> bytes:
        sizes: Counter[bytes] = Counter()
        for n, key in enumerate(client.scan_iter(count=500)):
            if n >= _SAMPLE:
                break
            prefix, separator, _ = key.partition(b":")
            if separator:
                sizes[prefix + b":"] += client.memory_usage(key, samples=0) or 0
        total = sizes.total()
        sizes.pop(_MARK.partition(":")[0].encode() + b":", None)
        for protected in context.endpoints.protected_prefixes:
            sizes.pop(protected.partition(":")[0].encode() + b":", None)
        if not sizes:
            raise ActionError("no prefix that may be purged", reason="nothing_to_do")
        prefix, size = sizes.most_common(1)[0]
        if size < 0.5 * total:
            raise ActionError("no prefix that may be purged holds most of the memory", reason="nothing_to_do")
        return prefix

    def probe(self, params: dict[str, Any], context: ActionContext) -> Probe:
        def look(client: Any) -> Probe:
            info = client.info("memory")
            return Probe(bool(client.exists(_MARK + context.key)), f"{_used_share(info):.0%} used")

        return self._connected(context, look)

    def snapshot(self, params: dict[str, Any], context: ActionContext) -> dict[str, Any]:
        def take(client: Any) -> dict[str, Any]:
            prefix, size = self._largest(client, context), 0
            kept: list[list[Any]] = []
            for key in client.scan_iter(_glob(prefix), count=500):
                body, ttl_ms = client.dump(key), client.pttl(key)
                if body is None or ttl_ms == -2:  # gone meanwhile
                    continue
                size += len(body)
                if size > _KEEP_BYTES or len(kept) >= _KEEP_KEYS:
                    raise ActionError("too much to keep for undo: a person must decide", reason="snapshot_too_large")
                kept.append([_text(key), _text(body), max(0, ttl_ms)])
            return {"prefix": _text(prefix), "keys": kept}

        return self._connected(context, take)

    def run(self, params: dict[str, Any], context: ActionContext) -> Effect:
        def purge(client: Any) -> Effect:
            share = _used_share(client.info("memory"))
            if share < _FULL_SHARE:
                return Effect(f"there is room ({share:.0%} used): nothing purged", False)
            count = 0
            batch: list[bytes] = []
            for key in client.scan_iter(_glob(_bytes(context.snapshot["prefix"])), count=1000):
                batch.append(key)
                if len(batch) >= 500:
                    count += client.unlink(*batch)
                    batch = []
            if batch:
                count += client.unlink(*batch)
            if count:
                client.set(_MARK + context.key, "1", ex=_MARK_SECONDS)
            return Effect(f"purged {count} keys of one prefix", count > 0)

        return self._connected(context, purge)

    def undo(self, snapshot: dict[str, Any], context: ActionContext) -> Effect:
        def restore(client: Any) -> Effect:
            import redis

            restored = newer = 0
            for key, body, ttl_ms in snapshot["keys"]:
                try:
                    client.restore(_bytes(key), ttl_ms, _bytes(body))
                    restored += 1
                except redis.ResponseError as error:
                    if not str(error).startswith("BUSYKEY"):
                        raise
                    newer += 1
            return Effect(f"restored {restored} keys; {newer} are there already", True)

        return self._connected(context, restore)


def _used_share(info: dict[str, Any]) -> float:
    """Used share of the memory limit, 0..1; 1 where there is no limit but the cache said it is full."""
    top = int(info.get("maxmemory") or 0)
    return int(info["used_memory"]) / top if top else 1.0


def _glob(prefix: bytes) -> bytes:
    """A pattern that matches exactly the keys with this prefix, whatever characters it holds."""
    special = b"*?[]^\\"
    return b"".join(b"\\" + bytes([c]) if c in special else bytes([c]) for c in prefix) + b"*"


def _text(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def _bytes(text: str) -> bytes:
    return base64.b64decode(text)
