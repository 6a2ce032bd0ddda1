"""Features: free of units, right about direction, and unmoved by what is missing."""

from __future__ import annotations

import dataclasses
import warnings

import numpy as np
import pytest

from ingest.types import Change as Deed
from rootcause.contrast import call_share, flow_residual, own_minus_callees, regression_residuals
from rootcause.features import EDGE_FEATURES, NODE_FEATURES, _changes, case_features
from rootcause.rankers.registry import RANKERS
from rootcause.robust import edge_changes, node_changes
from rootcause.simulate import simulate
from rootcause.types import CaseWindow

ROWS, BASE, S = 70, 60, 10**9
UNITS = ("latency", "cpu", "memory", "logs", "saturation", "lock_wait", "cache_full", "disk", "space", "self_time")


def window(node: dict[str, np.ndarray], edges: list[tuple[int, int]], edge: dict[str, np.ndarray] | None = None,
           base: int = BASE) -> CaseWindow:
    n = next(iter(node.values())).shape[1]
    rows = next(iter(node.values())).shape[0]
    return CaseWindow(np.arange(rows, dtype=np.int64) * 10**9, tuple(f"s{i}" for i in range(n)), node,
                      np.array(edges, dtype=np.int32).reshape(-1, 2), edge or {}, base)


def steady(levels: list[float], seed: int = 0) -> np.ndarray:
    return np.array(levels) * (1 + 0.03 * np.random.default_rng(seed).normal(size=(ROWS, len(levels))))


@pytest.mark.parametrize("indicator", UNITS)
@pytest.mark.parametrize("factor", [1000.0, 1e-3])
def test_no_ranker_knows_units(indicator: str, factor: float) -> None:
    # Time on the way is taken away from what the caller measures: of both or of neither the unit changes.
    of_unit = {indicator, "network"} if indicator == "latency" else {indicator}
    for n in range(12):
        case = simulate(np.random.default_rng([3, n])).case
        scaled = dataclasses.replace(
            case,
            node_metrics={k: v * factor if k in of_unit else v for k, v in case.node_metrics.items()},
            edge_metrics={k: v * factor if k in of_unit else v for k, v in case.edge_metrics.items()})
        before, after = case_features(case), case_features(scaled)
        np.testing.assert_allclose(after.node, before.node, rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose(after.edge, before.edge, rtol=1e-3, atol=1e-4)
        a, b = (RANKERS["gnn"]().rank(c).scores for c in (case, scaled))
        np.testing.assert_allclose(a, b, atol=1e-3)


def test_sizes_and_silence_about_gaps() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for node in ({"latency": np.full((ROWS, 3), np.nan)}, {"errors": steady([0.0, 0.0, 0.0])},
                     {"latency": steady([0.1, 0.1, 0.1])}):
            features = case_features(window(node, [(0, 1)]))
            assert features.node.shape == (3, NODE_FEATURES)
            assert features.edge.shape == (1, EDGE_FEATURES)
            assert np.isfinite(features.node).all()
            assert np.isfinite(features.edge).all()


def test_case_without_calls() -> None:
    assert case_features(window({"latency": steady([0.1, 0.2])}, [])).edge.shape == (0, EDGE_FEATURES)


def test_a_falling_up_counts_as_bad() -> None:
    up = np.ones((ROWS, 2))
    up[BASE:, 1] = 0.0
    assert node_changes(window({"up": up}, []))["up"].z[1] > 5


def test_one_request_more_is_no_anomaly_where_others_have_thousands() -> None:
    traffic = steady([5000.0, 0.0])
    traffic[BASE:, 1] = 1.0
    assert abs(node_changes(window({"traffic": traffic}, []))["traffic"].z[1]) < 1


@pytest.mark.parametrize(("per_second", "is_news"), [(20.0, True), (0.5, False)])
def test_two_percent_of_failures_are_news_where_many_requests_never_failed(per_second: float, is_news: bool) -> None:
    errors = np.zeros((ROWS, 1))
    errors[BASE:, 0] = np.linspace(0.015, 0.025, ROWS - BASE)
    case = window({"errors": errors, "traffic": np.full((ROWS, 1), per_second)}, [])
    case = dataclasses.replace(case, ts_ns=case.ts_ns * 60)  # a row a minute: 1,200 requests, or 30
    assert (node_changes(case)["errors"].z[0] > 4) == is_news


def test_columns_that_hardly_ever_report_say_nothing() -> None:
    latency = steady([0.1, 0.1])
    latency[2:BASE, 1] = np.nan
    latency[BASE:, 1] = 9.0
    change = node_changes(window({"latency": latency}, []))["latency"]
    assert not change.has[1]
    assert change.z[1] == 0


def test_a_fault_in_a_part_of_the_window_is_seen() -> None:
    latency = steady([0.1, 0.1])
    latency[BASE + 5:BASE + 9, 0] = 1.0
    assert node_changes(window({"latency": latency}, []))["latency"].z[0] > 20


def test_what_was_so_just_before_is_no_news() -> None:
    latency = np.concatenate([steady([0.1, 0.1], seed) for seed in range(4)])
    base = len(latency) - 10
    latency[base - 15:, 0] = 0.5
    change = node_changes(window({"latency": latency}, [], base=base))["latency"]
    assert change.z[0] > 20
    assert change.recent[0] <= 0  # half of a deviation that all rows share is taken away
    assert change.news[0] == 0


def test_own_slowness_and_inherited_slowness() -> None:
    latency = steady([0.30, 0.10, 0.10])
    latency[BASE:, 1] += 1.0
    latency[BASE:, 0] += 1.0
    case = window({"latency": latency, "traffic": steady([10, 10, 10])}, [(0, 1), (0, 2)])
    nodes = node_changes(case)
    share = call_share(case, nodes, {})
    rest, part = own_minus_callees(case, "latency", nodes, {}, share)
    assert part[1] == pytest.approx(1.0, abs=0.05)
    assert abs(part[0]) < 0.2
    assert rest[1] > 5 * abs(rest[0])


def test_regression_explains_a_caller_by_its_callee() -> None:
    rng = np.random.default_rng(1)
    callee = 0.1 * rng.lognormal(0, 0.3, ROWS)
    callee[BASE:] = 0.35
    other = 0.1 * rng.lognormal(0, 0.3, ROWS)
    latency = np.stack([callee + 0.05 + 0.001 * rng.normal(size=ROWS), callee, other], axis=1)
    residual = regression_residuals(window({"latency": latency}, [(0, 1)]), "latency")
    assert residual[1] > 5
    assert abs(residual[0]) < residual[1] / 3


def test_traffic_that_callers_do_not_explain() -> None:
    traffic = steady([100.0, 100.0, 100.0])
    traffic[BASE:, 0] *= 2
    traffic[BASE:, 1] *= 2
    case = window({"traffic": traffic}, [(0, 1), (0, 2)])
    nodes = node_changes(case)
    residual = flow_residual(case, nodes, call_share(case, nodes, {}))
    assert abs(residual[1]) < 0.1
    assert residual[2] < -0.4  # not log 2: half of a deviation that all rows share is taken away


def test_slow_calls_are_credited_to_a_silent_callee() -> None:
    call = steady([0.05, 0.05])
    call[BASE:, 0] = 1.0
    case = window({"latency": np.full((ROWS, 3), np.nan)}, [(0, 1), (0, 2)], {"latency": call})
    assert edge_changes(case)["latency"].z[0] > 20
    node = case_features(case).node
    differs = np.abs(node[1] - node[2]).max()
    assert differs > 0.5


def test_a_bad_stretch_among_usual_rows_does_not_hide_the_next() -> None:
    cpu = steady([10.0, 10.0])
    cpu[5:17, 0] = 60.0  # a fifth of the usual rows: an incident that is over
    cpu[BASE:, 0] = 60.0
    change = node_changes(window({"cpu": cpu}, [(0, 1)]))["cpu"]
    assert abs(change.z[0]) < 5
    assert change.firm[0] > 20
    assert abs(change.firm[1]) < 3


@pytest.mark.parametrize(("change", "told"), [
    (Deed(58 * S, "s1", "scale", "1", "5", "ana"), (0, 0, 1, 0)), (Deed(58 * S, "s1", "scale", "5", "1", "hpa"), (0, 0, 0, 1)),
    (Deed(58 * S, "s1", "scale"), (0, 0, 0, 1)), (Deed(58 * S, "s1", "rollout", "2", "1", "ana"), (1, 1, 0, 0)),
    (Deed(90 * S, "s1", "scale", "5", "1", "hpa"), (0, 0, 0, 0)),
    (Deed(58 * S, "s1", "scale", "1", "5", "opsmend"), (0, 0, 0, 0))])
def test_instances_taken_away_and_added_are_told_apart_from_roll_outs(change: Deed, told: tuple[int, ...]) -> None:
    """What an autoscaler does later is a reaction, what we do ourselves a repair."""
    case = window({"latency": steady([0.1, 0.1])}, [(0, 1)])
    with_it, without = (_changes(dataclasses.replace(case, changes=changes)) for changes in ((change,), ()))
    assert [bool(column[1]) for column in with_it] == [bool(t) for t in told]
    assert all(not column.any() for column in without)
