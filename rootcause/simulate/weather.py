"""What goes on whether or not there is a fault: load, noise, standing states, and anomalies of the innocent."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rootcause.simulate.physics import Conditions
from rootcause.simulate.topology import Floats, System


def wander(t: int, width: int, sigma: float, rng: np.random.Generator, memory: float = 0.8) -> Floats:
    """Log-normal factors that remember, [t, width]."""
    steps = rng.normal(0, sigma * np.sqrt(1 - memory**2), (t, width))
    out = np.empty((t, width))
    out[0] = rng.normal(0, sigma, width)
    for row in range(1, t):
        out[row] = memory * out[row - 1] + steps[row]
    factors: Floats = np.exp(out)
    return factors


def settle(system: System, given: Conditions, base: int, step: float, rng: np.random.Generator) -> None:
    """Ordinary days: a common load with drift and waves, own times that wander, a busy host now and then."""
    t, n = given.load.shape
    common = wander(t, 1, float(rng.uniform(0.02, 0.25)), rng, 0.95)
    phase = np.arange(t) * step / 86400 * 2 * np.pi * rng.uniform(1, 20) + rng.uniform(0, 6)
    swing = 1 + float(rng.uniform(0, 0.4)) * np.sin(phase)
    given.load *= common * swing[:, None] * wander(t, n, 0.08, rng)
    given.own_seconds *= wander(t, n, float(rng.uniform(0.02, 0.25)), rng, float(rng.uniform(0, 0.9)))
    couple = rng.uniform(0, 0.6, n)
    given.own_seconds *= 1 + couple * np.maximum(0, given.load.mean(axis=1, keepdims=True) - 1)
    if rng.random() < 0.5:  # a busy host
        for _ in range(int(rng.integers(1, 4))):
            at = int(rng.integers(0, base))
            given.own_seconds[at:at + int(rng.integers(1, 8))] *= rng.uniform(1.1, 2.5)
    given.own_error += np.where(rng.random(n) < 0.3, rng.exponential(0.004, n), 0.0)
    if rng.random() < 0.4:  # services that have failed for ever, and nobody minds
        given.own_error += np.where(rng.random(n) < 0.08, rng.uniform(0.05, 1.0, n), 0.0)
    if rng.random() < (0.6 if step >= 60 else 0.35):
        _standing(given, base, rng)


def _standing(given: Conditions, base: int, rng: np.random.Generator) -> None:
    """The window of the incident lies on another day than the usual rows, or something changed just before."""
    n = given.load.shape[1]
    since = base if rng.random() < 0.5 else max(1, base - int(rng.integers(3, 20)))
    strong = float(rng.uniform(0.1, 0.6))
    given.load[since:] *= rng.lognormal(0, strong + 0.2)
    given.own_seconds[since:] *= np.where(rng.random(n) < rng.uniform(0.2, 0.8), rng.lognormal(0, strong, n), 1.0)
    given.own_error[since:] += np.where(rng.random(n) < 0.1, rng.exponential(0.01, n), 0.0)


def disturb(fault: str, roots: Sequence[int], system: System, given: Conditions, base: int, step: float,
            rng: np.random.Generator) -> None:
    """Harmless things that do go through the calls: load waves, a busy host, small slowness of the innocent."""
    t, n = given.load.shape
    services = np.flatnonzero(~system.is_store & ~system.is_external)
    if fault == "none_load" or rng.random() < 0.12:
        wave = rng.uniform(1.3, 4.0) if fault == "none_load" else rng.uniform(0.4, 1.8)
        given.load[base:] *= wave
        given.own_seconds[base:] *= 1 + max(0.0, wave - 1) * rng.uniform(0, 0.5, n)
    if fault == "none_host" or rng.random() < 0.12:
        slow = rng.uniform(1.5, 5.0) if fault == "none_host" else rng.uniform(1.1, 1.6)
        given.own_seconds[base:] *= 1 + (slow - 1) * rng.uniform(0.4, 1.0, n)
    if fault == "none_hiccup" or (step <= 10 and rng.random() < 0.1):
        strong = fault == "none_hiccup"
        for victim in rng.choice(services, size=min(len(services), int(rng.integers(1, 3)))).tolist():
            if victim not in roots:
                _hiccup(victim, given, base, step, strong, rng)
    for _ in range(int(rng.poisson(0.7))):  # weaker than a cause, and not the root
        other = int(rng.choice(services))
        if other not in roots:
            at = base + int(rng.integers(-10, t - base))
            rows = slice(max(at, 1), None if rng.random() < 0.5 else max(at, 1) + int(rng.integers(1, 6)))
            given.own_seconds[rows, other] *= rng.uniform(1.1, 1.6)
            given.own_error[rows, other] += rng.exponential(0.01) * float(rng.random() < 0.4)
    if len(system.edges) and rng.random() < 0.35:  # a path that is seldom taken is taken more often, for once
        chances = 1 / (0.02 + system.fanout)
        for e in rng.choice(len(system.edges), size=int(rng.integers(1, 3)), p=chances / chances.sum()).tolist():
            at = base + int(rng.integers(-3, max(1, (t - base) // 2)))
            given.often[max(1, at):, e] = min(float(np.exp(rng.uniform(np.log(1.5), np.log(300)))), 2.0 / system.fanout[e])
    np.clip(given.own_error, 0, 1, out=given.own_error)


def _hiccup(service: int, given: Conditions, base: int, step: float, strong: bool, rng: np.random.Generator) -> None:
    """A pause of a runtime, a cold cache: a few rows at most, over by itself."""
    at = max(1, base + int(rng.integers(-2, 2)))
    rows = slice(at, at + int(rng.integers(1, 8 if step < 60 else 2)))
    given.own_seconds[rows, service] *= np.exp(rng.uniform(np.log(1.5), np.log(12 if strong else 3)))
    given.own_seconds[rows, service] += rng.uniform(0, 0.2) * strong
    given.own_error[rows, service] += rng.uniform(0, 0.3) * float(rng.random() < 0.2) * strong


def blip(service: int, given: Conditions, at: int, step: float, rng: np.random.Generator) -> slice:
    """What a roll-out does while it goes on: a few slow, sometimes failing seconds, here and on the machine it
    shares with the others. Returns the rows."""
    rows = slice(max(1, at), max(1, at) + int(rng.integers(1, 8 if step < 10 else 2)))
    part = min(1.0, float(rng.uniform(5, 20)) / step)  # of a row that is a minute long it fills some seconds
    given.own_seconds[rows, service] *= 1 + part * (np.exp(rng.uniform(0, np.log(10))) - 1)
    if rng.random() < 0.4:
        given.own_error[rows, service] = np.minimum(1.0, given.own_error[rows, service] + part * rng.uniform(0, 0.2))
    if rng.random() < 0.5:
        given.own_seconds[rows] *= 1 + part * rng.uniform(0, 3) * rng.uniform(0, 1, given.load.shape[1])
    return rows
