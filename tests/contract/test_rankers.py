"""One contract over every ranker of the registry, on the simulator's cases and on what is barely a case."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from detect.types import Signal
from ingest.types import Change
from rootcause.rankers.registry import RANKERS
from rootcause.types import CaseWindow, Ranking

SECOND = 10**9
ROWS, BASELINE = 90, 60
INDICATORS = ("errors", "latency", "traffic", "cpu", "memory", "up")

pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")


def case(services: int = 6, seed: int = 1) -> CaseWindow:
    """A chain of services; the last but one fails, and its callers feel it."""
    dice = np.random.default_rng(seed)
    names = tuple(f"s{n}" for n in range(services))
    edges = np.array([(n, n + 1) for n in range(services - 1)], dtype=np.int32).reshape(-1, 2)
    node = {name: np.abs(dice.normal(1.0, 0.05, (ROWS, services))) for name in INDICATORS}
    edge = {name: np.abs(dice.normal(1.0, 0.05, (ROWS, len(edges)))) for name in ("traffic", "errors", "latency")}
    signals = []
    if services > 1:
        cause = services - 2
        for n in range(cause + 1):
            node["errors"][BASELINE:, n] += 5.0 / (1 + cause - n)
            node["latency"][BASELINE:, n] += 3.0 / (1 + cause - n)
            signals.append(Signal(f"i{n}", "t", "service_level", "error_ratio", names[n], (BASELINE + cause - n) * SECOND,
                                  ROWS * SECOND, 0.9, f"k{n}"))
    changes = (Change(BASELINE * SECOND, names[-1], "rollout", "v2", "v1", "ci"),) if services else ()
    return CaseWindow(np.arange(ROWS) * SECOND, names, node, edges, edge, BASELINE, changes, tuple(signals))


def permuted(one: CaseWindow, order: list[int]) -> CaseWindow:
    """The same case with its services in another order."""
    place = {old: new for new, old in enumerate(order)}
    edges = np.array([[place[a], place[b]] for a, b in one.edges.tolist()], dtype=np.int32).reshape(-1, 2)
    return replace(one, services=tuple(one.services[n] for n in order), edges=edges,
                   node_metrics={k: v[:, order] for k, v in one.node_metrics.items()})


def check(ranking: Ranking, one: CaseWindow) -> None:
    assert ranking.scores.shape == (len(one.services),)
    assert np.isfinite(ranking.scores).all()
    assert (ranking.scores >= 0).all()
    assert ranking.p_none is None or 0.0 <= ranking.p_none <= 1.0


@pytest.mark.parametrize("name", RANKERS)
def test_scores_are_finite_and_the_same_twice(name: str) -> None:
    for seed in range(3):
        one = case(seed=seed)
        ranking = RANKERS[name]().rank(one)
        check(ranking, one)
        again = RANKERS[name]().rank(one)
        assert np.array_equal(ranking.scores, again.scores)
        assert ranking.p_none == again.p_none


@pytest.mark.parametrize("name", [n for n in RANKERS if n != "random"])
def test_the_order_of_the_services_does_not_matter(name: str) -> None:
    one = case()
    order = [3, 0, 5, 1, 4, 2]
    scores = RANKERS[name]().rank(one).scores
    assert np.allclose(RANKERS[name]().rank(permuted(one, order)).scores, scores[order], rtol=1e-4, atol=1e-6)


NAN = np.nan
BARELY: dict[str, Callable[[], CaseWindow]] = {
    "one service": lambda: case(1),
    "all missing": lambda: replace(case(), node_metrics={k: np.full((ROWS, 6), NAN) for k in INDICATORS},
                                   edge_metrics={k: np.full((ROWS, 5), NAN) for k in ("traffic", "errors", "latency")}),
    "no metric": lambda: replace(case(), node_metrics={}, edge_metrics={}),
    "no usual state": lambda: replace(case(), baseline_rows=0),
    "no row": lambda: replace(case(), ts_ns=np.zeros(0, np.int64), baseline_rows=0,
                              node_metrics={k: np.zeros((0, 6)) for k in INDICATORS},
                              edge_metrics={k: np.zeros((0, 5)) for k in ("traffic", "errors", "latency")}),
    "no edge": lambda: replace(case(), edges=np.zeros((0, 2), np.int32),
                               edge_metrics={k: np.zeros((ROWS, 0)) for k in ("traffic", "errors", "latency")}),
    "flat": lambda: replace(case(), node_metrics={k: np.ones((ROWS, 6)) for k in INDICATORS}),
    "huge": lambda: replace(case(), node_metrics={k: np.full((ROWS, 6), 1e100) for k in INDICATORS}),
    "no signal, no change": lambda: replace(case(), signals=(), changes=()),
    "a signal elsewhere": lambda: replace(case(), signals=tuple(
        Signal("x", "t", "d", "latency", "elsewhere", 1, 2, 0.5, "k") for _ in range(2))),
    "calls in a circle": lambda: replace(case(), edges=np.array([[0, 1], [1, 2], [2, 0], [3, 3], [4, 5]], np.int32)),
}


@pytest.mark.parametrize("what", BARELY)
@pytest.mark.parametrize("name", RANKERS)
def test_what_is_barely_a_case_raises_nothing(name: str, what: str) -> None:
    one = BARELY[what]()
    check(RANKERS[name]().rank(one), one)
