"""Puts a series together: a calm curve, perhaps ramps into the limit, and what a scrape makes of it."""

from __future__ import annotations

import math
from typing import Final, NamedTuple

import numpy as np
from scipy.signal import lfilter

from detect.breach.scoring import Episode, Truth
from detect.breach.series import Recorded, by_minute
from detect.breach.synthetic.calm import CALM, Curve, Rng, log_uniform, mixed, teeth
from detect.breach.synthetic.leaks import LEAKS

_STEPS: Final = (5, 10, 15, 15, 20, 30, 30, 60, 60, 60, 120, 300)
_START: Final = 1_700_000_000
IN_SCOPE_MINUTES: Final = 20
"""A ramp that takes less is not one that can be warned of."""


def make_series(rng: Rng, name: str, *, breaching: bool, calm: tuple[str, ...] = tuple(CALM),
                leaks: tuple[str, ...] = tuple(LEAKS), steps: tuple[int, ...] = _STEPS) -> Recorded:
    """One series of 5 to 60 hours, by the minute."""
    minutes = int(log_uniform(rng, 5, 60) * 60)
    t = np.arange(minutes, dtype=np.float64)
    step = int(rng.choice(steps))
    if not breaching:
        kind, clean = mixed(rng, t, calm)
        clean = np.minimum(clean, 0.99)
        counted = _counts(rng, t, clean, step, math.inf) if kind.startswith("load") or rng.random() < 0.04 else None
        truth = Truth(name, kind, True, False, _START, _START + minutes * 60.0)
    else:
        kind, clean, spans = _ramps(rng, t, calm, leaks)
        counted = _counts(rng, t, clean, step, spans[-1][0]) if kind.startswith(("load", "pool")) else None
        if counted is not None:  # a count crosses when one of its peaks does
            spans[-1] = (spans[-1][0], counted.crossing, counted.crossing, False)
        episodes = tuple(Episode(_START + 60 * a, _START + 60 * b, _START + 60 * c, d) for a, b, c, d in spans)
        crossing = episodes[-1].crossing
        in_scope = crossing - episodes[-1].onset >= 60 * IN_SCOPE_MINUTES
        truth = Truth(name, kind, False, in_scope, _START, crossing, episodes)
        kept = t <= max(1.0, (crossing - _START) / 60)
        t, clean = t[kept], clean[kept]
    return _scraped(rng, truth, t, clean, step, counted)


class _Counted(NamedTuple):
    limit: float
    t: Curve
    counts: Curve
    crossing: float


def _counts(rng: Rng, t: Curve, clean: Curve, step: int, onset: float) -> _Counted:
    """How many are in use, with the noise of counts, which has a memory: one stays for seconds or minutes."""
    limit = float(round(log_uniform(rng, 20, 1000)))
    fine = np.arange(0.0, t[-1], min(step, 15) / 60)
    mean = np.interp(fine, t, clean) * limit
    keep = math.exp(-min(step, 15) / log_uniform(rng, 5, 250))
    noise = lfilter([math.sqrt(1 - keep * keep)], [1.0, -keep], rng.standard_normal(len(fine)))
    counts = np.round(np.maximum(0.0, mean + noise * np.sqrt(mean * rng.uniform(0.3, 1.0))))
    counts = np.where(fine < onset, np.minimum(counts, limit - 1), counts)
    crossed = np.flatnonzero(counts >= limit)
    return _Counted(limit, fine, counts, float(fine[crossed[0]]) if len(crossed) else float(t[-1]))


def _ramps(rng: Rng, t: Curve, calm: tuple[str, ...], leaks: tuple[str, ...]) -> tuple[
        str, Curve, list[tuple[float, float, float, bool]]]:
    """Kind, clean usage, [(onset, end, crossing, cancelled)] in minutes; the last one crosses."""
    leak = str(rng.choice(leaks))
    minutes = min(log_uniform(rng, 21, 60) if rng.random() < 0.15 else log_uniform(rng, 21, 1500), 0.95 * t[-1])
    end = float(rng.uniform(0.75, 1.0) * t[-1])
    onset = 0.0 if rng.random() < 0.06 else max(1.0, end - minutes)
    minutes = min(minutes, end - onset) if onset else minutes
    style = rng.random()
    if style < 0.13:  # teeth on a floor that rises
        base, kind = teeth(rng, t), "teeth"
        base = 0.9 * base
    else:
        kind, base = mixed(rng, t, calm)
        if 0.13 <= style < 0.28:  # connections that are not given back, under a load
            base, kind = CALM["load"](rng, t), "pool"
        elif style < 0.38:  # little or nothing until then: queues
            base, kind = base * rng.uniform(0.0, 0.15), "idle"
        elif onset == 0.0:
            base, kind = np.full(len(t), rng.uniform(0.0, 0.5)), "from_start"
        elif style < 0.75:
            base, kind = np.full(len(t), rng.uniform(0.05, 0.8)), "flat"
    base = base * min(1.0, rng.uniform(0.3, 0.85) / max(float(base.max()), 1e-9))
    height = max(0.08, 1.0 - float(np.median(base[int(onset):int(end) + 1])))
    x = (t - onset) / max(minutes, 1.0)
    ramp = np.where(x >= 0, LEAKS[leak](rng, np.maximum(x, 0.0), minutes), 0.0) * height
    clean = base + ramp
    crossed = np.flatnonzero((clean >= 1.0) & (t >= onset))
    while not len(crossed):  # the base fell, or the ramp came too late: a steeper one
        ramp = ramp * 1.3 + np.where(x >= 0, 0.01 * x, 0.0)
        clean = base + ramp
        crossed = np.flatnonzero((clean >= 1.0) & (t >= onset))
    crossing = float(t[crossed[0]])
    spans = [(onset, crossing, crossing, False)]
    if rng.random() < 0.15 and onset > 60:  # an earlier one, ended by a restart
        first = float(rng.uniform(0.0, 0.6) * onset)
        stop = float(min(onset - 1, first + rng.uniform(0.3, 0.85) * (crossing - onset)))
        earlier = np.where((t >= first) & (t < stop), np.interp(t - first, t - onset, ramp, left=0.0), 0.0)
        if np.max(base + earlier) < 0.97 and stop - first > 5:
            clean = clean + earlier
            spans.insert(0, (first, stop, first + crossing - onset, True))
    return f"{kind}/{leak}", clean, spans


def _scraped(rng: Rng, truth: Truth, t: Curve, clean: Curve, step: int,
             counted: _Counted | None) -> Recorded:
    """Samples at their times: noise, rounding, drop-outs, gaps, spikes; and a limit in units."""
    at = _START + np.arange(0.0, t[-1] * 60 + 1, step) + rng.uniform(-0.1, 0.1) * step
    at = at + rng.uniform(-0.05, 0.05, len(at)) * step
    share = np.interp((at - _START) / 60, t, clean)
    up = rng.random() > 0.08
    if counted is not None:
        limit = counted.limit
        here = np.clip(np.searchsorted(counted.t, (at - _START) / 60, side="right") - 1, 0, len(counted.t) - 1)
        values = counted.counts[here]
    else:
        limit = 100.0 if rng.random() < 0.3 else log_uniform(rng, 50, 1e5)
        sd = log_uniform(rng, 2e-4, 0.03) * limit
        noise = rng.standard_normal(len(at)) if rng.random() < 0.8 else rng.standard_t(3, len(at))
        if rng.random() < 0.25:  # noise with a memory of some samples
            keep = rng.uniform(0.3, 0.95)
            for i in range(1, len(noise)):
                noise[i] = keep * noise[i - 1] + np.sqrt(1 - keep * keep) * noise[i]
        values = share * limit + sd * noise * (np.sqrt(share.clip(0.01)) if rng.random() < 0.3 else 1.0)
        if rng.random() < 0.4:
            values = np.round(values)
    if rng.random() < 0.3:
        hit = rng.random(len(at)) < log_uniform(rng, 1e-4, 0.01)
        values = np.where(hit, rng.uniform(0.0, 1.0, len(at)) * limit if rng.random() < 0.4 else 0.0, values)
    values = np.clip(values, 0, limit)
    kept = rng.random(len(at)) > (rng.uniform(0, 0.2) if rng.random() < 0.3 else 0.0)
    for _ in range(int(rng.poisson(0.7))):
        begin = rng.uniform(at[0], at[-1])
        kept &= (at < begin) | (at > begin + log_uniform(rng, 60, 7200))
    if not up:  # what is left, running down to nought
        return by_minute(truth, at[kept], limit - values[kept], 0.0, up=False)
    return by_minute(truth, at[kept], values[kept], limit, up=True)


def make_many(n: int, seed: int, *, share: float = 0.5, calm: tuple[str, ...] = tuple(CALM),
              leaks: tuple[str, ...] = tuple(LEAKS), steps: tuple[int, ...] = _STEPS) -> list[Recorded]:
    """`n` series, a share of them breaching. Each has a seed of its own, so a longer list begins like a shorter."""
    out = []
    for k in range(n):
        rng = np.random.default_rng([seed, k])
        out.append(make_series(rng, f"s{seed}-{k}", breaching=k % 100 < 100 * share, calm=calm, leaks=leaks,
                               steps=steps))
    return [s for s in out if len(s.ticks) > 10]


