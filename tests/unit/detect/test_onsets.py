"""A run is cut where a new burst explains it better than the tail of the one before."""

from __future__ import annotations

import numpy as np
import pytest

from detect.convergence.onsets import OnsetConfig, find_onsets


def fault(at: float, count: int, seed: int) -> np.ndarray:
    """`count` onsets that thin out after `at`."""
    return at + np.sort(np.random.default_rng(seed).exponential(40.0, count))


def test_one_fault_is_one_onset() -> None:
    for seed in range(20):
        times = fault(1000.0, 60, seed)
        assert find_onsets(times, OnsetConfig()).start_s.tolist() == [times[0]]


def test_two_faults_are_cut_at_the_second() -> None:
    for seed in range(20):
        second = fault(1300.0, 60, seed + 100)
        onsets = find_onsets(np.concatenate([fault(1000.0, 60, seed), second]), OnsetConfig())
        assert len(onsets.start_s) == 2
        assert abs(onsets.start_s[1] - second[0]) < 15
        assert onsets.gain[0] == np.inf
        assert onsets.gain[1] > OnsetConfig().doubt


def test_a_bump_in_the_long_tail_of_a_slow_fault_is_no_onset() -> None:
    """Alerts come for half an hour, fewer and fewer, and some at once in between."""
    cut = {}
    for cost in (OnsetConfig().slow_cost, np.inf):
        found = []
        for seed in range(30):
            rng = np.random.default_rng(seed)
            tail = 1000.0 + 240.0 * (rng.random(80) ** -1.0 - 1.0)
            bump = 1700.0 + rng.uniform(0, 20, 12)
            times = np.sort(np.concatenate([tail[tail < 2800], bump]))
            found.append(len(find_onsets(times, OnsetConfig(slow_cost=cost)).start_s))
        cut[cost] = float(np.mean(found))
    assert cut[OnsetConfig().slow_cost] < cut[np.inf]


def slow_fault(seed: int, count: int = 120) -> np.ndarray:
    """Alerts of one fault that decays four times as slowly as usual, over an hour."""
    tail = 1000.0 + 240.0 * (np.random.default_rng(seed).random(count) ** -1.0 - 1.0)
    return np.sort(tail[tail < 4600])


def test_a_slow_part_needs_both_the_factor_and_its_gain() -> None:
    """Factor 1 is the usual course again, whatever it costs; and a cost that nothing can gain is none at all."""
    usual = OnsetConfig(slow_cost=np.inf)
    for seed in range(10):
        expected = find_onsets(slow_fault(seed), usual)
        for config in (OnsetConfig(slow_factor=1.0), OnsetConfig(slow_factor=1.0, slow_cost=0.0)):
            found = find_onsets(slow_fault(seed), config)
            assert found.start_s.tolist() == expected.start_s.tolist()
            assert np.allclose(found.gain[1:], expected.gain[1:])


def test_a_slow_fault_is_one_and_a_sharp_one_after_it_still_shows() -> None:
    ones, both = 0, 0
    for seed in range(20):
        ones += len(find_onsets(slow_fault(seed), OnsetConfig()).start_s) == 1
        second = fault(1900.0, 60, seed + 100)
        onsets = find_onsets(np.concatenate([slow_fault(seed), second]), OnsetConfig())
        both += len(onsets.start_s) == 2 and abs(onsets.start_s[1] - second[0]) < 15
    assert ones == 20
    assert both >= 18


def test_what_a_slow_part_costs_is_what_it_must_gain() -> None:
    """The cut of a slow fault gains less the cheaper a slow part is, nat by nat, once the whole is a slow part."""
    times = np.concatenate([slow_fault(3), fault(1900.0, 60, 103)])
    gains = [float(find_onsets(times, OnsetConfig(slow_cost=cost)).gain[1]) for cost in (0.0, 2.0, 6.0, 1000.0)]
    assert gains == sorted(gains)
    assert gains[2] - gains[0] <= 6.0 + 1e-6


def test_order_and_origin_of_time_do_not_matter() -> None:
    times = np.concatenate([fault(0.0, 50, 1), fault(200.0, 50, 2)])
    expected = find_onsets(times, OnsetConfig())
    mixed = np.random.default_rng(0).permutation(times)
    assert find_onsets(mixed, OnsetConfig()).start_s.tolist() == expected.start_s.tolist()
    later = find_onsets(times + 1e6, OnsetConfig())
    assert np.allclose(later.start_s - 1e6, expected.start_s)


def test_an_onset_that_was_found_before_stays_where_a_new_one_would_not_be_made() -> None:
    config = OnsetConfig(decay_seconds=30.0, cost=16.0, stay=6.0)
    kept = 0
    for seed in range(200):
        second = fault(1090.0, 14, seed + 500)
        times = np.concatenate([fault(1000.0, 30, seed), second])
        fresh, known = (len(find_onsets(times, config, k).start_s) for k in ([], [float(second[0])]))
        assert known >= fresh
        kept += known > fresh
    assert kept > 0


def test_what_could_as_well_be_two_is_said() -> None:
    said = 0
    for seed in range(100):
        times = np.concatenate([fault(1000.0, 30, seed), fault(1090.0, 14, seed + 500)])
        onsets = find_onsets(times, OnsetConfig(decay_seconds=30.0, cost=16.0))
        assert len(onsets.second_s) == len(onsets.start_s) == len(onsets.gain)
        said += len(onsets.start_s) == 1 and not np.isnan(onsets.second_s[0])
    assert said > 0


def test_alerts_that_start_again_speak_for_a_cut() -> None:
    cut = 0
    for seed in range(30):
        first, second = fault(1000.0, 30, seed), fault(1120.0, 14, seed + 500)
        times = np.concatenate([first, second])
        again = [(a, b, 1.0) for a, b in zip(first[:6].tolist(), second[:6].tolist(), strict=True)]
        without, with_them = (len(find_onsets(times, OnsetConfig(), (), pairs).start_s) for pairs in ([], again))
        assert with_them >= without
        cut += with_them > without
    assert cut > 15


def test_many_places_that_feel_one_fault_are_still_one() -> None:
    for seed in range(10):
        felt = fault(1000.0, 60, seed)
        everywhere = np.concatenate([felt + np.random.default_rng(n).uniform(0, 10, len(felt)) for n in range(30)])
        assert len(find_onsets(everywhere, OnsetConfig()).start_s) == 1


def test_a_long_run_is_cut_in_coarser_steps() -> None:
    times = np.concatenate([fault(at, 400, n) for n, at in enumerate(range(0, 3_000, 600))])
    onsets = find_onsets(times, OnsetConfig(max_moments=100))
    assert len(onsets.start_s) == 5


@pytest.mark.parametrize("times", [[5.0], [5.0, 5.0, 5.0]])
def test_the_least_there_can_be(times: list[float]) -> None:
    assert find_onsets(np.array(times), OnsetConfig()).start_s.tolist() == [5.0]


def test_no_time_is_refused() -> None:
    with pytest.raises(ValueError, match="no signals"):
        find_onsets(np.zeros(0), OnsetConfig())


def test_what_detectors_see_within_seconds_is_one_fault() -> None:
    """Each sees it in its own time: what the logs say began a second before the errors."""
    times = np.array([*[717.0] * 14, *[718.0] * 15])
    assert find_onsets(times, OnsetConfig(), [718.0]).start_s.tolist() == [717.0]
    apart = find_onsets(times, OnsetConfig(least_seconds=0.0, front=0.0), [718.0])
    assert len(apart.start_s) == 2, "else it would be two"


def test_a_fault_begins_with_its_front() -> None:
    """What trickles in from the fault before, until a moment before the next one, stays with it."""
    late = {}
    for front in (0.0, OnsetConfig().front):
        off = []
        for seed in range(40):
            rng = np.random.default_rng(seed)
            before = np.concatenate([fault(1000.0, 40, seed), rng.uniform(1160, 1200, 8)])
            after = 1200.0 + np.concatenate([rng.exponential(2.0, 12), rng.exponential(60.0, 40)])
            found = find_onsets(np.concatenate([before, after]), OnsetConfig(front=front)).start_s
            off.append(np.abs(found - 1200.0).min())
        late[front] = float(np.mean(off))
    assert late[OnsetConfig().front] < 1.0
    assert late[OnsetConfig().front] < late[0.0] / 2


def test_an_onset_is_at_the_first_alert_of_its_step() -> None:
    times = np.concatenate([fault(0.0, 300, 1), fault(900.25, 300, 2)])
    found = find_onsets(times, OnsetConfig(max_moments=20)).start_s
    assert len(found) == 2
    assert set(found.tolist()) <= set(times.tolist())
