"""The verdicts on warnings, one by one."""

import numpy as np
import pytest

from detect.breach.scoring import Episode, Told, Truth, by_kind, edges, judge, summary

ONSET, CROSSING = 6_000.0, 6_000.0 + 100 * 60


def truth(*, healthy: bool = False, in_scope: bool = True, cancelled: bool = False) -> Truth:
    episodes = () if healthy else (Episode(ONSET, CROSSING if not cancelled else ONSET + 3_000, CROSSING, cancelled),)
    return Truth("x", "k", healthy, in_scope and not healthy, 0.0, CROSSING, episodes)


def told(*warnings: tuple[float, float], lasts: int = 1, low: float = 0.5, high: float = 2.0) -> Told:
    """`warnings`: (time, predicted minutes), each standing for `lasts` minutes."""
    at = np.arange(60.0, CROSSING + 60, 60)
    warns, eta = np.zeros(len(at), bool), np.full(len(at), np.nan)
    for w, minutes in warnings:
        i = int(w // 60) - 1
        warns[i:i + lasts] = True
        eta[i:i + lasts] = minutes * 60
    return Told(at, warns, eta, low * eta, high * eta)


@pytest.mark.parametrize(("w", "eta", "verdict"), [
    (ONSET - 60, 100, "false"), (ONSET, 100, "right"), (ONSET, 33, "early"), (ONSET, 34, "right"),
    (CROSSING - 900, 1, "right"), (CROSSING - 840, 14, "late"), (CROSSING - 1800, 1, "right"),
    (CROSSING - 1860, 10, "early"), (CROSSING - 1860, 11, "right")])
def test_a_warning_is_judged_by_its_time_and_by_what_it_foretells(w: float, eta: float, verdict: str) -> None:
    assert [v for _, v in judge(truth(), told((w, eta))).verdicts] == [verdict]


def test_a_second_warning_after_a_right_one_is_a_repeat_and_after_an_early_one_counts() -> None:
    again = judge(truth(), told((ONSET + 600, 90), (ONSET + 2_400, 60)))
    assert [v for _, v in again.verdicts] == ["right", "repeat"]
    assert again.leads == [CROSSING - ONSET - 600]
    late = judge(truth(), told((ONSET, 5), (ONSET + 2_400, 60)))
    assert [v for _, v in late.verdicts] == ["early", "right"]


def test_cancelled_ramps_and_series_out_of_scope_are_neutral_and_healthy_ones_false() -> None:
    assert [v for _, v in judge(truth(cancelled=True), told((ONSET, 100))).verdicts] == ["neutral"]
    assert [v for _, v in judge(truth(in_scope=False), told((ONSET, 100))).verdicts] == ["neutral"]
    assert [v for _, v in judge(truth(healthy=True), told((ONSET, 100))).verdicts] == ["false"]


def test_warnings_are_armed_again_after_a_quarter_of_an_hour() -> None:
    assert len(edges(told((3_000, 9), (3_000 + 15 * 60, 9)))) == 1
    assert len(edges(told((3_000, 9), (3_000 + 16 * 60, 9)))) == 2
    assert len(edges(told((3_000, 9), lasts=40))) == 1


def test_the_summary_counts_and_covers() -> None:
    tallies = [judge(truth(), told((ONSET, 100), lasts=100)), judge(truth(healthy=True), told((ONSET, 100))),
               judge(truth(), told())]
    whole = summary(tallies)
    assert whole["precision"] == 0.5
    assert whole["recall"] == 0.5
    assert whole["lead_s"] == CROSSING - ONSET
    assert whole["lead_15min_share"] == 1.0
    assert whole["false_per_series_day"] == pytest.approx(1 / (3 * CROSSING / 86400), rel=1e-3)
    # The median stays at 100 minutes, 50 to 200: right for the first half of the ramp.
    assert whole["coverage90"] == pytest.approx(0.5, abs=0.06)
    assert by_kind(tallies)["k"] == whole
