"""Quantiles of columns with gaps, in blocks: what they are of each column alone, whatever stands beside it."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest

from rootcause.column_statistics import before_and_now, columns_of, quantiles
from rootcause.robust import edge_changes, node_changes
from rootcause.simulate import simulate


@pytest.mark.parametrize("gaps", [0.0, 0.3, 1.0])
def test_quantiles_are_numpys_without_the_gaps(gaps: float) -> None:
    rng = np.random.default_rng(3)
    columns = np.where(rng.random((40, 31)) < gaps, np.nan, rng.normal(0, 1, (40, 31)))
    found, counts = quantiles(columns, (0.1, 0.5, 0.75))
    assert counts.tolist() == np.isfinite(columns).sum(axis=1).tolist()
    for row, *got in zip(columns, *found, strict=True):
        known = row[np.isfinite(row)]
        wanted = np.quantile(known, (0.1, 0.5, 0.75)) if len(known) else [np.nan] * 3
        assert got == pytest.approx(wanted, nan_ok=True)


@pytest.mark.parametrize(("rows", "width"), [(900, 700), (40, 3), (5, 1), (200, 0)])
def test_blocks_hold_every_column_once(rows: int, width: int) -> None:
    blocks = columns_of(np.zeros((rows, width)))
    assert [n for at in blocks for n in range(width)[at]] == list(range(width))
    if rows * width > 65_536:
        assert len(blocks) > 1 and max(at.stop - at.start for at in blocks) - min(at.stop - at.start for at in blocks) <= 1


def test_a_column_is_the_same_alone_and_among_thousands() -> None:
    rng = np.random.default_rng(5)
    wide = rng.lognormal(0, 1, (400, 1200))
    wide[rng.random(wide.shape) < 0.1] = np.nan
    together = before_and_now([wide[:, :900], wide[:, 900:]], 360)
    for k in (0, 17, 899, 900, 1199):
        before, now = before_and_now([wide[:, k:k + 1]], 360)
        for whole, alone in ((together[0], before), (together[1], now)):
            for field in fields(alone):
                assert np.array_equal(getattr(whole, field.name)[k], getattr(alone, field.name)[0], equal_nan=True), field.name


def test_usual_rows_that_are_known_are_not_sorted_again_and_others_are() -> None:
    rng = np.random.default_rng(6)
    table = rng.lognormal(0, 1, (100, 20))
    table[3, 4] = np.nan
    known, now = before_and_now([table], 80)
    healed = table.copy()
    healed[80:] = 1.0
    again, well = before_and_now([healed], 80)
    assert again is known and well.upper.tolist() == [1.0] * 20 != now.upper.tolist()
    healed[7, 3] += 1.0
    other, _ = before_and_now([healed], 80)
    assert other is not known and other.middle.tolist() != known.middle.tolist()
    shorter, _ = before_and_now([table[:85]], 80)
    assert shorter.windows.shape != known.windows.shape, "windows are as long as now"


def test_what_is_remembered_of_a_case_is_of_no_other_and_not_the_askers() -> None:
    one, other = (simulate(np.random.default_rng(k)).case for k in (1, 2))
    for changes in (node_changes, edge_changes):
        first = changes(one)
        assert {name: change.z.tolist() for name, change in changes(other).items()} != {
            name: change.z.tolist() for name, change in first.items()}
        again = changes(replace(one))
        assert again.keys() == first.keys() and all(np.array_equal(again[k].z, first[k].z) for k in first)
        again.clear()
        assert changes(one).keys() == first.keys()
