"""Events out: from the outbox to webhooks and topics, at least once, in order, each receiver at its own pace.

One thread and one stored cursor per receiver. A receiver that is away is tried again for ever, ever more slowly; what
it missed comes when it is back, also after kill -9. A receiver may see an event twice: the ids are the same then.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Sequence
from typing import Final, Literal, Protocol

import sqlalchemy as sa
import structlog

from ingest.errors import OpsmendError
from opsmend.store.engine import REFUSED
from opsmend.store.outbox import Event, cursors, events_since, keep_cursors, set_cursor

log = structlog.get_logger()
DeliveryResult = Literal["sent", "retried", "refused", "bug"]
"""`bug`: it comes again, as with `retried`, but no receiver can help it."""
_LOOK_SECONDS: Final = 0.5
_READ_EVENTS: Final = 200
_CONTENT_TRIES: Final = 5


class DeliveryError(OpsmendError):
    """A receiver did not take an event. `is_content`: it speaks about this very event, so that the next may pass."""

    reason = "delivery"
    is_transient = True

    def __init__(self, message: str, *, is_content: bool = False, retry_after_seconds: float = 0.0) -> None:
        super().__init__(message)
        self.is_content = is_content
        self.retry_after_seconds = retry_after_seconds


class Receiver(Protocol):
    """Where events go. Called by one thread."""

    name: str
    """Stable over restarts: the cursor is stored under it. Holds no secret."""
    batch_size: int

    @property
    def kind(self) -> Literal["webhook", "topics"]: ...

    def wants(self, event_type: str) -> bool: ...

    def deliver(self, events: Sequence[Event]) -> None:
        """Durable at the other end on return. Raises DeliveryError: then all of `events` come again."""

    def close(self) -> None: ...


class Outlet:
    """Runs all receivers. `on_result(kind, result)` counts; it must be quick and thread-safe."""

    def __init__(self, engine: sa.Engine, receivers: Sequence[Receiver], *, first_pause_seconds: float = 1.0,
                 longest_pause_seconds: float = 300.0,
                 on_result: Callable[[str, DeliveryResult], None] = lambda kind, result: None) -> None:
        self._engine, self._receivers = engine, list(receivers)
        self._first, self._longest, self._on_result = first_pause_seconds, longest_pause_seconds, on_result
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Call before anything new is written: a receiver that is new begins with the next event."""
        keep_cursors(self._engine, [r.name for r in self._receivers])
        at = cursors(self._engine)
        self._threads = [threading.Thread(target=self._run, args=(r, at[r.name]), name=f"outlet-{i}", daemon=True)
                         for i, r in enumerate(self._receivers)]
        for thread in self._threads:
            thread.start()

    def stop(self, timeout_seconds: float = 15.0) -> None:
        """Ends after the delivery at hand; what is left goes out at the next start."""
        self._stop.set()
        for thread in self._threads:
            thread.join(timeout_seconds)

    def _run(self, receiver: Receiver, seq: int) -> None:
        failures = 0
        try:
            while not self._stop.is_set():
                try:
                    moved = self._turn(receiver, seq, failures)
                except DeliveryError as error:
                    failures += 1
                    self._on_result(receiver.kind, "retried")
                    pause = self._pause(failures, error.retry_after_seconds)
                    log.warning("outlet.not_taken", receiver=receiver.name, error=str(error), tries=failures,
                                again_seconds=round(pause, 1))
                except (OpsmendError, *REFUSED) as error:
                    failures += 1
                    self._on_result(receiver.kind, "retried")
                    pause = self._pause(failures, 0.0)
                    log.warning("outlet.failed", receiver=receiver.name, error=str(error), again_seconds=round(pause, 1))
                except Exception as error:
                    # A bug that one event triggers must not silence a receiver for good without anybody noticing.
                    failures += 1
                    self._on_result(receiver.kind, "bug")
                    pause = self._pause(failures, 0.0)
                    log.error("outlet.bug", receiver=receiver.name, error=repr(error), exc_info=True)
                else:
                    pause = 0.0 if moved > seq else _LOOK_SECONDS
                    seq, failures = moved, 0
                self._stop.wait(pause)
        finally:
            receiver.close()

    def _pause(self, failures: int, asked_seconds: float) -> float:
        grown = min(self._longest, self._first * 2.0 ** min(failures - 1, 30))
        return max(min(asked_seconds, self._longest), grown * random.uniform(0.8, 1.2))

    def _turn(self, receiver: Receiver, seq: int, failures: int) -> int:
        """One batch; the number of the last event that is done with."""
        events = events_since(self._engine, seq, _READ_EVENTS)
        batch: list[Event] = []
        reached = seq
        for event in events:
            if receiver.wants(event.type):
                if len(batch) == receiver.batch_size:
                    break
                batch.append(event)
            reached = event.seq
        if batch:
            try:
                receiver.deliver(batch)
                for _ in batch:
                    self._on_result(receiver.kind, "sent")
            except DeliveryError as error:
                if not (error.is_content and failures + 1 >= _CONTENT_TRIES):
                    raise
                log.error("outlet.refused", receiver=receiver.name, seq=batch[0].seq, error=str(error))
                self._on_result(receiver.kind, "refused")
        if reached > seq:
            set_cursor(self._engine, receiver.name, reached)
        return reached
