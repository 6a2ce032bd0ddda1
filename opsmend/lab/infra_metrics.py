"""What exporters would say about PostgreSQL and Redis."""

from __future__ import annotations

from typing import Any

from opsmend.lab.backends import LabError

Sample = tuple[str, float, str]
"""(metric name, value, unit)."""

# A session counts as old only if it idles in its transaction or others wait for it.
_ACTIVITY = """
WITH waits AS (SELECT pid, pg_blocking_pids(pid) AS by FROM pg_stat_activity
               WHERE backend_type = 'client backend' AND wait_event_type = 'Lock'),
     blockers AS (SELECT DISTINCT unnest(by) AS pid FROM waits)
SELECT count(*) FILTER (WHERE state = 'active'),
       count(*) FILTER (WHERE state LIKE 'idle in transaction%'),
       (SELECT count(*) FROM waits WHERE cardinality(by) > 0),
       coalesce(max(extract(epoch FROM clock_timestamp() - xact_start)) FILTER (
           WHERE state LIKE 'idle in transaction%' OR pid IN (SELECT pid FROM blockers)), 0)::float8,
       (SELECT count(*) FROM blockers WHERE pid NOT IN (SELECT pid FROM waits))
FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()
"""
_NAMES = (("postgresql.connections_active", "1"), ("postgresql.idle_in_transaction", "1"),
          ("postgresql.lock_waiting", "1"), ("postgresql.oldest_transaction_seconds", "s"),
          ("postgresql.blockers", "1"))


class NoAnswer(LabError):
    """The server does not take us, or does not answer. Its answer that our question is wrong is none of these."""

    reason = "no_answer"
    is_transient = True


class PostgresMetrics:
    """Reads pg_stat_activity over one connection that is made again when it broke."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._connection: Any = None

    async def sample(self) -> list[Sample]:
        """Raises NoAnswer."""
        import asyncpg
        from asyncpg import exceptions as e

        try:
            if self._connection is None or self._connection.is_closed():
                self._connection = await asyncpg.connect(
                    self._dsn, timeout=1.0, command_timeout=1.0, server_settings={"application_name": "monitor"})
            row = await self._connection.fetchrow(_ACTIVITY)
        except (OSError, e.PostgresConnectionError, e.OperatorInterventionError, e.InsufficientResourcesError,
                e.InterfaceError) as error:  # gone; starting or stopping; no slot free; a question of ours still open
            raise NoAnswer(f"postgres: {error!r}") from error
        return [(name, float(value), unit) for (name, unit), value in zip(_NAMES, row, strict=True)]


class RedisMetrics:
    """Reads INFO; rates are since the last sample."""

    def __init__(self, url: str) -> None:
        from redis.asyncio import Redis

        self._client = Redis.from_url(url, socket_timeout=1.0, socket_connect_timeout=1.0)
        self._last: dict[str, float] = {}

    async def sample(self, seconds: float) -> list[Sample]:
        """`seconds` since the last call. Raises NoAnswer."""
        from redis import exceptions as e

        try:
            info: dict[str, Any] = await self._client.info("everything")
        except (OSError, e.ConnectionError, e.TimeoutError) as error:
            raise NoAnswer(f"redis: {error!r}") from error
        oom = info.get("errorstat_OOM", {})
        totals = {"evicted": float(info.get("evicted_keys", 0)), "hits": float(info.get("keyspace_hits", 0)),
                  "misses": float(info.get("keyspace_misses", 0)),
                  "oom": float(oom.get("count", 0) if isinstance(oom, dict) else str(oom).rpartition("=")[2] or 0)}
        # After a restart of the server its counters begin again at zero.
        grown = {k: max(0.0, v - self._last.get(k, v)) for k, v in totals.items()}
        self._last = totals
        samples = [
            ("redis.memory_used_bytes", float(info["used_memory"]), "By"),
            ("redis.memory_max_bytes", float(info["maxmemory"]), "By"),
            ("redis.evicted_per_second", grown["evicted"] / seconds, "1/s"),
            ("redis.oom_errors_per_second", grown["oom"] / seconds, "1/s")]
        if reads := grown["hits"] + grown["misses"]:
            samples.append(("redis.hit_ratio", grown["hits"] / reads, "1"))
        return samples
