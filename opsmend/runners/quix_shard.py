"""One shard: envelopes in, what it has closed out. Pure but for its state; the engine around it is quix_detect.py."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np

from detect.config import DetectionConfig
from detect.shard import Judged, ShardDetection
from detect.tenant import ShardBucket, ShardNews
from opsmend.runners.quix_clock import ShardClock
from opsmend.runners.quix_envelope import Envelope, rows_of


class _State(msgspec.Struct):
    detection: object
    newest_ns: int
    sources: dict[str, int]
    sequence: int
    lines: int
    late: int


class Shard:
    """`step(envelope)`; deterministic. `snapshot` and `restore` carry all its state."""

    def __init__(self, number: int, config: DetectionConfig, *, idle_seconds: float) -> None:
        self.number = number
        self._detection = ShardDetection(config)
        self._clock = ShardClock(idle_seconds)
        self.sequence = 0
        self.lines = 0
        self._late = 0  # as of what was last told

    def step(self, envelope: Envelope) -> ShardNews | None:
        """What this envelope closes; None as long as no bucket closes."""
        batch = rows_of(envelope)
        self.lines += len(batch.logs)
        self._clock.hear(envelope.newest_ns, envelope.sources)
        before = self._detection.buckets.closed_until
        judged = self._detection.follow(batch, self._clock.newest_ns, self._clock.until_ns, envelope.touched)
        return self.tell(judged) if self._detection.buckets.closed_until > before else None

    def tell(self, judged: Sequence[Judged]) -> ShardNews:
        """The next message to the tenant."""
        buckets = self._detection.buckets
        self.sequence += 1
        late, self._late = buckets.late - self._late, buckets.late
        return ShardNews(
            shard=self.number, sequence=self.sequence, closed_until=buckets.closed_until,
            buckets=tuple(self._told(one) for one in judged), late=late, lines=self.lines,
            entries=self._detection.state_entries(), evictions=self._detection.evictions())

    def _told(self, one: Judged) -> ShardBucket:
        there = np.flatnonzero(~np.isnan(one.values)).tolist()
        keys, text = self._detection.table.keys, self._detection.miner.text
        beside = one.unjudged
        nothing = np.full((len(beside), 3), np.nan)
        told = b"" if one.forecast is None else np.concatenate([one.forecast[there], nothing]).astype("<f4").tobytes()
        return ShardBucket(
            one.number, (*(keys[i] for i in there), *beside), (*one.values[there].tolist(), *beside.values()), one.signals,
            {s.template_id: text(s.template_id) for s in one.signals if s.template_id}, told)

    def snapshot(self) -> bytes:
        """All state, as msgpack."""
        return msgspec.msgpack.encode(_State(
            self._detection.dump(), self._clock.newest_ns, self._clock.sources, self.sequence, self.lines, self._late))

    def restore(self, data: bytes) -> None:
        """Go on from `snapshot`."""
        state = msgspec.msgpack.decode(data, type=_State)
        self._detection.load(msgspec.convert(state.detection, dict[str, object]))
        self._clock.hear(state.newest_ns, state.sources)
        self.sequence, self.lines, self._late = state.sequence, state.lines, state.late
