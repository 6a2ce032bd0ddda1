"""Recorded series in other shapes: their truth moves with them."""

from dataclasses import replace

import numpy as np
import pytest

from detect.breach.scoring import Episode, Truth
from detect.breach.series import Recorded
from detect.breach.synthetic.make import IN_SCOPE_MINUTES
from detect.breach.varied import PACES, varied

START, LIMIT, ONSET, CROSSING = 28_000_000, 100.0, 300, 500  # minutes


def ramp() -> Recorded:
    """A straight one, so that its value says what time it is in the series."""
    at = np.arange(CROSSING + 1)
    values = 20 + 80 * np.maximum(0, at - ONSET) / (CROSSING - ONSET)
    episode = Episode(60.0 * (START + ONSET), 60.0 * (START + CROSSING), 60.0 * (START + CROSSING))
    truth = Truth("a", "leak", False, True, 60.0 * START, episode.crossing, (episode,))
    return Recorded(truth, START + at, values, np.zeros(len(at)), LIMIT, LIMIT)


def calm() -> Recorded:
    one = ramp()
    truth = replace(one.truth, kind="calm", healthy=True, in_scope=False, episodes=())
    return replace(one, truth=truth, values=50 + 20 * np.sin(np.arange(len(one.ticks)) / 60))


SEEDS = range(150)


def test_the_truth_moves_with_the_ramp() -> None:
    begun, paces = 0, set()
    for seed in SEEDS:
        one = varied(ramp(), np.random.default_rng(seed))
        (episode,) = one.truth.episodes
        assert one.truth.start <= episode.onset < episode.crossing == one.truth.end
        assert one.truth.in_scope == (episode.crossing - episode.onset >= 60 * IN_SCOPE_MINUTES)
        inside = one.at > episode.onset + 300
        foretold = LIMIT * (1 - 0.8 * (episode.crossing - one.at[inside] + 60) / (episode.crossing - episode.onset))
        is_cut = one.truth.start >= episode.onset
        begun += is_cut
        if not is_cut:
            np.testing.assert_allclose(one.values[inside], foretold, atol=6)
            paces.add(round((episode.crossing - episode.onset) / 60 / (CROSSING - ONSET), 2))
    assert 10 <= begun <= 75, "some begin within the ramp"
    assert paces == {1.0, *PACES}


def test_what_is_healthy_stays_below_its_limit() -> None:
    limits = set()
    for seed in SEEDS:
        one = varied(calm(), np.random.default_rng(seed))
        assert one.truth.healthy
        assert not one.truth.episodes
        assert one.values.max() < one.limit
        assert len(one.ticks) == len(one.values) == len(one.spreads) >= 60
        assert (np.diff(one.ticks) > 0).all()
        limits.add(one.limit)
    assert len(limits) > 10, "nearer to it and farther from it"


@pytest.mark.parametrize("one", [ramp(), calm()])
def test_the_same_number_gives_the_same_series(one: Recorded) -> None:
    a, b = (varied(one, np.random.default_rng(3)) for _ in range(2))
    np.testing.assert_array_equal(a.values, b.values)
    assert a.truth == b.truth
