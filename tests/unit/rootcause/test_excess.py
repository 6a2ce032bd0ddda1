"""Who has most of what went wrong, what is news, and what the callees do not explain."""

from __future__ import annotations

import numpy as np

from rootcause.contrast import call_share, call_surprise, excess, steady_residuals
from rootcause.rankers.fused import with_the_silent
from rootcause.robust import beyond_chance, edge_changes, node_changes
from rootcause.types import CaseWindow

ROWS, BASE = 70, 60


def window(node: dict[str, np.ndarray], edges: list[tuple[int, int]], edge: dict[str, np.ndarray] | None = None) -> CaseWindow:
    rows, n = next(iter(node.values())).shape
    return CaseWindow(np.arange(rows, dtype=np.int64) * 10**9, tuple(f"s{i}" for i in range(n)), node,
                      np.array(edges, dtype=np.int32).reshape(-1, 2), edge or {}, BASE)


def steady(levels: list[float]) -> np.ndarray:
    return np.array(levels) * (1 + 0.03 * np.random.default_rng(0).normal(size=(ROWS, len(levels))))


def of(case: CaseWindow, name: str) -> tuple[np.ndarray, np.ndarray]:
    nodes, calls = node_changes(case), edge_changes(case)
    return excess(case, name, nodes, calls, call_share(case, nodes, calls))


def test_a_busy_service_with_few_failures_outweighs_a_seldom_called_one_with_many() -> None:
    """s1 fails in 3 % of 1,000 requests; s2, a second name of it, in 20 % of 50; s0 inherits both."""
    errors, traffic = np.zeros((ROWS, 3)), steady([600.0, 1000.0, 50.0])
    errors[BASE:] = [0.05, 0.03, 0.2]
    mass, rest = of(window({"errors": errors, "traffic": traffic}, [(0, 1), (0, 2)]), "errors")
    assert mass[1] > mass[2]
    assert np.argmax(rest) == 1
    assert rest[0] < 0.1 < rest[2] < 0.7


def test_measured_calls_count_instead_of_what_the_callee_says() -> None:
    """The callee says nothing; its caller's calls to it take all the time that the caller has lost."""
    latency, traffic = steady([0.1, 0.02]), steady([100.0, 100.0])
    latency[BASE:, 0] += 0.5
    calls = {"latency": steady([0.02]), "traffic": steady([100.0])}
    calls["latency"][BASE:] += 0.5
    _, rest = of(window({"latency": latency, "traffic": traffic}, [(0, 1)], calls), "latency")
    assert abs(rest[0]) < 0.2


def test_without_a_change_nobody_has_an_excess() -> None:
    errors = np.zeros((ROWS, 2))
    mass, rest = of(window({"errors": errors, "traffic": steady([10.0, 10.0])}, [(0, 1)]), "errors")
    assert not mass.any()
    assert not rest.any()


def test_what_a_callee_explains_is_no_residual_and_better_is_none() -> None:
    rng = np.random.default_rng(1)
    callee = 0.1 * np.exp(rng.normal(0, 0.3, ROWS))
    latency = np.stack([0.2 + callee, callee, 0.05 * np.exp(rng.normal(0, 0.1, ROWS))], axis=1)
    latency[BASE:, :2] += 0.5
    latency[BASE:, 2] *= 0.1
    rest = steady_residuals(window({"latency": latency}, [(0, 1), (0, 2)]))
    assert rest[1] > 2 * rest[0]
    assert rest[2] == 0.0


def test_novel_is_what_has_never_lasted_as_long() -> None:
    usual = steady([1.0, 1.0])
    usual[::12, 1] = 3.0
    usual[20:33, 1] = usual[40:53, 1] = 3.0  # s1 has been there twice
    usual[BASE:] = 3.0
    change = node_changes(window({"cpu": usual}, []))["cpu"]
    assert change.novel[0] > 2.5 * change.novel[1] > 0


def test_half_of_what_all_rows_share_is_taken_away() -> None:
    lasting, new = steady([1.0]), steady([1.0])
    lasting[BASE:] = 2.0
    new[BASE + 3:] = 2.0
    both = [node_changes(window({"cpu": table}, []))["cpu"] for table in (lasting, new)]
    assert 0.4 < both[0].z[0] / both[1].z[0] < 0.6
    assert both[0].peak[0] > 1.5 * both[0].z[0]


def lack(case: CaseWindow) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    nodes = node_changes(case)
    return call_surprise(case, nodes, call_share(case, nodes, edge_changes(case)))


def test_who_returns_early_makes_fewer_calls_than_its_requests_usually_do() -> None:
    """s1 is asked as often as ever and calls s2 (seldom) and s3 no more; s0 gets 30 % more requests, which is no lack."""
    rng = np.random.default_rng(2)
    rate = np.tile([100.0, 3.0, 1.0, 3.0], (ROWS, 1))
    rate[BASE:, 0] *= 1.3
    rate[BASE:, 2:] = 0.1
    each, into, out_of = lack(window({"traffic": rng.poisson(rate).astype(float)}, [(0, 1), (1, 2), (1, 3)]))
    assert int(np.argmin(out_of)) == 1
    assert out_of[1] < -4 < out_of[0]
    assert into[3] < into[2] < -2
    assert np.argmin(each) == 2


def test_measured_calls_tell_whose_calls_are_missing() -> None:
    rng = np.random.default_rng(3)
    rate, calls = np.tile([50.0, 50.0, 40.0], (ROWS, 1)), np.tile([20.0, 20.0], (ROWS, 1))
    rate[BASE:, 2], calls[BASE:, 1] = 22.0, 2.0
    _, _, out_of = lack(window({"traffic": rng.poisson(rate).astype(float)}, [(0, 2), (1, 2)],
                               {"traffic": rng.poisson(calls).astype(float)}))
    assert out_of[1] < -8
    assert out_of[0] > -3


def test_less_load_is_no_lack_and_neither_is_nothing_counted() -> None:
    rng = np.random.default_rng(4)
    rate = np.tile([100.0, 80.0], (ROWS, 1))
    rate[BASE:] *= 0.4
    case = window({"traffic": rng.poisson(rate).astype(float)}, [(0, 1)])
    assert abs(lack(case)[2][0]) < 3
    assert not any(part.any() for part in lack(window({"errors": np.zeros((ROWS, 2))}, [(0, 1)])))


def test_a_few_wild_rows_do_not_hide_how_calm_the_others_are() -> None:
    squares, known = np.ones((100, 2)), np.ones((100, 2), bool)
    squares[:2, 0] = 1e4
    squares[:, 1] = 9.0
    known[50:, 1] = False
    assert np.allclose(beyond_chance(squares, known), [1.0, 9.0])


def test_who_has_no_errors_and_no_latency_may_be_what_its_callers_cannot_explain() -> None:
    """s0 calls the database s1, which tells nothing of itself, and s2, which is well."""
    latency = np.full((ROWS, 3), np.nan)
    latency[:, [0, 2]] = 0.1
    got = with_the_silent(window({"latency": latency}, [(0, 1), (0, 2)]), np.array([9.0, 0.5, 1.0]))
    assert got.tolist() == [9.0, 9.0, 1.0]
