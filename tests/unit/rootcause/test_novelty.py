"""How unusual the whole system is, next to its own past."""

from __future__ import annotations

import numpy as np
import pytest

from rootcause.novelty import ALL_TOGETHER, all_together
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
    """Of a hundred requests in each row and service: so many failed in one of the newest rows of service 1, and so many in one
    of the usual rows of each window."""
    errors, traffic = np.zeros((ROWS, N)), np.full((ROWS, N), 100.0)
    for k, failed in enumerate(usual_ones):
        errors[5 * k + 2, 1] = failed / 100
    errors[BASE + 1:BASE + 4:2, 1] = now / 200
    case = CaseWindow(np.arange(ROWS, dtype=np.int64) * 10**9, tuple(f"s{i}" for i in range(N)),
                      {"errors": errors, "traffic": traffic}, np.array([[0, 1], [0, 2], [2, 3]], dtype=np.int32), {}, BASE)
    return all_together(case, node_changes(case), edge_changes(case))


def test_failures_too_few_to_show_in_a_row_are_counted_over_all_of_them() -> None:
    assert failing(0)[:3] == [0.0, 0.0, 0.0]
    few, more = failing(6), failing(12)
    assert 0.2 < few[0] < more[0]
    assert few[NOW_VS_SECOND] > 0.3


def test_as_many_failures_in_usual_windows_are_no_news() -> None:
    assert failing(6, usual_ones=(6,) * 12)[:3] == [0.0, 0.0, 0.0]
    rare = failing(8, usual_ones=(0, 8, 0, 0, 0, 8, 0, 0, 0, 8, 0, 0))
    assert rare[NOW_VS_SECOND] <= 0.05
