"""The door for telemetry over HTTP: durable in the transport before the sender hears yes, closed when it is full."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence

from ingest.errors import Backpressure, OpsmendError
from ingest.transport import Producer
from opsmend.api.port import AcceptKind
from opsmend.config_sections import TopicSection

_NAMES: dict[AcceptKind, str] = {"logs": "logs", "metrics": "metrics", "traces": "traces", "alerts": "alerts",
                                 "changes": "changes", "prometheus": "metrics"}
_LOOK_SECONDS = 1.0


class Intake:
    """Thread-safe. `waiting` gives how many records are not read yet; it is asked at most once a second.

    Raises Backpressure when more than `max_waiting` wait, or when the transport is busy for `patience_seconds`.
    """

    def __init__(self, producer: Producer, topics: Sequence[TopicSection], waiting: Callable[[], int], *,
                 max_waiting: int, patience_seconds: float = 5.0) -> None:
        self._producer, self._waiting = producer, waiting
        self._topics = {kind: topic_for(kind, topics) for kind in _NAMES}
        self._max_waiting, self._patience = max_waiting, patience_seconds
        self._lock = threading.Lock()
        self._looked, self._seen = -_LOOK_SECONDS, 0

    def put(self, kind: AcceptKind, body: bytes, headers: Mapping[str, str]) -> int:
        """Records taken: durable on return. What can't be decoded becomes a dead letter later."""
        topic = self._topics[kind]
        if not topic:
            raise OpsmendError(f"no topic of [ingest] topics takes {kind}: name one '{_NAMES[kind]}'"
                               + (' or give one kind = "changes"' if kind == "changes" else ""), reason="no_topic")
        if not body:
            return 0  # OTLP sends empty requests; there is nothing to keep
        if not self._lock.acquire(timeout=self._patience):
            raise Backpressure("the transport takes no more at the moment", retry_after_seconds=self._patience)
        try:
            self._refuse_when_full()
            self._producer.send(topic, body, headers=[(name, value.encode()) for name, value in headers.items()])
            self._producer.flush()
        finally:
            self._lock.release()
        return 1

    def _refuse_when_full(self) -> None:
        now = time.monotonic()
        if now - self._looked >= _LOOK_SECONDS:
            self._looked, self._seen = now, self._waiting()
        if self._seen > self._max_waiting:
            raise Backpressure(f"{self._seen} records wait to be read", retry_after_seconds=2.0)


def topic_for(kind: AcceptKind, topics: Sequence[TopicSection]) -> str:
    """The topic that is read for this kind: by its name, else any that is not for changes; "" if there is none."""
    if kind == "changes":
        return next((t.name for t in topics if t.name and t.kind == "changes"), "")
    plain = [t.name for t in topics if t.name and t.kind == "" and t.format == "auto"]
    return _NAMES[kind] if _NAMES[kind] in plain else next(iter(plain), "")
