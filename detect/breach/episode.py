"""One warning per episode: given when the gate is sure for some ticks, kept up, withdrawn when the ramp has stopped."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
import numpy as np


@dataclass(frozen=True)
class Policy:
    """When a judgement becomes a warning. Times are in ticks (minutes, unless the service runs faster)."""

    near: float = 0.7
    """Probability that is asked for where the crossing is `least_ticks` away."""
    far: float = 0.85
    """Probability that is asked for where it is `horizon` away; in between along the logarithm of the time."""
    least_ticks: float = 15.0
    """Crossings nearer than this are no early warning any more."""
    horizon: float = 360.0
    """The 5 % quantile has to fall inside."""
    need: int = 3
    """Ticks in a row."""
    keep: float = 0.3
    """A warning stands while the probability is above this."""
    close: int = 20
    """Ticks below it after which the warning is withdrawn."""

    def asked(self, ticks: float) -> float:
        """The probability asked for, with the median `ticks` away."""
        share = np.log(max(ticks, 1.0) / self.least_ticks) / np.log(self.horizon / self.least_ticks)
        return float(self.near + (self.far - self.near) * min(1.0, max(0.0, share)))


class Standing(msgspec.Struct):
    """Where one series stands."""

    hits: int = 0
    quiet: int = 0
    warned: bool = False

    def step(self, policy: Policy, probability: float, low: float, middle: float) -> bool:
        """One tick on; whether the warning stands. NaN times: nothing rises."""
        if self.warned:
            self.quiet = 0 if probability >= policy.keep else self.quiet + 1
            if self.quiet >= policy.close:
                self.warned, self.hits, self.quiet = False, 0, 0
            return self.warned
        sure = policy.least_ticks <= middle and low <= policy.horizon and probability >= policy.asked(middle)
        self.hits = self.hits + 1 if sure else 0
        self.warned = self.hits >= policy.need
        return self.warned
