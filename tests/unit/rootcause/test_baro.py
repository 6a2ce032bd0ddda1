"""BARO and its change points, against the published implementation and against sums done the long way."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import multivariate_t

from rootcause.rankers.baro import Baro, BaroOwnClock, robust_scores
from rootcause.rankers.bocpd import run_lengths
from rootcause.types import CaseWindow

Floats = NDArray[np.float64]


def drawn(seed: int) -> tuple[Floats, int]:
    """Columns of which one rests and one changes for the last rows; the row of that."""
    rng = np.random.default_rng(seed)
    x = rng.lognormal(0, rng.uniform(0.01, 1, 8), (120, 8))
    x[100:, seed % 8] *= 1 + seed
    x[:, 7] = 3.0
    return x, 100


@pytest.mark.parametrize(("seed", "order"), [
    (1, [1, 6, 4, 3, 5, 0, 2]), (2, [2, 5, 6, 0, 4, 1, 3]), (3, [3, 2, 5, 4, 6, 0, 1]), (5, [5, 0, 1, 6, 2, 3, 4])])
def test_order_is_that_of_rcaeval(seed: int, order: list[int]) -> None:
    """Recorded with `baro` of rcaeval 1.8.1 on the same numbers; it leaves the resting column out."""
    x, at = drawn(seed)
    scores = robust_scores(x[:at], x[at:])
    assert [k for k in np.argsort(-scores, kind="stable").tolist() if k != 7] == order


def test_score_by_hand() -> None:
    usual = np.array([[1.0], [2.0], [3.0], [4.0], [5.0]])
    assert robust_scores(usual, np.array([[3.0], [9.0], [np.nan]]))[0] == pytest.approx((9 - 3) / 2)
    assert robust_scores(usual, np.array([[-9.0]]))[0] < 0  # signed, as published: what falls has no score
    assert robust_scores(np.full((5, 1), 2.0), np.array([[2.5]]))[0] == pytest.approx(0.5)
    assert robust_scores(np.full((5, 1), np.nan), np.array([[2.5]]))[0] == -np.inf


@pytest.mark.parametrize("width", [1, 3])
def test_run_lengths_are_those_of_the_sums_done_the_long_way(width: int) -> None:
    x = np.random.default_rng(width).normal(size=(40, width))
    x[25:] += 4
    assert run_lengths(x).tolist() == long_way(x, 1 / 50)
    assert run_lengths(x)[-1] in (14, 15, 16)


def long_way(x: Floats, hazard: float) -> list[int]:
    """The same posterior with every run's Student t made from its rows."""
    width = x.shape[1]
    log_p, best = np.zeros(1), []
    for t in range(len(x)):
        seen = []
        for run in range(t + 1):
            mean, weight, freedom, scatter = np.zeros(width), 1.0, width + 1.0, np.eye(width)
            for row in x[t - run:t]:
                scatter = scatter + weight / (weight + 1) * np.outer(row - mean, row - mean)
                mean, weight, freedom = (weight * mean + row) / (weight + 1), weight + 1, freedom + 1
            nu = freedom - width + 1
            seen.append(multivariate_t(mean, scatter * (weight + 1) / (weight * nu), df=nu).logpdf(x[t]))
        joint = log_p + np.array(seen)
        log_p = np.concatenate([[np.logaddexp.reduce(joint) + np.log(hazard)], joint + np.log(1 - hazard)])
        log_p -= np.logaddexp.reduce(log_p)
        best.append(int(np.argmax(log_p)))
    return best


def window(told: int) -> CaseWindow:
    rng = np.random.default_rng(0)
    latency = rng.normal(0.1, 0.005, (150, 3))
    latency[130:, 1] += 0.2
    return CaseWindow(np.arange(150, dtype=np.int64) * 10**9, ("a", "b", "c"), {"latency": latency},
                      np.array([[0, 1]], dtype=np.int32), {}, told)


def test_own_clock_needs_no_telling() -> None:
    assert BaroOwnClock().change_point(window(20)) in (129, 130, 131)
    assert int(np.argmax(BaroOwnClock().rank(window(20)).scores)) == 1
    assert int(np.argmax(Baro().rank(window(130)).scores)) == 1


def test_without_latency_and_errors_the_given_beginning_stays() -> None:
    bare = CaseWindow(np.arange(9, dtype=np.int64), ("a",), {"cpu": np.ones((9, 1))}, np.zeros((0, 2), np.int32), {}, 6)
    assert BaroOwnClock().change_point(bare) == 6
