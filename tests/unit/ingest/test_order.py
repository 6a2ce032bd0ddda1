"""Partitions side by side in time."""

from __future__ import annotations

import time

from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.transports.order import TimeOrder, weight
from ingest.types import Record

NOW = 1_800_000_000_000
A, B = ("logs", 0), ("logs", 1)


def records(place: tuple[str, int], *seconds: float, first: int = 0, size: int = 10) -> list[Record]:
    return [Record(*place, first + n, int(NOW + s * 1000), bytes(size)) for n, s in enumerate(seconds)]


def order(*places: tuple[str, int], now_s: float = 3600.0, patience: float = 60.0) -> TimeOrder:
    made = TimeOrder(align_seconds=2, span_seconds=10, patience_seconds=patience, clock=lambda: NOW / 1000 + now_s)
    for place in places:
        made.expect(place)
    return made


def put(waiting: TimeOrder, found: list[Record]) -> None:
    waiting.add((found[0].topic, found[0].partition), found, sum(map(weight, found)))


def stamps(found: list[Record]) -> list[float]:
    return [(r.timestamp_ms - NOW) / 1000 for r in found]


def test_one_partition_waits_for_another_that_has_more_to_bring() -> None:
    waiting = order(A, B)
    put(waiting, records(A, *range(10)))
    assert waiting.take(100, 10**6, [A, B]) == []  # nothing is known of B
    put(waiting, records(B, 0, 1, 2))
    assert sorted(stamps(waiting.take(100, 10**6, [A, B]))) == [0, 0, 1, 1, 2, 2, 3, 4]
    assert waiting.ahead == {A}
    assert waiting.take(100, 10**6, [A, B]) == []
    assert stamps(waiting.take(100, 10**6, [A])) == [5, 6, 7, 8, 9]  # B is at its end
    assert (waiting.rows, waiting.bytes, waiting.ahead) == (0, 0, set())


def test_what_is_live_waits_for_nothing() -> None:
    waiting = order(A, B, now_s=10)
    put(waiting, records(A, 9.9))
    put(waiting, records(B, 9.0))
    assert len(waiting.take(100, 10**6, [A, B])) == 2


def test_a_partition_whose_broker_is_away_is_not_waited_for_for_ever() -> None:
    waiting = order(A, B, patience=0.05)
    put(waiting, records(A, 1))
    assert waiting.take(100, 10**6, [B]) == []
    time.sleep(0.06)
    assert len(waiting.take(100, 10**6, [B])) == 1


def test_one_poll_covers_a_bounded_time_and_gaps_are_jumped() -> None:
    waiting = order(A)
    put(waiting, records(A, 0, 5, 15, 25, 2000))
    assert [stamps(waiting.take(100, 10**6, [A])) for _ in range(3)] == [[0, 5], [15, 25], [2000]]


def test_rows_and_bytes_are_bounded_and_a_large_record_comes_alone() -> None:
    waiting = order(A)
    put(waiting, records(A, 1, 2, 3, 4, size=1000))
    assert len(waiting.take(3, 10**6, [])) == 3
    put(waiting, records(A, 5, first=4, size=10**6))
    assert [len(r.value) for r in waiting.take(100, 5000, [])] == [1000]
    assert [len(r.value) for r in waiting.take(100, 5000, [])] == [10**6]
    assert (waiting.rows, waiting.bytes) == (0, 0)


def test_broken_clocks_hold_nobody_up() -> None:
    """One partition has its clock a day behind, one a day ahead, one has no time at all; all of them are live, which
    is to say that now and then they are at their end."""
    old, future, none = ("old", 0), ("future", 0), ("none", 0)
    waiting = order(A, old, future, none, now_s=100)
    got: set[str] = set()
    for n in range(90):
        put(waiting, records(A, 90 + n * 0.05, first=n))
        put(waiting, records(old, -86400 + n, first=n))
        put(waiting, records(future, 86400 + n, first=n))
        put(waiting, [Record("none", 0, n, -1, b"x")])
        got |= {r.topic for r in waiting.take(1000, 10**6, [A, old, none] if n % 3 else [])}
    assert got == {"logs", "old", "future", "none"}
    assert waiting.rows < 30


def test_what_is_dropped_says_where_it_began() -> None:
    waiting = order(A, B)
    put(waiting, records(A, *range(10), first=40))
    assert waiting.drop(A) == 40
    assert waiting.drop(B) is None
    assert (waiting.rows, waiting.bytes) == (0, 0)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.lists(st.integers(-10, 100_000), min_size=1, max_size=30), min_size=1, max_size=4),
       st.integers(1, 40), st.integers(1, 20_000), st.booleans())
def test_everything_comes_out_once_and_in_order_within_a_partition(
        partitions: list[list[int]], max_rows: int, max_bytes: int, is_sorted: bool) -> None:
    places = [("t", n) for n in range(len(partitions))]
    waiting = order(*places)
    for place, offsets in zip(places, partitions, strict=True):
        put(waiting, records(place, *(s / 1000 for s in (sorted(offsets) if is_sorted else offsets))))
    seen: list[Record] = []
    for _ in range(5000):
        found = waiting.take(max_rows, max_bytes, [])
        assert len(found) <= max_rows
        assert len(found) == 1 or sum(map(weight, found)) <= max_bytes
        seen += found
        if not waiting.rows:
            break
    for place, offsets in zip(places, partitions, strict=True):
        assert [r.offset for r in seen if (r.topic, r.partition) == place] == list(range(len(offsets)))
    assert waiting.bytes == 0
