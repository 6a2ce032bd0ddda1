"""The door for telemetry over HTTP: durable in the transport before the sender hears yes, closed when it is full."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from ingest.errors import Backpressure, OpsmendError, TransportError
from ingest.transport import Producer
from opsmend.api.port import AcceptKind
from opsmend.config_sections import TopicSection
from opsmend.retries import HEADER, digest_of, is_marked

_NAMES: dict[AcceptKind, str] = {"logs": "logs", "metrics": "metrics", "traces": "traces", "alerts": "alerts",
                                 "changes": "changes", "prometheus": "metrics"}
_COUNTED_ONCE: Final = frozenset[AcceptKind]({"logs", "metrics", "traces", "prometheus"})
"""Kinds of which a repeat is a retry. Others are known again by the sender's own mark alone.

An equal alert may be Alertmanager's reminder that it still fires, and told twice it is one alert, by its fingerprint.
An equal change may be the release that was rolled back and is rolled out again: left out, it would hide the culprit;
taken twice, it names the same release a second time."""
_LOOK_SECONDS = 1.0


@dataclass(eq=False)
class _Waiting:
    """One request on its way to the transport. `problem` is set before `is_done`."""

    topic: str
    body: bytes
    headers: list[tuple[str, bytes]]
    key: bytes | None
    is_done: bool = False
    problem: TransportError | None = None


class Intake:
    """Thread-safe. `waiting` gives how many records are not read yet; it is asked at most once a second.

    Requests that come at the same time share a flush: the one that holds the lock takes all that wait with it.
    A flush that fails is told to every sender in it, and they send again; whether the bytes got through nonetheless
    does not matter, because a repeat is recognised (`opsmend.retries`). Until a flush succeeds nothing more is taken, so
    that a transport that is away does not fill the memory.

    Raises Backpressure when more than `max_waiting` wait, or when the transport is busy for `patience_seconds`;
    TransportError when it refuses.
    """

    def __init__(self, producer: Producer, topics: Sequence[TopicSection], waiting: Callable[[], int], *,
                 max_waiting: int, patience_seconds: float = 5.0) -> None:
        self._producer, self._waiting = producer, waiting
        self._topics = {kind: topic_for(kind, topics) for kind in _NAMES}
        self._max_waiting, self._patience = max_waiting, patience_seconds
        self._lock = threading.Lock()
        self._queue: deque[_Waiting] = deque()
        self._is_unsettled = False
        self._looked, self._seen = -_LOOK_SECONDS, 0

    def put(self, kind: AcceptKind, body: bytes, headers: Mapping[str, str]) -> int:
        """Records taken: durable on return. What can't be decoded becomes a dead letter later."""
        topic = self._topics[kind]
        if not topic:
            raise OpsmendError(f"no topic of [ingest] topics takes {kind}: name one '{_NAMES[kind]}'"
                               + (' or give one kind = "changes"' if kind == "changes" else ""), reason="no_topic")
        if not body:
            return 0  # OTLP sends empty requests; there is nothing to keep
        kept = [(name, value.encode()) for name, value in headers.items()]
        is_known_again = kind in _COUNTED_ONCE or is_marked(headers)
        digest = digest_of(kind, body, headers) if is_known_again else None
        if digest is not None:
            kept.append((HEADER, digest))
        mine = _Waiting(topic, body, kept, digest)
        self._queue.append(mine)
        if not self._lock.acquire(timeout=self._patience):
            # Another may have taken it along already: then it can be stored although we say no, and the repeat is known.
            self._withdraw(mine)
            raise Backpressure("the transport takes no more at the moment", retry_after_seconds=self._patience)
        try:
            if not mine.is_done:
                self._send_all(mine)
        finally:
            self._lock.release()
        if mine.problem is not None:
            raise mine.problem
        return 1

    def _withdraw(self, mine: _Waiting) -> None:
        try:
            self._queue.remove(mine)
        except ValueError:
            return  # taken along at this very moment

    def _send_all(self, mine: _Waiting) -> None:
        """With the lock. What this raises concerns `mine` alone; the others are told by their `problem`."""
        try:
            self._refuse_when_full()
            if self._is_unsettled:
                self._producer.flush()
                self._is_unsettled = False
        except (TransportError, OSError) as error:
            self._withdraw(mine)
            raise _try_again(error) from error
        except Backpressure:
            self._withdraw(mine)
            raise
        batch = []
        while self._queue:
            batch.append(self._queue.popleft())
        self._is_unsettled = True
        outcome: TransportError | None = TransportError("the transport failed unforeseen")  # unless we learn better
        try:
            for one in batch:
                self._send(one)
            self._producer.flush()
            self._is_unsettled, outcome = False, None
        except (TransportError, OSError) as error:
            outcome = _try_again(error)
        finally:
            for one in batch:
                one.problem, one.is_done = one.problem or outcome, True

    def _send(self, one: _Waiting) -> None:
        try:
            self._producer.send(one.topic, one.body, key=one.key, headers=one.headers)
        except (TransportError, OSError) as error:
            # Too large for the broker, say; the others are not to blame.
            if isinstance(error, TransportError) and error.reason == "too_large":
                one.problem = error
            else:
                one.problem = _try_again(error)

    def _refuse_when_full(self) -> None:
        now = time.monotonic()
        if now - self._looked >= _LOOK_SECONDS:
            self._looked, self._seen = now, self._waiting()
        if self._seen > self._max_waiting:
            raise Backpressure(f"{self._seen} records wait to be read", retry_after_seconds=2.0)


def _try_again(error: Exception) -> TransportError:
    """Whatever keeps the transport from taking it (a right that is missing, a full disk) can be mended, and the sender
    shall come back then: senders take other reasons for a final no."""
    return TransportError(str(error), reason="transport")


def topic_for(kind: AcceptKind, topics: Sequence[TopicSection]) -> str:
    """The topic that is read for this kind: by its name, else any that is not for changes; "" if there is none."""
    if kind == "changes":
        return next((t.name for t in topics if t.name and t.kind == "changes"), "")
    plain = [t.name for t in topics if t.name and t.kind == "" and t.format == "auto"]
    return _NAMES[kind] if _NAMES[kind] in plain else next(iter(plain), "")
