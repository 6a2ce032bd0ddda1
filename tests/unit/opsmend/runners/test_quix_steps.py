"""The parts of the distributed engine that need no broker: sharding, envelopes, clocks, a shard's state."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("quixstreams", reason="NOT TESTED: the extra `scale` is not installed")

from detect.config import DetectionConfig
from ingest.decode import Decoder
from ingest.types import Batch, Record, Texts
from opsmend.runners.quix_clock import PackerClock, ShardClock
from opsmend.runners.quix_envelope import (
    VERSION,
    Envelope,
    EnvelopeError,
    encode,
    open_envelope,
    open_told,
    rows_of,
)
from opsmend.runners.quix_shard import Shard
from opsmend.runners.quix_sharding import Sharding, gather
from opsmend.runners.quix_state import LiveShards

START = 1_790_000_000
SECOND = 10**9


def batch(seconds: range, services: int = 7) -> Batch:
    rows = []
    for n in seconds:
        for s in range(services):
            rows.append(b'{"type":"log","ts":%d,"service":"s%d","level":"warn","message":"zwei gr\xc3\xbc\xc3\x9fe %d"}' % (
                START + n, s, n))
            rows.append(b'{"type":"metric","ts":%d,"service":"s%d","name":"process.up","value":%d}' % (START + n, s, n))
            rows.append(b'{"type":"span","ts":%d,"service":"s%d","peer":"s%d","kind":3,"duration_us":5000}' % (
                START + n, s, (s + 1) % services))
    return Decoder().decode([Record("t", 0, 0, START * 1000, b"\n".join(rows))])


def split(sharding: Sharding, rows: Batch) -> list[tuple[int, Envelope]]:
    return sharding.split(rows, START * SECOND, {"t/0": START * SECOND}, (START // 10,))


def lines_of(rows: Batch) -> list[tuple[int, str, int, str]]:
    logs = rows.logs
    return [(ts, logs.vocab[s], level, text) for ts, s, level, text in zip(
        logs.ts_ns.tolist(), logs.service.tolist(), logs.level.tolist(), logs.text, strict=True)]


def points_of(rows: Batch) -> list[tuple[int, str, float]]:
    m = rows.metrics
    return [(ts, m.series_table[s].service, v) for ts, s, v in zip(
        m.ts_ns.tolist(), m.series.tolist(), m.value.tolist(), strict=True)]


@pytest.mark.parametrize(("shards", "rows"), [(1, 1000), (5, 3), (64, 10)])
def test_every_row_goes_to_one_shard_and_stays_in_order(shards: int, rows: int) -> None:
    whole = batch(range(20))
    sharding = Sharding("default", shards, envelope_rows=rows, envelope_bytes=10**6)
    envelopes = [(shard, rows_of(open_envelope(encode(e)))) for shard, e in split(sharding, whole)]
    for read in (lines_of, points_of):
        got = [(shard, row) for shard, part in envelopes for row in read(part)]
        assert all(sharding.shard_of(str(row[1])) == shard for shard, row in got)
        for service in {row[1] for row in read(whole)}:
            assert [row for _, row in got if row[1] == service] == [row for row in read(whole) if row[1] == service]
    assert sum(len(part.traces) for _, part in envelopes) == len(whole.traces)
    assert max(len(part.logs) for _, part in envelopes) <= rows


def test_every_shard_is_told_the_time_once_and_last() -> None:
    sharding = Sharding("default", 9, envelope_rows=2, envelope_bytes=10**6)
    told: dict[int, list[dict[str, int]]] = {}
    for shard, envelope in split(sharding, batch(range(5))):
        told.setdefault(shard, []).append(envelope.sources)
    assert set(told) == set(range(9))
    for sources in told.values():
        assert sources[-1] == {"t/0": START * SECOND}
        assert not any(sources[:-1])


def test_a_line_larger_than_an_envelope_comes_alone() -> None:
    rows = [b'{"type":"log","ts":%d,"service":"a","message":"%s"}' % (START, b"x" * size) for size in (10, 5000, 10, 10)]
    whole = Decoder().decode([Record("t", 0, 0, 0, b"\n".join(rows))])
    sharding = Sharding("default", 1, envelope_rows=100, envelope_bytes=100)
    sizes = [[len(t) for t in rows_of(e).logs.text] for _, e in split(sharding, whole)]
    assert sizes == [[10], [5000], [10, 10]]


def test_the_shard_of_a_service_is_for_good() -> None:
    sharding = Sharding("default", 16, envelope_rows=1, envelope_bytes=1)
    assert [sharding.shard_of(s) for s in ("checkout", "payments", "")] == [10, 12, 9]


def test_gather_takes_texts_of_any_script() -> None:
    texts = Texts.of(["", "a", "grüße", "日本", "z"])
    buffer, ends = gather(texts, np.array([3, 0, 2], np.int64))
    assert list(Texts(buffer, ends)) == ["日本", "", "grüße"]


@pytest.mark.parametrize("data", [b"", b"\xc1", b"{}", encode([VERSION]), encode(Envelope(VERSION + 1, 0, {}))])
def test_what_is_no_envelope_of_ours_is_refused(data: bytes) -> None:
    with pytest.raises(EnvelopeError):
        open_envelope(data)
    with pytest.raises(EnvelopeError):
        open_told(data)


def test_a_shard_waits_for_the_slowest_source_that_still_brings_something() -> None:
    clock = ShardClock(idle_seconds=60)
    assert clock.until_ns == 0
    clock.hear(100 * SECOND, {"t/0": 100 * SECOND})
    clock.hear(90 * SECOND, {"t/1": 90 * SECOND})
    assert (clock.newest_ns, clock.until_ns) == (100 * SECOND, 90 * SECOND)
    clock.hear(120 * SECOND, {"t/0": 120 * SECOND, "t/1": 0})  # nothing waits in t/1
    assert clock.until_ns == 120 * SECOND
    clock.hear(110 * SECOND, {"t/1": 110 * SECOND})  # it brings something again
    assert clock.until_ns == 110 * SECOND
    clock.hear(200 * SECOND, {"t/0": 200 * SECOND})  # too far behind to be waited for
    assert clock.until_ns == 200 * SECOND
    clock.hear(200 * SECOND, {"t/0": 0, "t/1": 0})
    assert clock.until_ns == 200 * SECOND


def test_a_packer_tells_once_that_it_has_nothing() -> None:
    clock = PackerClock(10 * SECOND)
    assigned = [("t", 0), ("t", 1)]
    assert not any(clock.has_gone_idle(assigned) for _ in range(10)), "the time is not known yet"
    clock.take(batch(range(30)))
    assert clock.sources(assigned, is_idle=False) == {"t/0": (START + 29) * SECOND, "t/1": (START + 29) * SECOND}
    assert [clock.has_gone_idle(assigned) for _ in range(8)].count(True) == 1
    assert clock.sources(assigned, is_idle=True) == {"t/0": 0, "t/1": 0}
    clock.take(batch(range(30, 31)))
    assert [clock.has_gone_idle(assigned) for _ in range(8)].count(True) == 1


def feed(shard: Shard, seconds: range) -> list[Any]:
    sharding = Sharding("default", 1, envelope_rows=1000, envelope_bytes=10**6)
    news = []
    for n in seconds:
        at = (START + n) * SECOND
        for _, envelope in sharding.split(batch(range(n, n + 1)), at, {"t/0": at}, (START + n,)):
            news.append(shard.step(open_envelope(encode(envelope))))
    return [n for n in news if n is not None]


def new_shard(number: int = 0) -> Shard:
    return Shard(number, DetectionConfig(bucket_seconds=1.0, allowed_lateness_seconds=2.0), idle_seconds=60)


def test_a_restored_shard_goes_on_as_if_nothing_had_been() -> None:
    whole, first = new_shard(), new_shard()
    expected = feed(whole, range(60))
    got = feed(first, range(31))
    second = new_shard()
    second.restore(first.snapshot())
    got += feed(second, range(31, 60))
    assert got == expected
    assert [n.sequence for n in got] == list(range(1, len(got) + 1))
    assert whole.lines == second.lines == 60 * 7


class Transaction:
    """A store as the engine gives it out: what is set is there at the next commit, and gone with the transaction."""

    def __init__(self, committed: dict[str, Any]) -> None:
        self._committed, self.values, self._transaction = committed, dict(committed), object()

    def get(self, key: str, default: Any = None) -> Any:
        return self.values.get(key, default)

    def set(self, key: str, value: Any) -> None:
        self.values[key] = value

    get_bytes, set_bytes = get, set

    def delete(self, key: str) -> None:
        self.values.pop(key, None)

    def commit(self) -> None:
        self._committed.clear()
        self._committed.update(self.values)


def test_a_shard_is_read_again_only_where_somebody_else_went_on() -> None:
    committed: dict[str, Any] = {}
    mine, other = LiveShards(new_shard), LiveShards(new_shard)

    def work(live: LiveShards, seconds: range, *, is_committed: bool = True) -> Shard:
        transaction = Transaction(committed)
        shard = live.shard(0, transaction)
        feed(shard, seconds)
        assert live.shard(0, transaction) is shard
        if is_committed:
            live.flush()
            transaction.commit()
        return shard

    first = work(mine, range(5))
    assert work(mine, range(5, 10)) is first
    taken = work(other, range(10, 15))
    assert taken is not first
    assert taken.lines == 15 * 7
    assert work(mine, range(15, 20)).lines == 20 * 7
    work(mine, range(20, 25), is_committed=False)  # lost: what it did is not to be seen
    assert work(mine, range(20, 22)).lines == 22 * 7
