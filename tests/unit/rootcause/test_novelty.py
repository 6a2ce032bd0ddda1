"""How unusual the whole system is, next to its own past."""

from __future__ import annotations

import numpy as np
import pytest

from rootcause.novelty import ALL_TOGETHER, against_nothing_wrong, all_together
from rootcause.robust import edge_changes, node_changes
from rootcause.types import CaseWindow

BASE, ROWS, N = 60, 65, 4
NOW_VS_SECOND = 2
"""Place of "how much louder than all but one usual window", for what is felt, of the loudest service."""


def told(latency: np.ndarray, base: int = BASE) -> list[float]:
    rows = len(latency)
    case = CaseWindow(np.arange(rows, dtype=np.int64) * 10**9, tuple(f"s{i}" for i in range(N)), {"latency": latency},
                      np.array([[0, 1], [0, 2], [2, 3]], dtype=np.int32), {}, base)
    return all_together(case, node_changes(case), edge_changes(case))


def usual(seed: int = 0) -> np.ndarray:
    return 0.1 * (1 + 0.02 * np.random.default_rng(seed).normal(size=(ROWS, N)))


def test_the_same_slowness_is_news_only_where_it_is_rare() -> None:
    calm, often = usual(), usual()
    for at in range(0, BASE, 15):
        often[at:at + 6, 1] = 0.3
    for table in (calm, often):
        table[BASE:, 1] = 0.3
    assert told(calm)[NOW_VS_SECOND] > 0.2
    assert told(often)[NOW_VS_SECOND] < 0.05


def test_nothing_wrong_is_not_louder_than_usual() -> None:
    for seed in range(20):
        assert told(usual(seed))[NOW_VS_SECOND] <= 0.05


@pytest.mark.parametrize("base", [3, 12, BASE])
def test_it_is_told_how_many_usual_windows_there_are(base: int) -> None:
    out = told(usual()[:base + 5], base)
    assert len(out) == ALL_TOGETHER
    assert np.isfinite(out).all()
    blocks = base // 5
    assert out[-1] == pytest.approx(np.log1p(blocks if blocks >= 4 else 0) / 4)


def test_without_any_column_it_says_nothing() -> None:
    assert told(np.full((ROWS, N), np.nan)) == [0.0] * ALL_TOGETHER


def failing(now: int, *, usual_ones: tuple[int, ...] = ()) -> list[float]:
    case = failures(now, usual_ones)
    return all_together(case, node_changes(case), edge_changes(case))


def failures(now: int, usual_ones: tuple[int, ...] = ()) -> CaseWindow:
    """Of a hundred requests in each row and service: so many failed in one of the newest rows of service 1, and so many in one
    of the usual rows of each window."""
    errors, traffic = np.zeros((ROWS, N)), np.full((ROWS, N), 100.0)
    for k, failed in enumerate(usual_ones):
        errors[5 * k + 2, 1] = failed / 100
    errors[BASE + 1:BASE + 4:2, 1] = now / 200
    return CaseWindow(np.arange(ROWS, dtype=np.int64) * 10**9, tuple(f"s{i}" for i in range(N)),
                      {"errors": errors, "traffic": traffic}, np.array([[0, 1], [0, 2], [2, 3]], dtype=np.int32), {}, BASE)


def test_failures_too_few_to_show_in_a_row_are_counted_over_all_of_them() -> None:
    assert failing(0)[:3] == [0.0, 0.0, 0.0]
    few, more = failing(6), failing(12)
    assert 0.2 < few[0] < more[0]
    assert few[NOW_VS_SECOND] > 0.3


def test_as_many_failures_in_usual_windows_are_no_news() -> None:
    assert failing(6, usual_ones=(6,) * 12)[:3] == [0.0, 0.0, 0.0]
    rare = failing(8, usual_ones=(0, 8, 0, 0, 0, 8, 0, 0, 0, 8, 0, 0))
    assert rare[NOW_VS_SECOND] <= 0.05


def slow(rng: np.random.Generator, more: float, *, n: int = 12, rows: int = 205, now: int = 5) -> CaseWindow:
    """Latency of n services, all of them slower now by so many of their usual deviations."""
    latency = 1 + 0.2 * rng.normal(size=(rows, n))
    latency[rows - now:] += 0.2 * more
    return CaseWindow(np.arange(rows, dtype=np.int64) * 10**9, tuple(f"s{i}" for i in range(n)), {"latency": latency},
                      np.zeros((0, 2), dtype=np.int32), {}, rows - now)


def test_evidence_against_nothing_is_right_on_average_where_nothing_is_wrong() -> None:
    rng = np.random.default_rng(3)
    odds = np.exp([against_nothing_wrong(slow(rng, 0.0)) for _ in range(300)])
    assert 0.8 < odds.mean() < 1.15
    assert odds.max() <= 0.5 * np.sqrt(41) + 1e-9, "forty usual windows say no more"


def test_faint_signs_of_many_are_evidence_together_and_not_alone() -> None:
    rng = np.random.default_rng(4)
    found = [slow(rng, 1.0) for _ in range(20)]
    assert all(np.abs(node_changes(case)["latency"].z).max() < 4 for case in found)
    assert np.median([against_nothing_wrong(case) for case in found]) > 0.8


def test_failures_are_evidence_as_counts() -> None:
    assert against_nothing_wrong(failures(8)) == pytest.approx(-0.5 * np.log(4 * 2 / 13)), "the first of 13, of two sums"
    assert against_nothing_wrong(failures(0)) < 0
    assert against_nothing_wrong(failures(6, usual_ones=(6,) * 12)) < 0


def test_without_usual_windows_the_past_says_nothing() -> None:
    assert against_nothing_wrong(slow(np.random.default_rng(5), 9.0, rows=20)) == 0.0
