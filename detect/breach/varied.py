"""Recorded series in other shapes: begun later, faster or slower, nearer to their limit, noisier. A set of some hundred
series has few ramps that begin at the first sample and none of another length than its own; what is learned from it
should not depend on that."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from detect.breach.scoring import Episode
from detect.breach.series import MINUTE, Recorded, size_of
from detect.breach.synthetic.make import IN_SCOPE_MINUTES

PACES: Final = (0.5, 0.67, 1.5, 2.0)
"""Times as slow. Above 1 minutes are missing, as with a scrape every other minute."""


def varied(series: Recorded, rng: np.random.Generator) -> Recorded:
    """One such series, with its truth. Ramps that are too short then are out of scope."""
    if rng.random() < 0.7:
        series = _begun_later(series, rng)
    if rng.random() < 0.5:
        series = _paced(series, float(rng.choice(PACES)))
    truth, values, limit = series.truth, series.values, series.limit
    if truth.healthy and limit > 0 and rng.random() < 0.5:
        top = float(values.max())
        if top > 0.2 * limit:
            limit = max(1.005 * top, top / float(rng.uniform(0.6, 0.97)))
    if rng.random() < 0.4:
        deviation = series.size * float(np.exp(rng.uniform(np.log(5e-4), np.log(0.012))))
        values = values + deviation * rng.standard_normal(len(values))
        values = np.minimum(values, limit - 1e-9 * series.size) if truth.healthy else values
    in_scope = truth.in_scope and all(e.cancelled or e.crossing - e.onset >= 60 * IN_SCOPE_MINUTES
                                      for e in truth.episodes)
    return Recorded(replace(truth, in_scope=in_scope), series.ticks, values, series.spreads, limit,
                    size_of(limit, values[:MINUTE]))


def _begun_later(series: Recorded, rng: np.random.Generator) -> Recorded:
    """From some minute on; with a ramp in it from before its onset, or from somewhere in its first half."""
    first, truth = int(series.ticks[0]), series.truth
    if truth.episodes:
        last = truth.episodes[-1]
        onset, ramp = max(0.0, last.onset / MINUTE - first), (last.crossing - last.onset) / MINUTE
        begin = rng.uniform(0, onset) if rng.random() < 0.5 else onset + rng.uniform(-0.3, 0.4) * ramp
    else:
        begin = rng.uniform(0, 0.7) * (int(series.ticks[-1]) - first)
    begin = first + max(0, int(begin))
    kept = series.ticks >= begin
    if kept.sum() < (30 if truth.episodes else 120):
        return series
    start = max(truth.start, float(MINUTE * begin))
    episodes = tuple(replace(e, onset=max(e.onset, start)) for e in truth.episodes if e.end > start)
    return replace(series, truth=replace(truth, start=start, episodes=episodes), ticks=series.ticks[kept],
                   values=series.values[kept], spreads=series.spreads[kept])


def _paced(series: Recorded, times: float) -> Recorded:
    """The same, taking `times` as long."""
    first, truth = int(series.ticks[0]), series.truth

    def moved(at: float) -> float:
        return first * MINUTE + (at - first * MINUTE) * times

    ticks, begins = np.unique(np.floor((series.ticks - first) * times).astype(np.int64), return_index=True)

    def means(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.array([part.mean() for part in np.split(values, begins[1:])])

    episodes = tuple(Episode(moved(e.onset), moved(e.end), moved(e.crossing), e.cancelled) for e in truth.episodes)
    return replace(series, truth=replace(truth, start=moved(truth.start), end=moved(truth.end), episodes=episodes),
                   ticks=ticks + first, values=means(series.values), spreads=means(series.spreads))
