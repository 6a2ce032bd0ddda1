"""The transport seam: where records come from and go to.

Implementations live in `ingest/transports/` and are listed in `ingest/transports/registry.py`; one
contract test (`tests/contract/test_transport.py`) runs over all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Protocol, runtime_checkable

from ingest.types import Record, Watermark

MAX_POLL_BYTES = 32 * 1024 * 1024
"""Default of the largest poll."""

Stored = Callable[[Collection[tuple[str, int]]], Mapping[tuple[str, int], int]]
"""Of these partitions, the next offset to read as of what is stored with the results; those not named have none."""


@runtime_checkable
class Consumer(Protocol):
    """Reads records of its topics, in order within a partition; partitions side by side in time (`order.py`)."""

    def start(self, at: Watermark, stored: Stored | None = None) -> None:
        """Subscribe; partitions named in `at` are read from there on, others from the committed
        offset, or else from the earliest. `stored` is asked whenever partitions come to us (others may have read
        on since): from within `poll`, by its thread. Raises TransportError with a remedy within 10 s if the
        broker can't be reached or refuses us."""

    def poll(self, max_rows: int, max_ms: int, max_bytes: int = MAX_POLL_BYTES) -> list[Record]:
        """Up to `max_rows` records of at most `max_bytes` in all (but one record, however large), waiting at most
        `max_ms` for the first. Empty when there are none."""

    def rewind(self, to: Watermark) -> None:
        """Read the partitions that are ours from there on, whatever was given out."""

    def commit(self, watermark: Watermark) -> None:
        """Tell the transport that everything below `watermark` is done (for lag displays and for those
        who take over; the authoritative watermark is the one stored with the results)."""

    def pause(self) -> None:
        """Stop fetching (back-pressure); `poll` returns nothing until `resume`."""

    def resume(self) -> None: ...

    def lag(self) -> Mapping[str, int]:
        """Records not yet read, per topic. Cheap; may be some seconds old."""

    def close(self) -> None: ...


@runtime_checkable
class Producer(Protocol):
    """Writes records."""

    def send(self, topic: str, value: bytes, *, key: bytes | None = None,
             headers: Sequence[tuple[str, bytes]] = (), timestamp_ms: int | None = None) -> None:
        """Enqueue one record. Equal keys go to one partition."""

    def flush(self, timeout_seconds: float = 10.0) -> None:
        """Return when all that was sent is durable; raises TransportError if that can't be had."""

    def close(self) -> None: ...
