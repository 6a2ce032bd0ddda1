"""The rule for systems that are watched by the second, on an hour recorded in the lab."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from detect.breach.models import load_models
from detect.breach.paces import Pace
from detect.detectors.breach import BreachConfig
from detect.limits import Limit
from ingest.types import SeriesKey
from opsmend.evaluate.breach import RECORDED_LEAKS

NS = 10**9
SERIES = json.loads((RECORDED_LEAKS / "meta.json").read_text())


def warned(path: Path, limit: float) -> tuple[np.ndarray[tuple[int], np.dtype[np.float64]], list[bool]]:
    """(second, whether a warning stood) of a series that is told by the second as it was recorded each ten."""
    at, values = np.loadtxt(path, delimiter=",", skiprows=1).T
    seconds = np.arange(at[0], at[-1])
    pace, key = Pace(load_models(), NS, BreachConfig().fast_policy, quick=True), SeriesKey("orders", "db.pool.in_use")
    stands = []
    for second, value in zip(seconds.tolist(), values[np.searchsorted(at, seconds, side="right") - 1].tolist(), strict=True):
        told = pace.step(int(second) * NS, NS, [Limit(key, limit)], {key: value})
        stands.append(bool(told and told[0][0].warned))
    return seconds, stands


@pytest.mark.parametrize("one", SERIES, ids=[s["id"] for s in SERIES])
def test_recorded_leaks_are_told_of_a_quarter_of_an_hour_ahead_and_nothing_else(one: dict[str, object]) -> None:
    limit, episodes = one["limit"], one["episodes"]
    assert isinstance(limit, float) and isinstance(episodes, list)
    seconds, stands = warned(RECORDED_LEAKS / f"{one['id']}.csv", limit)
    begins = [int(n) for n in np.flatnonzero(np.diff(np.array([False, *stands]).astype(int)) > 0)]
    if not episodes:
        assert begins == []
        return
    (episode,) = episodes
    assert episode["onset"] < seconds[begins[0]] < episode["crossing"] - 900
    assert len(begins) <= 2, "told of once; a count that grows in steps minutes apart may be withdrawn once"
