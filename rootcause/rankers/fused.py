"""The networks, and a plain statistic that needs no training, added up; then a look at what is left once a suspect is well.

The networks have seen made-up systems alone. Whom the call graph explains least can be said of any system, so a case
unlike all made-up ones still has somebody to look at first. And in any system nothing is left when the cause is taken away.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rootcause.contrast import steady_residuals
from rootcause.healed import Healer
from rootcause.rankers.gnn import MODELS_DIR, GnnRanker, Weights, by_service, decide, load_weights, sharpen, with_past
from rootcause.types import CaseWindow, Ranking

Floats = NDArray[np.float64]
RESIDUAL_WEIGHT = 0.25
"""On recorded cases as good as 0.5, and costs nothing on made-up ones, where 0.5 costs AC@1 .03."""
LOOKS = 2
"""Suspects that are healed, one at a time. A third changes nothing."""
LEFT_WEIGHT = 0.2
"""Of the log of what "none of these" gets once a suspect is well. .1 to .3 are alike; at .5 made-up cases lose again."""
_LEAST_NONE = 0.01
LARGEST = 800
"""Services; of more than these nobody is healed, as an answer has to come within two seconds."""


def log_softmax(x: Floats) -> Floats:
    """log of exp(x) over its sum."""
    moved = x - x.max(initial=0.0)
    out: Floats = moved - np.log(np.exp(moved).sum())
    return out


def with_the_silent(case: CaseWindow, residuals: Floats) -> Floats:
    """[n] the same, and who now tells neither errors nor latency of its own (a database, a process that hangs) at least what
    its callers have: what their callees do not explain may be due to the one that says nothing."""
    speaks = np.zeros(len(residuals), bool)
    for name in ("errors", "latency"):
        if name in case.node_metrics:
            speaks |= np.isfinite(case.node_metrics[name][case.baseline_rows:]).any(axis=0)
    out = residuals.copy()
    callers, callees = case.edges[:, 0], case.edges[:, 1]
    np.maximum.at(out, callees, np.where(speaks[callees], 0.0, residuals[callers]))
    return out


@dataclass(frozen=True)
class Said:
    """Of one window: [n] probability of each service, of "none of these", which add up to 1, and [m] of calls (already in
    those of the services that they call)."""

    services: Floats
    none: float
    calls: Floats


class FusedRanker:
    """Log probabilities of the networks plus the weighted log softmax of log(1 + residual); "none of these" is left to
    the networks and the system's past. Cost: some 15 ms per case of 40 services, and as much for each suspect healed."""

    name = "fused"

    def __init__(self, directory: Path = MODELS_DIR) -> None:
        self._gnn = GnnRanker(directory)
        self._directory = directory

    def rank(self, case: CaseWindow) -> Ranking:
        weights = load_weights(self._directory)
        if not case.services:
            return Ranking(np.zeros(0), 1.0, weights.version)
        said = self.say(case)
        p = trusted(np.append(said.services, said.none), weights.trust)
        moved = p[:-1] / np.maximum(said.services, 1e-300)  # calls are in the services' scores, and move with them
        return Ranking(p[:-1], float(p[-1]), weights.version, said.calls * moved[case.edges[:, 1]])

    def say(self, case: CaseWindow) -> Said:
        """Everything but the last step: what the first suspect's certainty is worth."""
        weights = load_weights(self._directory)
        said = self._look(case, weights)
        if 1 < len(case.services) <= LARGEST:
            said = self._looked_again(case, said, weights)
        p = decide(np.append(said.services, said.none), weights.none_bias)
        return Said(p[:-1], float(p[-1]), said.calls * float(p[:-1].sum()) / max(float(said.services.sum()), 1e-300))

    def _look(self, case: CaseWindow, weights: Weights) -> Said:
        p, calls = by_service(sharpen(self._gnn.log_probabilities(case), weights.temperature), case)
        rest = RESIDUAL_WEIGHT * log_softmax(np.log1p(with_the_silent(case, steady_residuals(case))))
        callers, of = case.edges[:, 0], case.edges[:, 1]
        # What is wrong on the way to a service shows in whoever calls it.
        on_calls = calls * np.exp(np.maximum(rest[callers], rest[of]))
        onto = np.bincount(of, weights=on_calls, minlength=len(p) - 1)
        own = np.maximum(p[:-1] - np.bincount(of, weights=calls, minlength=len(p) - 1), 1e-12)
        joined = own * np.exp(rest) + onto
        said = with_past(np.append(joined / joined.sum() * (1 - p[-1]), p[-1]), case)
        return Said(said[:-1], float(said[-1]), on_calls / joined.sum() * float(said[:-1].sum()))

    def _looked_again(self, case: CaseWindow, first: Said, weights: Weights) -> Said:
        """Who leaves the system well when healed is raised against who does not. Then whoever is suspected once the first
        is well comes third, where he is surer of it than the third was: two faults at once, one of which hid the other."""
        healer, p = Healer(case), first.services.copy()
        looks = {i: self._look(healer.healed(i, _call_to(i, first, case)), weights)
                 for i in np.argsort(-p, kind="stable")[:LOOKS].tolist()}
        left = {i: np.log(max(look.none, _LEAST_NONE)) for i, look in looks.items()}
        others = min(left.values())
        p *= np.exp(LEFT_WEIGHT * np.array([left.get(i, others) - others for i in range(len(p))]))
        order = np.argsort(-p, kind="stable")
        if len(p) > 2 and int(order[0]) in looks:
            then = looks[int(order[0])].services.copy()
            then[order[0]] = 0.0
            hidden, second, third = int(np.argmax(then)), p[order[1]], p[order[2]]
            if hidden not in order[:2] and then[hidden] >= third / p.sum():
                p[hidden] = (second + third) / 2
        p *= first.services.sum() / p.sum()
        return Said(p, first.none, first.calls * (p / np.maximum(first.services, 1e-300))[case.edges[:, 1]])


def _call_to(service: int, said: Said, case: CaseWindow) -> int:
    """Row of `case.edges` that has more than half of what is suspected of the service, or -1."""
    onto = np.where(case.edges[:, 1] == service, said.calls, 0.0)
    k = int(np.argmax(onto)) if len(onto) else -1
    return k if k >= 0 and onto[k] > 0.5 * said.services[service] else -1


def trusted(p: Floats, trust: tuple[float, float]) -> Floats:
    """[n + 1] the same with the first suspect at the probability with which such a one was right: that of its log odds times
    `trust[0]` plus `trust[1]` (Platt 1999), and the others at what is left, in their proportion. As it was where "none of
    these" is the answer, and where it would not stay first."""
    first = int(np.argmax(p))
    if first == len(p) - 1 or not 0 < p[first] < 1:
        return p
    odds = trust[0] * np.log(p[first] / (1 - p[first])) + trust[1]
    right = float(1 / (1 + np.exp(-odds)))
    out = p * (1 - right) / (1 - p[first])
    out[first] = right
    return out if right > np.delete(out, first).max(initial=0.0) else p
