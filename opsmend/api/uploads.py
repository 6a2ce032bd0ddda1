"""Reading bodies of telemetry: bounded in size, in time, and in what all of them hold together."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final, TypeVar

import anyio
import anyio.to_thread
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request

from ingest.compression import expand
from ingest.errors import Backpressure, DecodeError

T = TypeVar("T")

_ENCODINGS: Final = {"gzip": b"\x1f\x8b", "x-gzip": b"\x1f\x8b", "deflate": b"x", "zstd": b"\x28\xb5\x2f\xfd"}
"""Content-Encoding -> how such bytes begin."""
_THREADS: Final = 8
_QUEUED: Final = 64
_COME_BACK_SECONDS: Final = 2.0


class Uploads:
    """One per app. Whatever goes beyond its bounds is refused with Backpressure (503), never queued without end.

    In memory at once: `max_bytes` as received, and of the (eight) requests that are worked on what comes out of them,
    each at most `max_body_bytes`.
    """

    def __init__(self, *, max_body_bytes: int, max_bytes: int, read_seconds: float) -> None:
        self._max_body_bytes, self._max_bytes, self._read_seconds = max_body_bytes, max_bytes, read_seconds
        self._held = 0
        self._workers = anyio.CapacityLimiter(_THREADS)

    @asynccontextmanager
    async def received(self, request: Request, limit_bytes: int = 0) -> AsyncIterator[bytes]:
        """The body as received; `limit_bytes` instead of `max_body_bytes` where given.

        413 when it is larger than the limit, 408 when it takes too long to come; Backpressure when the bodies of all
        requests together are too much.
        """
        limit, taken = limit_bytes or self._max_body_bytes, 0
        try:
            parts = []
            declared = request.headers.get("content-length", "")
            if declared.isdecimal() and int(declared) > limit:
                raise _too_large(limit)
            try:
                async with asyncio.timeout(self._read_seconds):
                    async for chunk in request.stream():
                        if self._held + len(chunk) > self._max_bytes:
                            raise Backpressure("too much is being received at the moment",
                                               retry_after_seconds=_COME_BACK_SECONDS)
                        self._held += len(chunk)
                        taken += len(chunk)
                        if taken > limit:
                            raise _too_large(limit)
                        parts.append(chunk)
            except ClientDisconnect as error:
                raise HTTPException(400, "the sender left") from error
            except TimeoutError as error:
                raise HTTPException(408, f"the body did not come within {self._read_seconds:.0f} s") from error
            body = b"".join(parts)
            parts.clear()
            yield body
        finally:
            self._held -= taken

    async def work(self, job: Callable[[], T]) -> T:
        """Run `job` in a thread of the intake's own, so that a transport that hangs does not stop the dashboard."""
        if self._workers.statistics().tasks_waiting >= _QUEUED:
            raise Backpressure("too many requests at the moment", retry_after_seconds=_COME_BACK_SECONDS)
        return await anyio.to_thread.run_sync(job, limiter=self._workers)

    def expanded(self, body: bytes, encoding: str) -> bytes:
        """`body` without its Content-Encoding. 415 for one that is not known, 400 for broken bytes, 413 for too many."""
        encoding = encoding.strip().lower()
        if encoding in ("", "identity"):
            return body
        if encoding not in _ENCODINGS:
            raise HTTPException(415, f"content-encoding {encoding!r} is not known here; one of gzip, deflate, zstd",
                                {"accept-encoding": "gzip, deflate, zstd"})
        if not body:
            return body
        if not body.startswith(_ENCODINGS[encoding]):
            raise HTTPException(400, f"the body is not compressed by {encoding}")
        try:
            return expand(body, self._max_body_bytes)
        except DecodeError as error:
            raise HTTPException(413 if error.reason == "too_large" else 400, str(error)) from error


def _too_large(limit: int) -> HTTPException:
    return HTTPException(413, f"larger than {limit} bytes")
