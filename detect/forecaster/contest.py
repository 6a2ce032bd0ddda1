"""Champion against challenger on data that neither was tuned on, and whether the champion has drifted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from detect.forecaster.lstm import Forecaster
from detect.forecaster.score import pinball, spread
from detect.forecaster.shape import HORIZONS, WARM_UP
from detect.forecaster.synthetic import Made
from detect.forecaster.weights import Weights

MARGIN = 0.02
"""A challenger must lose so much less, as a share of the champion's loss, ..."""
CERTAINTY = 2.0
"""... by so many standard errors over the series, ..."""
ALLOWED_LOSS = 0.02
"""... and at no horizon be worse by more than this."""
_JUDGED = 3
"""The first three horizons: of the far ones a few hours hold too few independent values."""
MIN_SERIES = 8
DRIFT = 1.15
"""Recent relative loss over what it was in the long run."""


@dataclass(frozen=True)
class Verdict:
    """`gain`: the share of the champion's loss that the challenger saves (negative: it loses more); `certainty` in
    standard errors; `by_horizon` the gains; `series` how many were compared."""

    wins: bool
    gain: float
    certainty: float
    by_horizon: tuple[float, ...]
    series: int

    def words(self) -> str:
        """For the card, the log and a person."""
        return (f"{'wins' if self.wins else 'does not win'}: {self.gain:+.1%} loss saved on {self.series} series held back "
                f"({self.certainty:.1f} standard errors; needs {MARGIN:.0%} and {CERTAINTY:g})")


def losses(weights: Weights, made: Made, begin: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """[n, horizons] each: mean scaled pinball loss of the joined forecast, and of the last value in its place, over
    the rows from `begin` on; the rows before warm the state up. NaN where a series has too few values."""
    n, t = made.values.shape
    forecaster = Forecaster(weights, int(made.step * 1e9))
    rows, beside = np.ascontiguousarray(made.values.T), np.ascontiguousarray(made.covariates.T)
    total, naive, count = (np.zeros((n, _JUDGED)) for _ in range(3))
    unit = spread(made.values)
    waiting = [np.full((h, n, 4), np.nan) for h in HORIZONS[:_JUDGED]]
    for k in range(t):
        for j, ring in enumerate(waiting if k >= begin else ()):
            then = ring[k % len(ring)]
            lost = np.minimum(pinball(then[:, :3], rows[k]) / unit, 10.0)
            point = np.minimum(pinball(np.repeat(then[:, 3:], 3, axis=1), rows[k]) / unit, 10.0)
            there = np.isfinite(lost)
            total[:, j] += np.where(there, lost, 0.0)
            naive[:, j] += np.where(there, point, 0.0)
            count[:, j] += there
        said = forecaster.step(int((made.start + k * made.step) * 1e9), rows[k], beside[k])
        for j, ring in enumerate(waiting):
            ring[k % len(ring), :, :3], ring[k % len(ring), :, 3] = said[:, j], rows[k]
    enough = count >= 2 * WARM_UP
    return tuple(np.where(enough, part / np.maximum(count, 1.0), np.nan) for part in (total, naive))  # type: ignore[return-value]


def relative_loss(weights: Weights, data: Sequence[tuple[Made, int]]) -> float:
    """The champion's loss over the last value's, a geometric mean over series and horizons; NaN without data. What a
    quiet or a wild week does to both does not show in it: what shows is that the forecasts fit worse than before."""
    ratios = [np.log((ours + 1e-3) / (naive + 1e-3)) for made, begin in data
              for ours, naive in (losses(weights, made, begin),)]
    together = np.concatenate(ratios) if ratios else np.zeros((0, _JUDGED))
    together = together[np.isfinite(together)]
    return float(np.exp(together.mean())) if len(together) else float("nan")


def has_drifted(recent: float, usual: float) -> bool:
    """Whether the relative loss is beyond what it was in the long run; False while either is unknown."""
    return recent > DRIFT * usual


def contest(champion: Weights, challenger: Weights, data: Sequence[tuple[Made, int]]) -> Verdict:
    """`data`: series and the first row that counts (later ones were held back). Fewer than 8 series: nobody wins."""
    ratios = []
    for made, begin in data:
        ours, theirs = losses(champion, made, begin)[0], losses(challenger, made, begin)[0]
        ratios.append(np.log((theirs + 1e-3) / (ours + 1e-3)))
    log_ratio = np.concatenate(ratios) if ratios else np.zeros((0, _JUDGED))
    log_ratio = log_ratio[np.isfinite(log_ratio).all(axis=1)]
    series = len(log_ratio)
    if series < MIN_SERIES:
        return Verdict(False, 0.0, 0.0, (0.0,) * _JUDGED, series)
    each = log_ratio.mean(axis=1)
    error = float(each.std(ddof=1) / np.sqrt(series)) + 1e-9
    gain, certainty = 1.0 - float(np.exp(each.mean())), -float(each.mean()) / error
    by_horizon = tuple(1.0 - float(g) for g in np.exp(log_ratio.mean(axis=0)))
    wins = gain >= MARGIN and certainty >= CERTAINTY and min(by_horizon) >= -ALLOWED_LOSS
    return Verdict(wins, gain, certainty, by_horizon, series)
