"""Where in a run of chained signals a new fault begins.

Faults close to each other in time chain into one group, whatever the radius: their tails overlap. What tells them
apart is that a fault begins with a burst and then decays (as aftershocks do: Omori 1894). So a run is cut where a
new burst explains it better than the tail of the one before, by dynamic programming over all ways to cut it. What
starts again speaks for a cut in between.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ingest.types import Float64

_NEVER = -1e30


@dataclass(frozen=True)
class OnsetConfig:
    """The course of a fault, and how sure a cut must be."""

    decay_seconds: float = 60.0
    """After this long the rate of new signals has fallen by 2 ** -decay_power."""
    decay_power: float = 2.0
    """Above 1; how fast the rate falls."""
    front: float = 3.0
    """A fault begins with a front: at its first moment the rate is higher by this many times what it falls from."""
    front_seconds: float = 3.0
    """After this long the front has fallen by a factor e."""
    slow_factor: float = 4.0
    """Some faults spread slowly: a part may as well decay over this many times `decay_seconds`, and bumps in its long
    tail are then what is to be expected, not onsets."""
    slow_cost: float = 6.0
    """What a slow part must gain over the usual course (nats), so that several faults are not taken for a slow one."""
    cost: float = 24.0
    """Log-likelihood that a further onset must gain (nats)."""
    again: float = 8.0
    """What an alert that starts anew within one fault costs (nats): a fault starts each of its alerts once, and it is
    the next fault that starts them again. The n-th time counts n ** -0.5: some alerts always come and go."""
    again_seconds: float = 90.0
    """One that starts anew sooner than this counts for less, in proportion: it may as well be the same fault still."""
    max_evidence: float = 100.0
    """Onsets that a run counts for at most. In a large system one fault is felt in many places at the same few
    moments: these are not as many witnesses, and without a bound any bump would be an onset of its own."""
    stay: float = 4.0
    """What an onset that was found before is cheaper by, so that cuts do not come and go."""
    least_seconds: float = 10.0
    """Onsets nearer to each other than this are one: detectors need so long to see all of a fault, each in its own
    time, and what they see at once is a burst."""
    doubt: float = 8.0
    """A cut, or one not made, within this much of the other answer is told as a doubt."""
    tail_seconds: float = 60.0
    """How long after the last signal the last fault is taken to have gone on."""
    max_moments: int = 150
    """Distinct seconds looked at; a run with more is looked at in coarser steps."""


@dataclass(frozen=True)
class Onsets:
    """The onsets of a run, oldest first; [k] each."""

    start_s: Float64
    gain: Float64
    """What the onset gains over joining its signals to the fault before (nats, cost taken off); inf for the first."""
    second_s: Float64
    """Where the fault would be cut next; NaN where that is far from paying off."""


def find_onsets(time_s: Float64, config: OnsetConfig, known_s: Sequence[float] = (),
                again: Sequence[tuple[float, float, float]] = ()) -> Onsets:
    """Cut the run of `time_s` [n] (seconds, folded, any order) at its onsets; `known_s` are onsets of earlier calls,
    `again` are (start, next start, weight) of alerts that started anew.

    Cost: O(n log n), and O(m ** 2) for the m <= max_moments distinct moments. Raises ValueError where there is no
    time.
    """
    if len(time_s) == 0:
        raise ValueError("no signals, no onset")
    time_s = np.sort(time_s)
    first = float(time_s[0])
    step, moments, begins = _moments(time_s - first, config.max_moments)
    counts = np.diff(np.append(begins, len(time_s)))
    at = time_s[begins] - first
    share = min(1.0, config.max_evidence / len(time_s))
    weights = (counts * share).astype(np.float64)
    score = np.maximum(*(_scores(moments.astype(np.int64), step, weights, decay_s, config) - extra for decay_s, extra in (
        (config.decay_seconds, 0.0), (config.decay_seconds * config.slow_factor, config.slow_cost))))
    if again:
        pairs = np.array(again, dtype=np.float64)
        score -= config.again * share * _within((pairs[:, :2] - first) / step, pairs[:, 2], moments)
    score[_nearer(at, config.least_seconds)] = _NEVER
    cost = np.full(len(at), config.cost)
    for onset in known_s:
        cost[np.abs(at + first - onset) <= 10.0 + step] = config.cost - config.stay
    starts, ends = _cut(score, cost)
    joined = [score[a, c] for a, c in zip(starts[:-1], ends[1:], strict=True)]
    gain = [score[a, b] + score[b, c] - whole - cost[b]
            for a, b, c, whole in zip(starts[:-1], starts[1:], ends[1:], joined, strict=True)]
    second = [_second(score, cost, a, c, config.doubt) for a, c in zip(starts, ends, strict=True)]
    times = np.append(at, np.nan)
    return Onsets(first + at[starts], np.array([np.inf, *gain]), first + times[second])


def _moments(after_s: Float64, most: int) -> tuple[float, Float64, NDArray[np.int64]]:
    """Step in seconds, distinct steps [m] with something in them, m <= most, and the index [m] of the first in each."""
    step = 1.0
    while True:
        moments, begins = np.unique(np.floor(after_s / step), return_index=True)
        if len(moments) <= most:
            return step, moments, begins
        step *= 1.25


def _scores(moment: NDArray[np.int64], step: float, counts: Float64, decay_s: float, c: OnsetConfig) -> Float64:
    """[m, m + 1]: log-likelihood that the moments i..j-1 are one fault that began at i; Poisson, height free."""
    m = len(moment)
    after_s = np.arange(int(moment[-1]) + 1) * step + 0.5
    log_rate = np.log((1 + after_s / decay_s) ** -c.decay_power + c.front * np.exp(-after_s / c.front_seconds))
    lag = np.maximum(moment[None, :] - moment[:, None], 0)  # [m, m]
    inside = np.zeros((m, m + 1))
    np.cumsum(np.triu(counts[None, :] * log_rate[lag]), axis=1, out=inside[:, 1:])
    total = np.concatenate([[0.0], np.cumsum(counts)])
    n = np.maximum(total[None, :] - total[:m, None], 1e-9)
    ends = np.append(moment * step, moment[-1] * step + c.tail_seconds)
    length = np.maximum(ends[None, :] - moment[:, None] * step, 1e-9)
    mass = decay_s / (c.decay_power - 1) * (1 - (1 + length / decay_s) ** (1 - c.decay_power))
    mass += c.front * c.front_seconds * -np.expm1(-length / c.front_seconds)
    out = n * np.log(n / mass) - n + inside
    out[np.tri(m, m + 1, 0, dtype=np.bool_)] = _NEVER
    return np.asarray(out, dtype=np.float64)


def _nearer(at: Float64, least_seconds: float) -> NDArray[np.bool_]:
    """[m, m + 1]: whether the next onset, j, is so near to i that i..j-1 can be no fault of its own."""
    out = np.zeros((len(at), len(at) + 1), dtype=np.bool_)
    out[:, :-1] = (at[None, :] - at[:, None] < least_seconds) & (at[None, :] > at[:, None])
    return out


def _within(pairs: Float64, weight: Float64, moments: Float64) -> Float64:
    """[m, m + 1]: weight of the pairs [k, 2] of moments that lie both in i..j-1."""
    m = len(moments)
    at = np.clip(np.searchsorted(moments, np.floor(pairs), side="right") - 1, 0, m - 1)
    table = np.zeros((m, m + 1))
    np.add.at(table, (at[:, 0], at[:, 1] + 1), weight)
    out: Float64 = np.cumsum(np.cumsum(table[::-1], axis=0)[::-1], axis=1)
    return out


def _cut(score: Float64, cost: Float64) -> tuple[list[int], list[int]]:
    """The best cut: index of the first moment of each part, and of the first after it."""
    m = len(score)
    best = np.zeros(m + 1)
    back = np.zeros(m + 1, dtype=np.int64)
    for j in range(1, m + 1):
        ways = best[:j] + score[:j, j] - cost[:j]
        back[j] = int(np.argmax(ways))
        best[j] = ways[back[j]]
    ends: list[int] = [m]
    while back[ends[-1]] > 0:
        ends.append(int(back[ends[-1]]))
    ends.reverse()
    return [0, *ends[:-1]], ends


def _second(score: Float64, cost: Float64, a: int, c: int, doubt: float) -> int:
    """Where the part a..c-1 would be cut next; -1 where that loses more than `doubt`."""
    if c - a < 2:
        return -1
    cuts = np.arange(a + 1, c)
    gains = score[a, cuts] + score[cuts, c] - score[a, c] - cost[cuts]
    at = int(np.argmax(gains))
    return int(cuts[at]) if gains[at] > -doubt else -1
