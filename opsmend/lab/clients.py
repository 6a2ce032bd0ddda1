"""How a shop process calls others: HTTP by discovery file, PostgreSQL through a pool, Redis."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import msgspec

from ingest.errors import OpsmendError
from opsmend.lab import topology
from opsmend.lab.settings import Spec
from opsmend.lab.telemetry import Span, Telemetry


class CallError(OpsmendError):
    """A call to another service failed; `status` is what we answer our own caller."""

    reason = "call"

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class Discovery:
    """Ports of the services, from a file that the supervisor replaces."""

    def __init__(self, path: str) -> None:
        self._path = Path(path)
        self._stamp = -1
        self._ports: dict[str, list[int]] = {}
        self._turn = 0

    def url(self, service: str) -> str:
        """The base URL of one instance, in turn. Raises CallError if there is none."""
        if (stamp := self._path.stat().st_mtime_ns) != self._stamp:
            self._ports, self._stamp = msgspec.json.decode(self._path.read_bytes()), stamp
        ports = self._ports.get(service, [])
        if not ports:
            raise CallError(f"no instance of {service} is known", 502)
        self._turn += 1
        return f"http://127.0.0.1:{ports[self._turn % len(ports)]}"


class Clients:
    """All outgoing calls of one process, counted and traced by peer."""

    def __init__(self, spec: Spec, telemetry: Telemetry) -> None:
        self._spec = spec
        self._telemetry = telemetry
        self._discovery = Discovery(spec.discovery)
        self._http: aiohttp.ClientSession | None = None
        self._pool: Any = None
        self._redis: Any = None
        self._waiting = 0
        self._acquired = 0
        self.kept: list[object] = []

    @property
    def has_postgres(self) -> bool:
        return self._pool is not None

    @property
    def has_redis(self) -> bool:
        return self._redis is not None

    async def open(self) -> None:
        timeout = topology.TIMEOUT_SECONDS.get(self._spec.service, 1.0)
        self._http = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=timeout), connector=aiohttp.TCPConnector(limit=0))
        if self._spec.postgres_dsn:
            import asyncpg

            settings = {"application_name": self._spec.service,
                        "statement_timeout": str(topology.STATEMENT_TIMEOUT_MS)}
            self._pool = await asyncpg.create_pool(
                self._spec.postgres_dsn, min_size=1, max_size=topology.POOL_MAX, server_settings=settings,
                max_inactive_connection_lifetime=30.0, timeout=2.0)
        if self._spec.redis_url:
            from redis.asyncio import Redis

            self._redis = Redis.from_url(self._spec.redis_url, socket_timeout=topology.REDIS_TIMEOUT_SECONDS,
                                         socket_connect_timeout=topology.REDIS_TIMEOUT_SECONDS)

    async def close(self) -> None:
        if self._http:
            await self._http.close()
        if self._redis:
            await self._redis.aclose()
        if self._pool:
            self._pool.terminate()

    def pool_state(self) -> dict[str, float]:
        """in_use, max and waiting of the database pool; empty without one."""
        if self._pool is None:
            return {}
        in_use = self._pool.get_size() - self._pool.get_idle_size()
        return {"in_use": in_use, "max": topology.POOL_MAX, "waiting": self._waiting}

    @asynccontextmanager
    async def _call(self, peer: str, name: str, trace: Span) -> AsyncIterator[Span]:
        span = trace.child(self._telemetry.rng)
        started_ns, started, is_error = time.time_ns(), time.perf_counter(), True
        try:
            yield span
            is_error = False
        finally:
            seconds = time.perf_counter() - started
            self._telemetry.made[peer].add(seconds, is_error=is_error)
            self._telemetry.span(span, trace.span_id, 3, started_ns, seconds, is_error=is_error, name=name, peer=peer)

    async def http(self, peer: str, method: str, path: str, trace: Span, base: str = "") -> Any:
        """The JSON answer. Raises CallError: 504 after the time-out, 502 if refused or answered with 5xx."""
        assert self._http is not None
        try:
            async with self._call(peer, f"{method} {path.split('/')[1]}", trace) as span:
                url = (base or self._discovery.url(peer)) + path
                async with self._http.request(method, url, headers={"traceparent": span.header()}) as response:
                    body = await response.read()
                    if response.status >= 500:
                        raise CallError(f"{peer} answered {response.status}", 502)
                    return msgspec.json.decode(body)
        except TimeoutError:
            raise CallError(f"{peer} did not answer in time", 504) from None
        except aiohttp.ClientError as error:
            raise CallError(f"connection to {peer} failed: {type(error).__name__}", 502) from None

    async def sql(self, trace: Span, run: Callable[[Any], Awaitable[Any]]) -> Any:
        """`run(connection)` on a connection of the pool. Raises CallError: 503 if none is free in time."""
        import asyncpg

        started = time.perf_counter()
        self._waiting += 1
        try:
            connection = await self._pool.acquire(timeout=topology.ACQUIRE_TIMEOUT_SECONDS)
        except TimeoutError:
            raise CallError(f"no database connection free after {topology.ACQUIRE_TIMEOUT_SECONDS:g} s "
                             f"(pool of {topology.POOL_MAX})", 503) from None
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            raise CallError(f"can't connect to postgres: {type(error).__name__}", 502) from None
        finally:
            self._waiting -= 1
            self._telemetry.acquired.append(time.perf_counter() - started)
        self._acquired += 1
        every = self._spec.settings.keep_connection_every
        is_kept = bool(every) and self._acquired % every == 0
        try:
            async with self._call("postgres", "sql", trace):
                return await run(connection)
        except TimeoutError:
            raise CallError("postgres did not answer in time", 504) from None
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            raise CallError(f"postgres: {error}", 500) from None
        finally:
            if is_kept:
                self.kept.append(connection)
            else:
                await self._pool.release(connection)

    async def redis(self, trace: Span, run: Callable[[Any], Awaitable[Any]]) -> Any:
        """`run(client)`. Raises CallError."""
        from redis.exceptions import RedisError

        try:
            async with self._call("redis", "redis", trace):
                return await run(self._redis)
        except TimeoutError:
            raise CallError("redis did not answer in time", 504) from None
        except (RedisError, OSError) as error:
            raise CallError(f"redis: {error}", 500) from None


def exit_now() -> None:
    """End the process at once with status 1, as an unhandled error in a native library would."""
    os._exit(1)
