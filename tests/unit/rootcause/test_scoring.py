from __future__ import annotations

import numpy as np
import pytest

from rootcause.scoring import accuracy, calibration_error, fit_trust, rank_chances


def test_place_of_the_root() -> None:
    assert rank_chances(np.array([0.1, 0.9, 0.5]), [2], 3).tolist() == [0, 1, 0]


def test_ties_are_settled_by_chance_not_by_order() -> None:
    everything_equal = np.zeros(10)
    for root in (0, 9):
        assert rank_chances(everything_equal, [root], 5) == pytest.approx([0.1] * 5)


def test_ties_behind_a_leader() -> None:
    assert rank_chances(np.array([1.0, 0.5, 0.5, 0.0]), [1], 4) == pytest.approx([0, 0.5, 0.5, 0])


def test_two_roots_in_a_tie_of_three() -> None:
    assert rank_chances(np.zeros(3), [0, 1], 3) == pytest.approx([2 / 3, 1 / 3, 0])


def test_accuracy_of_one_hit_and_one_third_place() -> None:
    scores = accuracy([np.array([1.0, 0, 0, 0, 0]), np.array([0, 0, 1.0, 0, 0])])
    assert scores == pytest.approx({"AC@1": 0.5, "AC@3": 1.0, "Avg@5": (0.5 + 0.5 + 1 + 1 + 1) / 5, "MRR": (1 + 1 / 3) / 2})


def test_no_cases_score_nothing() -> None:
    assert set(accuracy([]).values()) == {0.0}


def test_calibration_error_of_honest_and_of_boastful_answers() -> None:
    honest = calibration_error([0.75] * 100, [1.0] * 75 + [0.0] * 25)
    boastful = calibration_error([0.99] * 100, [1.0] * 50 + [0.0] * 50)
    assert honest == pytest.approx(0.0, abs=1e-9)
    assert boastful == pytest.approx(0.49, abs=1e-9)


def test_trust_is_found_again_and_makes_the_shy_honest() -> None:
    rng = np.random.default_rng(0)
    said = rng.uniform(0.05, 0.95, 4000)
    odds = 0.6 * np.log(said / (1 - said)) + 1.2
    right = (rng.random(4000) < 1 / (1 + np.exp(-odds))).astype(float)
    slope, offset = fit_trust(list(said), list(right), [1.0] * 4000)
    assert slope == pytest.approx(0.6, abs=0.06)
    assert offset == pytest.approx(1.2, abs=0.1)
    after = 1 / (1 + np.exp(-(slope * np.log(said / (1 - said)) + offset)))
    assert calibration_error(list(after), list(right)) < 0.03 < 0.15 < calibration_error(list(said), list(right))


def test_trust_of_a_few_that_were_all_right_stays_finite_and_of_none_is_an_error() -> None:
    slope, offset = fit_trust([0.4, 0.9, 0.99], [1.0, 1.0, 1.0], [1.0, 1.0, 1.0])
    assert 0 < slope < 3
    assert 0 < offset < 3
    with pytest.raises(ValueError, match="no case"):
        fit_trust([], [], [])
