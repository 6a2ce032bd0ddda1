"""What surrounds the rankers in `opsmend eval rca`: ties, floors, intervals, onsets, made-up windows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ingest.types import Change
from opsmend.evaluate.rca import _rank
from opsmend.evaluate.rca_cases import RecordedCase
from opsmend.evaluate.rca_clock import find_onset, split_at, without_earlier
from opsmend.evaluate.rca_made import calm_windows, overlaid, pairs, with_deploy
from opsmend.evaluate.rca_scores import (
    abstention_curve,
    as_shares,
    case_scores,
    floor_scores,
    places,
    summary,
    tied_scores,
)
from rootcause.robust import node_changes
from rootcause.types import CaseWindow, Ranking

SERVICES = ("cart", "store", "web")
MINUTE = 60 * 10**9


def recorded(root: str, *, rows: int = 400, fault: int = 8, seed: int = 0, shift: float = 0.9) -> RecordedCase:
    """web calls cart calls store; the last `fault` rows are slow at the root."""
    rng = np.random.default_rng(seed)
    latency = 0.1 * rng.lognormal(0, 0.05, (rows, 3))
    latency[rows - fault:, SERVICES.index(root)] += shift
    traffic = 50 * rng.lognormal(0, 0.05, (rows, 3))
    edges = np.array([[0, 1], [2, 0]], dtype=np.int32)
    window = CaseWindow(np.arange(rows, dtype=np.int64) * MINUTE, SERVICES, {"latency": latency, "traffic": traffic}, edges,
                        {"latency": latency[:, [1, 0]].copy()}, rows - fault)
    return RecordedCase(f"case-{root}", "shop", "slow", "", root, window)


def test_equals_stand_before_our_root_and_share_with_a_baselines() -> None:
    scores = np.array([1.0, 1.0, 0.5, np.nan])
    assert places(scores, 0) == (1, 2)
    assert places(scores, 3) == (4, 4)
    assert tied_scores(scores, 0, is_ours=True)[0] == 0.0
    assert tied_scores(scores, 0, is_ours=False)[0] == 0.5
    assert tied_scores(np.zeros(5), 2, is_ours=True).tolist() == case_scores(5).tolist()


def test_scores_of_a_place() -> None:
    assert case_scores(1).tolist() == [1.0, 1.0, 1.0, 1.0]
    assert case_scores(3).tolist() == pytest.approx([0.0, 1.0, 0.6, 1 / 3])
    assert case_scores(6).tolist() == pytest.approx([0.0, 0.0, 0.0, 1 / 6])


def test_floor_is_what_random_orders_get() -> None:
    rng = np.random.default_rng(0)
    drawn = np.mean([tied_scores(rng.random(7), 3, is_ours=True) for _ in range(4000)], axis=0)
    assert floor_scores(7) == pytest.approx(drawn, abs=0.03)
    assert floor_scores(2).tolist() == pytest.approx([0.5, 1.0, 0.9, 0.75])


def test_interval_holds_the_mean_and_narrows_with_cases() -> None:
    few, many = ([case_scores(1 + i % 2) for i in range(n)] for n in (10, 1000))
    wide, narrow = summary(few)["AC@1 95%"], summary(many)["AC@1 95%"]
    assert isinstance(wide, list)
    assert isinstance(narrow, list)
    assert wide[0] < 0.5 < wide[1]
    assert narrow[1] - narrow[0] < 0.1 < wide[1] - wide[0]
    assert summary(few) == summary(few)
    assert summary([])["AC@1"] == 0.0


def test_scores_of_any_scale_as_shares() -> None:
    assert as_shares(np.array([3.0, 1.0, -5.0])).tolist() == [0.75, 0.25, 0.0]
    assert as_shares(np.zeros(4)).tolist() == [0.25] * 4
    assert as_shares(np.array([np.inf, 1.0, np.nan])).round(9).tolist() == [1.0, 0.0, 0.0]


def test_curve_answers_the_surest_first() -> None:
    curve = abstention_curve([0.9, 0.1, 0.8, -1.0], [1.0, 0.0, 1.0, 0.0])
    assert curve[0] == {"coverage": 1.0, "margin": -1.0, "accuracy": 0.5}
    assert curve[-1]["accuracy"] == 1.0


@pytest.mark.parametrize("told", [-3, 0, 3])
def test_onset_is_found_whatever_was_told(told: int) -> None:
    case = recorded("cart")
    onset = find_onset(replace(case.window, baseline_rows=case.window.baseline_rows + told))
    assert onset.is_clear
    assert abs(onset.row - case.window.baseline_rows) <= 1
    assert split_at(case.window, onset).baseline_rows == onset.row


def test_without_a_change_the_last_rows_are_taken() -> None:
    window = recorded("cart", shift=0.0).window
    onset = find_onset(window)
    assert not onset.is_clear
    assert onset.row == len(window.ts_ns) - 5


def test_what_is_over_again_is_no_onset() -> None:
    case = recorded("cart")
    latency = case.window.node_metrics["latency"].copy()
    latency[case.window.baseline_rows - 6:case.window.baseline_rows - 4, 2] += 3.0  # an earlier hiccup of web
    hiccup = replace(case.window, node_metrics={**case.window.node_metrics, "latency": latency})
    assert abs(find_onset(hiccup).row - case.window.baseline_rows) <= 1


def earlier(rows: int, bad: range, *, service: str = "cart", indicator: str = "latency") -> CaseWindow:
    """A recording with so few rows, in some of which one service was slow before."""
    window = recorded("web", rows=rows).window
    table = window.node_metrics["latency"].copy()
    table[bad.start:bad.stop, SERVICES.index(service)] += 1.0
    return replace(window, node_metrics={**window.node_metrics, indicator: table})


def test_rows_of_an_earlier_incident_are_not_usual_ones() -> None:
    window = earlier(28, range(5, 11))
    usual = without_earlier(window)
    assert usual.baseline_rows == window.baseline_rows - 6
    assert usual.ts_ns.tolist() == np.delete(window.ts_ns, range(5, 11)).tolist()
    onset = find_onset(window)
    assert split_at(window, onset).baseline_rows == onset.row - 6
    before, after = (node_changes(w)["latency"] for w in (window, usual))
    assert after.scale[0] < before.scale[0] / 5, "what was wrong before hides no more what is wrong now"


@pytest.mark.parametrize("window", [
    recorded("web").window, recorded("web", rows=12).window,
    earlier(28, range(5, 6)),  # a hiccup
    earlier(20, range(3, 8)),  # too few rows would remain
    earlier(28, range(5, 11), indicator="memory")])
def test_otherwise_all_rows_before_the_onset_are_usual(window: CaseWindow) -> None:
    assert without_earlier(window).ts_ns.tolist() == window.ts_ns.tolist()


def test_calm_windows_hold_usual_rows_alone_and_differ() -> None:
    case = recorded("cart")
    windows = list(calm_windows(case))
    assert len({len(w.ts_ns) for w in windows}) == 4
    for window in windows:
        assert len(window.ts_ns) - window.baseline_rows == 8
        assert window.node_metrics["latency"].max() < 0.5
        assert len(window.ts_ns) <= case.window.baseline_rows
    assert list(calm_windows(recorded("cart", rows=40))) == []


def test_deploy_is_just_before_the_window_and_of_one_service() -> None:
    window = with_deploy(next(calm_windows(recorded("cart"))), "a")
    (change,) = window.changes
    assert isinstance(change, Change)
    assert change.service in SERVICES
    assert 0 < window.ts_ns[window.baseline_rows] - change.ts_ns <= MINUTE


def test_two_faults_at_once_show_both() -> None:
    one, other, third = recorded("cart", seed=1), recorded("store", seed=2), recorded("cart", seed=3)
    found = list(pairs([one, other, third]))
    assert [(a is x, b is y) for (a, b), (x, y) in zip(found, [(one, other), (other, third), (third, other)], strict=True)] == [
        (True, True)] * 3
    window = overlaid(one, other)
    assert window is not None
    now = window.node_metrics["latency"][window.baseline_rows:].mean(axis=0)
    assert now[0] > 0.8
    assert now[1] > 0.8
    assert now[2] < 0.2
    assert window.node_metrics["latency"][:window.baseline_rows].max() < 0.5
    assert window.edge_metrics["latency"][window.baseline_rows:].mean(axis=0).min() > 0.8



def _with(case: RecordedCase, **tables: np.ndarray) -> RecordedCase:
    return replace(case, window=replace(case.window, node_metrics={**case.window.node_metrics, **tables}))


def test_a_window_in_which_nothing_is_wrong_changes_no_fault_that_it_is_laid_on() -> None:
    rng = np.random.default_rng(4)
    fault = recorded("cart", seed=1)
    gaps = np.where(rng.random((400, 3)) < 0.3, np.nan, fault.window.node_metrics["latency"])
    fault, calm = _with(fault, latency=gaps), recorded("store", seed=2, shift=0.0)
    few = np.where(rng.random((400, 3)) < 0.3, np.nan, calm.window.node_metrics["latency"])  # seldom asked for anything
    window = overlaid(fault, _with(calm, latency=few))
    assert window is not None
    was, now = fault.window.node_metrics["latency"], window.node_metrics["latency"]
    assert np.isclose(was, now, equal_nan=True).mean() > 0.995  # a cell in a hundred is beyond its usual range


def test_two_faults_at_one_place_add_up_as_requests_do() -> None:
    rows = np.zeros((400, 3))
    one, other = recorded("cart", seed=1), recorded("store", seed=2)
    now = slice(one.window.baseline_rows, None)
    tables = []
    for share, failing, part in ((0, 0.4, 0.5), (1, 0.8, 0.1)):
        errors, traffic = rows.copy(), (one, other)[share].window.node_metrics["traffic"].copy()
        errors[now, 2], traffic[now, 2] = failing, 50 * part
        tables.append({"errors": errors, "traffic": traffic})
    window = overlaid(_with(one, **tables[0]), _with(other, **tables[1]))
    assert window is not None
    assert window.node_metrics["errors"][now, 2] == pytest.approx(1 - 0.6 * 0.2)
    assert window.node_metrics["traffic"][now, 2] == pytest.approx(50 * 0.5 * 0.1, rel=0.05)


def test_who_falls_silent_in_one_of_two_faults_is_silent_in_both() -> None:
    one, other = recorded("cart", seed=1), recorded("store", seed=2)
    latency = other.window.node_metrics["latency"].copy()
    latency[other.window.baseline_rows:, 2] = np.nan
    window = overlaid(one, _with(other, latency=latency))
    assert window is not None
    assert np.isnan(window.node_metrics["latency"][window.baseline_rows:, 2]).all()
    assert np.isfinite(window.node_metrics["latency"][:, :2]).all()


class _Picky:
    """No ranking of windows in which nothing is known of latency."""

    name = "picky"

    def rank(self, case: CaseWindow) -> Ranking:
        return Ranking(case.node_metrics["latency"][-1], None, "")


def test_a_window_that_cannot_be_ranked_costs_no_other_one_its_ranking() -> None:
    windows = [recorded("cart", seed=seed).window for seed in range(3)]
    for at in range(3):
        shown = [replace(w, node_metrics={}) if k == at else w for k, w in enumerate(windows)]
        found = _rank("picky", _Picky(), shown, ["a", "b", "c"])
        assert [ranking is None for ranking in found.rankings] == [k == at for k in range(3)]
        assert found.failures == [f"picky on {'abc'[at]}: KeyError: 'latency'"]
    assert _rank("picky", _Picky(), [], []).rankings == []
