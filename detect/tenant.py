"""Detection of one tenant from its shards: their judged buckets come together here, and converge into incidents."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import msgspec
import numpy as np

from detect.config import DetectionConfig
from detect.convergence.converge import Convergence
from detect.convergence.ground import RestsOn
from detect.corrections import Corrections
from detect.detectors.registry import DETECTORS
from detect.types import DetectResult, Incident, Observations, Signal
from ingest.types import SeriesKey

_ORDER: Final = {name: at for at, name in enumerate(DETECTORS)}
_MAX_TEXTS: Final = 20_000


class ShardBucket(msgspec.Struct, frozen=True):
    """What one shard says about one closed bucket; stands for itself, so that no table has to be remembered."""

    number: int
    series: tuple[SeriesKey, ...]
    values: tuple[float, ...]  # as long as `series`
    signals: tuple[Signal, ...]
    templates: dict[str, str] = {}  # of the signals' templates: id -> text
    forecast: bytes = b""  # float32 [series, 3], see Observations.forecast; empty: none was made


class ShardNews(msgspec.Struct, frozen=True):
    """What one shard has closed since it last spoke. `sequence` counts from 1, so that a repetition is known."""

    shard: int
    sequence: int
    closed_until: int  # number of the first bucket that is still open there
    buckets: tuple[ShardBucket, ...] = ()
    late: int = 0
    lines: int = 0  # log lines that this shard has taken in since it began
    entries: dict[str, int] = {}
    evictions: dict[str, int] = {}


class _Shard(msgspec.Struct):
    sequence: int = 0
    closed_until: int = 0
    lines: int = 0
    entries: dict[str, int] = {}
    evictions: dict[str, int] = {}


class _State(msgspec.Struct):
    shards: dict[int, _Shard]
    waiting: dict[int, dict[int, ShardBucket]]
    closed_until: int
    repeated: int
    missed: int
    convergence: object


class TenantDetection(Corrections):
    """`step(news, calls)`: a bucket converges once all shards have closed it. Deterministic.

    The order in which shards speak does not matter: a bucket's signals are sorted before they converge. News that
    came before (`sequence`) is left out and counted in `repeated`; a hole in the sequence counts in `missed`.
    """

    def __init__(self, config: DetectionConfig, shards: int) -> None:
        self._bucket_ns = int(config.bucket_seconds * 1e9)
        self._convergence = Convergence(config.convergence, config.tenant)
        self._shards = {shard: _Shard() for shard in range(shards)}
        self._waiting: dict[int, dict[int, ShardBucket]] = {}
        self._closed_until = 0
        self._texts: OrderedDict[str, str] = OrderedDict()
        self.repeated = 0
        self.missed = 0

    def step(self, news: Sequence[ShardNews], calls: frozenset[tuple[str, str]],
             rests_on: RestsOn = frozenset()) -> DetectResult:
        """Take in what shards said, and converge the buckets that are complete now."""
        late = sum(self._take(one) for one in news)
        until = min((s.closed_until for s in self._shards.values()), default=0)
        return self._converge(until, calls, rests_on, late)

    @property
    def closed_until(self) -> int:
        """Number of the first bucket that some shard has not closed."""
        return self._closed_until

    def flush(self, calls: frozenset[tuple[str, str]], rests_on: RestsOn = frozenset()) -> DetectResult:
        """Converge what is waiting, whether or not all shards have closed it."""
        return self._converge(max(self._waiting, default=-1) + 1, calls, rests_on, 0)

    def _take(self, news: ShardNews) -> int:
        """Gives the rows that came too late."""
        shard = self._shards.setdefault(news.shard, _Shard())
        if news.sequence <= shard.sequence:
            self.repeated += 1
            return 0
        self.missed += news.sequence - shard.sequence - 1
        self._shards[news.shard] = _Shard(news.sequence, max(shard.closed_until, news.closed_until), news.lines,
                                          news.entries, news.evictions)
        for bucket in news.buckets:
            if bucket.number >= self._closed_until:
                self._waiting.setdefault(bucket.number, {})[news.shard] = bucket
            self._texts.update(bucket.templates)
        while len(self._texts) > _MAX_TEXTS:
            self._texts.popitem(last=False)
        return news.late

    def _converge(self, until: int, calls: frozenset[tuple[str, str]], rests_on: RestsOn, late: int) -> DetectResult:
        signals: dict[str, Signal] = {}
        incidents: dict[str, Incident] = {}
        rows: list[tuple[int, list[ShardBucket]]] = []
        for number in sorted(n for n in self._waiting if n < until):
            parts = [part for _, part in sorted(self._waiting.pop(number).items())]
            fresh = sorted((s for part in parts for s in part.signals), key=_rank)
            signals.update((s.id, s) for s in fresh)
            at_ns = number * self._bucket_ns
            incidents.update((i.id, i) for i in self._convergence.step(at_ns, fresh, calls, rests_on))
            rows.append((at_ns, parts))
        self._closed_until = max(self._closed_until, until)
        return DetectResult(tuple(signals.values()), tuple(incidents.values()), _observations(rows),
                            self._closed_until * self._bucket_ns, late)

    def template_text(self, template_id: str) -> str:
        """The template as its shard last told it; "" if it never did, or before the last start."""
        return self._texts.get(template_id, "")

    def lines(self) -> dict[int, int]:
        """Log lines that each shard has taken in."""
        return {at: shard.lines for at, shard in sorted(self._shards.items())}

    def state_entries(self) -> dict[str, int]:
        """Entries of bounded state, by kind, over all shards."""
        return {**_sum(s.entries for s in self._shards.values()), "incidents": len(self._convergence),
                "buckets_waiting": len(self._waiting)}

    def evictions(self) -> dict[str, int]:
        return _sum(s.evictions for s in self._shards.values())

    def snapshot(self) -> bytes:
        """All state but the texts of templates, as msgpack."""
        return msgspec.msgpack.encode(_State(self._shards, self._waiting, self._closed_until, self.repeated,
                                             self.missed, self._convergence.dump()))

    def restore(self, data: bytes) -> None:
        """Go on from `snapshot`."""
        state = msgspec.msgpack.decode(data, type=_State)
        self._shards |= state.shards
        self._waiting, self._closed_until = state.waiting, state.closed_until
        self.repeated, self.missed = state.repeated, state.missed
        self._convergence.load(state.convergence)  # type: ignore[arg-type]


def _rank(signal: Signal) -> tuple[int, str, str]:
    """As a single process finds them: by detector, and within one by key."""
    return _ORDER.get(signal.detector, len(_ORDER)), signal.key, signal.id


def _observations(rows: Sequence[tuple[int, Sequence[ShardBucket]]]) -> Observations:
    columns: dict[SeriesKey, int] = {}
    for _, parts in rows:
        for part in parts:
            for key in part.series:
                columns.setdefault(key, len(columns))
    table = np.full((len(rows), len(columns)), np.nan)
    told = np.full((len(rows), len(columns), 3), np.nan, np.float32)
    for i, (_, parts) in enumerate(rows):
        for part in parts:
            at = [columns[key] for key in part.series]
            table[i, at] = part.values
            if part.forecast:
                told[i, at] = np.frombuffer(part.forecast, "<f4").reshape(-1, 3)
    return Observations(np.array([ts for ts, _ in rows], dtype=np.int64), tuple(columns), table, told)


def _sum(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    total: dict[str, int] = {}
    for one in counts:
        for name, count in one.items():
            total[name] = total.get(name, 0) + count
    return total
