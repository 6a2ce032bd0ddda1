"""Waits for all calls together, parted among the calls; and what is on the way is not the caller's own."""

from __future__ import annotations

import numpy as np

from rootcause.contrast import call_share, excess, own_minus_callees
from rootcause.robust import edge_changes, node_changes
from rootcause.types import CaseWindow
from rootcause.ways import with_ways_parted

NAMES = ("a", "b", "c", "d", "x", "y")
EDGES = [("a", "x"), ("a", "c"), ("b", "x"), ("b", "d"), ("y", "c")]
BASE, NOW = 40, 5


def case(waits: dict[str, float], slow: dict[str, float] | None = None,
         own: dict[tuple[str, str], float] | None = None) -> CaseWindow:
    """`waits`: times the usual 10 ms on the way, of all calls of a caller; `own`: of one call alone; `slow`: of a service."""
    rng = np.random.default_rng(1)
    n, rows = len(NAMES), BASE + NOW
    traffic = np.full((rows, n), 10.0)
    latency = 0.1 * np.exp(rng.normal(0, 0.05, (rows, n)))
    for name, times in (slow or {}).items():
        latency[BASE:, NAMES.index(name)] *= times
    of_caller = {name: 0.01 * np.exp(rng.normal(0, 0.05, rows)) for name in NAMES}
    way = np.stack([of_caller[a].copy() for a, _ in EDGES], axis=1)
    for k, (a, b) in enumerate(EDGES):
        way[BASE:, k] *= waits.get(a, 1.0)
        way[:, k] += 1e-5 * k if own else 0.0  # each measured by itself
        way[BASE:, k] *= (own or {}).get((a, b), 1.0)
    edges = np.array([(NAMES.index(a), NAMES.index(b)) for a, b in EDGES], dtype=np.int32)
    ts = np.arange(rows, dtype=np.int64) * 60_000_000_000
    return CaseWindow(ts, NAMES, {"traffic": traffic, "latency": latency}, edges, {"network": way}, BASE)


def raised(of: CaseWindow) -> dict[tuple[str, str], float]:
    z = edge_changes(of)["network"].z
    return {edge: round(float(v), 1) for edge, v in zip(EDGES, z.tolist(), strict=True)}


def test_whom_all_that_wait_call_is_far_away() -> None:
    before, after = case({"a": 20.0, "b": 20.0}), with_ways_parted(case({"a": 20.0, "b": 20.0}))
    assert raised(before)["a", "x"] == raised(before)["a", "c"] > 50
    found = raised(after)
    assert found["a", "x"] == raised(before)["a", "x"] and found["b", "x"] == raised(before)["b", "x"]
    assert found["a", "c"] < 0.5 * found["a", "x"] and found["b", "d"] < 0.5 * found["b", "x"]


def test_usual_rows_are_left_alone_and_so_is_who_does_not_wait() -> None:
    before = case({"a": 20.0, "b": 20.0})
    after = with_ways_parted(before)
    assert np.array_equal(after.edge_metrics["network"][:BASE], before.edge_metrics["network"][:BASE])
    k = EDGES.index(("y", "c"))
    assert np.array_equal(after.edge_metrics["network"][:, k], before.edge_metrics["network"][:, k])


def test_one_caller_alone_does_not_tell_its_two_callees_apart_by_guessing() -> None:
    """`x` has another caller that does not wait, and so has `c`: neither is likelier."""
    found = raised(with_ways_parted(case({"a": 20.0})))
    assert found["a", "x"] == found["a", "c"] > 50


def test_measured_calls_stay_as_they_are() -> None:
    measured = case({}, own={("a", "x"): 20.0})
    assert with_ways_parted(measured) is measured


def test_what_is_lost_on_the_way_is_not_the_callers_own() -> None:
    """`a` takes 0.2 s longer; the way to `x` takes as much longer, or does not."""
    rest = {}
    for times in (1.0, 21.0):
        of = case({}, slow={"a": 3.0}, own={("a", "x"): times, ("a", "c"): 1.0})
        nodes, calls = node_changes(of), edge_changes(of)
        share = np.ones_like(call_share(of, nodes, calls))
        own, _ = own_minus_callees(of, "latency", nodes, calls, share)
        _, left = excess(of, "latency", nodes, calls, share)
        rest[times] = (float(own[0]), float(left[0]))
    assert rest[21.0][0] < 0.2 * rest[1.0][0]
    assert rest[21.0][1] < 0.2 * rest[1.0][1]
