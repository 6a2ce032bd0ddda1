"""How long services work themselves: what of their spans no child covers, in whatever order and batches these come."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest

from ingest.decode import Decoder
from ingest.types import Record, TraceBatch
from rootcause.span_join import _STRETCHES, SpanJoin

T0 = 1_790_000_000 * 10**9
SPANS = (("web", 2, "a", "", 0, 100), ("web", 1, "b", "a", 10, 50), ("web", 3, "c", "b", 20, 30), ("cart", 2, "d", "c", 25, 20),
         ("web", 3, "e", "a", 60, 20), ("web", 3, "f", "a", 70, 40))
"""Service, kind, id, parent, start and length in ms. Of the 100 ms of a, b covers 10 to 60, e and f 60 to 80 and 70 to 100 (it
goes on longer than its parent); of the 50 ms of b, c covers 30."""


def batch(rows: tuple[tuple[str, int, str, str, int, int], ...]) -> TraceBatch:
    body = "\n".join(json.dumps({"type": "span", "ts": T0 + start * 10**6, "service": service, "trace_id": "t", "kind": kind,
                                 "span_id": name, "parent_id": parent, "duration_us": 1000 * lasts})
                     for service, kind, name, parent, start, lasts in rows).encode()
    return Decoder().decode([Record("telemetry", 0, 0, T0 // 10**6, body)]).traces


def own(*batches: tuple[tuple[str, int, str, str, int, int], ...]) -> dict[str, tuple[int, int]]:
    """Service -> milliseconds, requests."""
    join, out = SpanJoin(1000), dict[str, tuple[int, int]]()
    for rows in batches:
        for service, (_, micros, requests) in join.step(batch(rows)).own.items():
            before = out.get(service, (0, 0))
            out[service] = before[0] + micros // 1000, before[1] + requests
    return out


EXPECTED = {"web": (10 + 20, 1), "cart": (20, 1)}


@pytest.mark.parametrize("order", list(itertools.permutations(range(6)))[::37])
def test_in_any_order(order: tuple[int, ...]) -> None:
    shuffled = tuple(SPANS[n] for n in order)
    assert own(shuffled) == EXPECTED
    assert own(*((span,) for span in shuffled)) == EXPECTED, "one by one"


def test_a_wait_for_a_callee_that_never_answers_is_no_work() -> None:
    assert own((("web", 2, "a", "", 0, 1000), ("web", 3, "b", "a", 1, 998))) == {"web": (2, 1)}


def test_a_callee_of_a_caller_without_client_spans_counts_as_its_wait() -> None:
    assert own((("web", 2, "a", "", 0, 100), ("cart", 2, "b", "a", 10, 80))) == {"web": (20, 1), "cart": (80, 1)}


def test_many_children_one_after_the_other_stay_bounded_and_never_make_it_negative() -> None:
    rng = np.random.default_rng(0)
    children = tuple(("web", 3, f"c{n}", "a", int(start), 3) for n, start in enumerate(rng.integers(0, 997, 300)))
    total = own((("web", 2, "a", "", 0, 1000),), *((child,) for child in children))["web"]
    assert 0 <= total[0] <= 1000 - 3 * 100 and total[1] == 1


@pytest.mark.parametrize("step", [1, -1, 7])
def test_what_children_cover_is_kept_in_few_stretches_in_whatever_order_they_come(step: int) -> None:
    join, starts = SpanJoin(10_000), [2 * n for n in range(300)]
    rows = tuple(("web", 3, f"c{start}", "a", start, 1) for start in starts[::step])
    took = join.step(batch((("web", 2, "a", "", 0, 1000), *rows))).own["web"][1]
    assert took == 1000 * (1000 - len(rows))
    assert [len(stretches) for stretches in join._covered.values()] == [min(_STRETCHES, len(rows))]
