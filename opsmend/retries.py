"""A request that is sent again counts once.

A sender that hears no yes (we were killed, the answer was lost, a flush timed out after the bytes had gone) sends the
same request again. At intake each request gets a digest, as a header of its record and as its key, so that repeats
meet in one partition. Whoever reads the records keeps a window of the digests it has seen, stored in the transaction
that stores the results, and drops repeats before they are decoded.

What counts as the same request: path, tenant, body after decompression, and the sender's own mark (`Idempotency-Key` or
`webhook-id`) where it sends one. An equal body under another mark is a request of its own. Alerts and changes, of which
equal ones may all be meant, are known again by a mark alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from ingest.types import Record

HEADER: Final = "opsmend-request"
"""The record header that holds the digest."""
_DIGEST_BYTES: Final = 16
_MARKS: Final = ("idempotency-key", "webhook-id")
_TENANTS: Final = ("x-tenant", "x-scope-orgid")


class SeenRequest(msgspec.Struct, frozen=True):
    """One request that was taken. `seen_ms` is its record's own time."""

    digest: bytes
    seen_ms: int


def digest_of(kind: str, body: bytes, headers: Mapping[str, str]) -> bytes:
    """16 bytes. `headers` are lower-case; only tenant and the sender's mark are looked at."""
    of = hashlib.blake2b(digest_size=_DIGEST_BYTES)
    for part in (kind, *(headers.get(name, "") for name in (*_MARKS, *_TENANTS))):
        of.update(len(part.encode()).to_bytes(4, "big") + part.encode())
    of.update(body)
    return of.digest()


def is_marked(headers: Mapping[str, str]) -> bool:
    """Whether the sender itself tells its requests apart, so that equal ones are retries for certain."""
    return any(headers.get(name) for name in _MARKS)


@dataclass(frozen=True)
class RetryConfig:
    """How long and how many requests are remembered."""

    window_seconds: float = 900.0
    """A repeat that comes later than this after the first counts as new. Collectors give up after 300 s by default,
    Prometheus sends for as long as its write-ahead log holds."""
    max_requests: int = 200_000
    """The most that are remembered (some 30 MB); beyond it the oldest are forgotten before their time."""


class RetryWindow:
    """`sift` tells new requests from repeats. Depends on the records alone, never on the wall clock.

    Records without a digest (everything that did not come over HTTP) are always new.
    """

    def __init__(self, config: RetryConfig | None = None) -> None:
        self._config = config or RetryConfig()
        self._seen: dict[bytes, int] = {}  # digest -> record time, in the order of arrival
        self._newest_ms = 0
        self.forgotten_early = 0
        """Requests that had to go because there were too many."""

    @property
    def max_requests(self) -> int:
        return self._config.max_requests

    def __len__(self) -> int:
        return len(self._seen)

    @property
    def horizon_ms(self) -> int:
        """What was seen before is forgotten."""
        return self._newest_ms - int(self._config.window_seconds * 1000)

    def sift(self, records: Sequence[Record]) -> tuple[Sequence[Record], list[SeenRequest]]:
        """The records but for repeats, and the requests that are seen for the first time."""
        if not [r for r in records if r.headers]:
            return records, []
        fresh: list[Record] | None = None  # a copy only where there is something to leave out
        first = []
        for at, record in enumerate(records):
            digest = _digest(record) if record.headers else None
            if digest is None:
                if fresh is not None:
                    fresh.append(record)
                continue
            seen_ms = self._seen.get(digest)
            if seen_ms is not None and seen_ms >= record.timestamp_ms - self._config.window_seconds * 1000:
                if fresh is None:
                    fresh = list(records[:at])
                continue
            if fresh is not None:
                fresh.append(record)
            request = SeenRequest(digest, record.timestamp_ms)
            self._put(request)
            first.append(request)
        self._prune()
        return (records if fresh is None else fresh), first

    def restore(self, requests: Iterable[SeenRequest]) -> None:
        """Add what is stored, in the order in which it was seen."""
        for request in requests:
            self._put(request)
        self._prune()

    def _put(self, request: SeenRequest) -> None:
        self._seen.pop(request.digest, None)
        self._seen[request.digest] = request.seen_ms
        self._newest_ms = max(self._newest_ms, request.seen_ms)

    def _prune(self) -> None:
        horizon = self.horizon_ms
        while self._seen:
            digest = next(iter(self._seen))
            is_old = self._seen[digest] < horizon
            if not is_old and len(self._seen) <= self._config.max_requests:
                return
            self.forgotten_early += not is_old
            del self._seen[digest]


def _digest(record: Record) -> bytes | None:
    return next((value for name, value in record.headers if name == HEADER and len(value) == _DIGEST_BYTES), None)
