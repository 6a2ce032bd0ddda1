"""One warning per episode: given when the gate is sure for some ticks, kept up, withdrawn when the ramp has stopped."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import msgspec

MEMORY_TICKS: Final = 10
LEAST_ODDS: Final = -7.0
"""Log-odds of a tick in which nothing rises; nothing counts for more than its opposite."""


@dataclass(frozen=True)
class Policy:
    """When a judgement becomes a warning. Times are in ticks (minutes, unless the service runs faster)."""

    asked: tuple[tuple[float, float], ...] = ((20, 0.8), (45, 0.91), (90, 0.95), (180, 0.97), (400, 0.98))
    """(ticks to the crossing, probability that is asked for), along the logarithm of the time: what is far away can
    wait until more is known."""
    least_ticks: float = 15.0
    """Crossings nearer than this are no early warning any more."""
    horizon: float = 60.0
    """The 5 % quantile has to fall inside."""
    need: int = 2
    """Ticks in a row."""
    memory: tuple[tuple[float, float], ...] = ((20, 0.1), (45, 0.3))
    """(ticks to the crossing, how much the mean of the log-odds of about MEMORY_TICKS counts beside those of the tick):
    one look that is sure among many that are not is not enough, but what is near can't wait."""
    keep: float = 0.3
    """A warning stands while the probability is above this."""
    close: int = 20
    """Ticks below it after which the warning is withdrawn."""
    drop: float = 0.1
    """A fall by this share of the limit withdraws it at once: somebody restarted or cleaned up."""

    def probability(self, ticks: float) -> float:
        """The probability asked for, with the median `ticks` away."""
        return _between(self.asked, ticks)

    def remembered(self, ticks: float) -> float:
        """The weight of the ticks before, with the median `ticks` away."""
        return _between(self.memory, ticks)


def _between(knots: tuple[tuple[float, float], ...], ticks: float) -> float:
    """The value at `ticks`, along the logarithm; that of the nearest knot outside of them."""
    before = knots[0]
    for knot in knots:
        if ticks <= knot[0]:
            if knot[0] == before[0] or ticks <= before[0]:
                return knot[1]
            share = math.log(ticks / before[0]) / math.log(knot[0] / before[0])
            return before[1] + share * (knot[1] - before[1])
        before = knot
    return before[1]


class Standing(msgspec.Struct):
    """Where one series stands."""

    hits: int = 0
    quiet: int = 0
    warned: bool = False
    top: float = 0.0  # highest level since the warning
    odds: float = LEAST_ODDS  # mean log-odds of the last ticks

    def step(self, policy: Policy, probability: float, low: float, middle: float, level: float) -> bool:
        """One tick on; whether the warning stands. `level` is the used share of the limit; NaN: not known, and NaN
        times: nothing rises."""
        probability = self._weighed(probability, policy.remembered(middle))
        if self.warned:
            fallen = level < self.top - policy.drop
            self.top = max(self.top, level) if level == level else self.top
            self.quiet = 0 if probability >= policy.keep else self.quiet + 1
            if self.quiet >= policy.close or (fallen and (self.quiet or level < self.top - 3 * policy.drop)):
                self.warned, self.hits, self.quiet = False, 0, 0
            return self.warned
        sure = policy.least_ticks <= middle and low <= policy.horizon and probability >= policy.probability(middle)
        self.hits = self.hits + 1 if sure else 0
        if self.hits >= policy.need:
            self.warned, self.top, self.quiet = True, level, 0
        return self.warned

    def _weighed(self, probability: float, memory: float) -> float:
        """The probability with that of the last ticks; 0 where nothing rises now."""
        now = LEAST_ODDS
        if probability > 0.0:
            now = max(LEAST_ODDS, min(-LEAST_ODDS, math.log(probability) - math.log(max(1.0 - probability, 1e-12))))
        self.odds += (now - self.odds) / MEMORY_TICKS
        if probability <= 0.0 or memory == 0.0:
            return probability
        return 1.0 / (1.0 + math.exp(-(1.0 - memory) * now - memory * self.odds))
