"""How early warnings are scored: one definition for everybody (docs/early-warning.md). Times are unix seconds."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

LEAST_LEAD = 15 * 60
"""Seconds before the crossing at which a warning is still in time."""
RE_ARM = 15
"""Quiet minutes after which a warning may be given again."""

Verdict = Literal["right", "late", "early", "false", "neutral", "repeat"]


@dataclass(frozen=True)
class Episode:
    """A ramp. `crossing` is when the limit is crossed, or would have been (`cancelled`)."""

    onset: float
    end: float
    crossing: float
    cancelled: bool = False


@dataclass(frozen=True)
class Truth:
    """What is known of a series. `end`: where its scoring ends (the crossing, or the last sample)."""

    id: str
    kind: str
    healthy: bool
    in_scope: bool
    start: float
    end: float
    episodes: tuple[Episode, ...] = ()


@dataclass(frozen=True)
class Told:
    """What a method said of a series, minute by minute (the time at which the minute ends)."""

    at: NDArray[np.float64]
    warns: NDArray[np.bool_]
    eta: NDArray[np.float64]  # predicted median seconds left, NaN: none
    low: NDArray[np.float64]  # 5 %
    high: NDArray[np.float64]  # 95 %


@dataclass
class Tally:
    """Verdicts of one series."""

    truth: Truth
    verdicts: list[tuple[float, Verdict]] = field(default_factory=list)
    leads: list[float] = field(default_factory=list)  # of the first right warning of each episode
    due: int = 0
    covered: float | None = None  # share of the points of the ramp at which the interval held the truth


def edges(told: Told) -> list[int]:
    """Minutes in which a warning begins: the first after 15 quiet ones."""
    out = []
    quiet = float("-inf")
    for i in np.flatnonzero(told.warns).tolist():
        if told.at[i] - quiet > RE_ARM * 60:
            out.append(i)
        quiet = told.at[i]
    return out


def judge(truth: Truth, told: Told) -> Tally:
    """The verdict on each warning of one series."""
    tally = Tally(truth)
    tally.due = sum(not e.cancelled for e in truth.episodes) if truth.in_scope else 0
    done: set[int] = set()
    for i in edges(told):
        w, eta = float(told.at[i]), float(told.eta[i])
        if w > truth.end:
            break
        tally.verdicts.append((w, _verdict(truth, w, eta, done, tally.leads)))
    tally.covered = _coverage(truth, told)
    return tally


def _verdict(truth: Truth, w: float, eta: float, done: set[int], leads: list[float]) -> Verdict:
    for k, e in enumerate(truth.episodes):
        if not e.onset <= w <= e.end:
            continue
        if not truth.in_scope:
            return "neutral"
        if k in done:
            return "repeat"
        lead = e.crossing - w
        if lead < LEAST_LEAD:
            return "late"
        if lead > max(3 * eta, 1800.0):
            return "early"
        if e.cancelled:
            return "neutral"
        done.add(k)
        leads.append(lead)
        return "right"
    return "false" if truth.in_scope or truth.healthy else "neutral"


def _coverage(truth: Truth, told: Told) -> float | None:
    if not truth.in_scope:
        return None
    inside: list[bool] = []
    for e in truth.episodes:
        if e.cancelled:
            continue
        picked = (told.at >= e.onset) & (told.at < e.crossing) & (told.at // 60 % 5 == 0) & (told.eta < 240 * 60)
        picked &= np.isfinite(told.low)  # who gives no interval has no coverage, rather than none of 100 %
        left = e.crossing - told.at[picked]
        inside += ((told.low[picked] <= left) & (left <= told.high[picked])).tolist()
    return float(np.mean(inside)) if inside else None


def summary(tallies: Sequence[Tally]) -> dict[str, float]:
    """precision, recall, lead_s (median), lead_min_s, in_time (of the right ones), false_per_series_day, coverage90."""
    n: Counter[str] = Counter(v for t in tallies for _, v in t.verdicts)
    told = n["right"] + n["early"] + n["late"] + n["false"]
    due = sum(t.due for t in tallies)
    days = sum(max(0.0, t.truth.end - t.truth.start) for t in tallies if t.truth.in_scope or t.truth.healthy) / 86400
    leads = [x for t in tallies for x in t.leads]
    covered = [t.covered for t in tallies if t.covered is not None]
    out: dict[str, float] = {
        "series": len(tallies), "episodes": due, "right": n["right"], "early": n["early"], "late": n["late"],
        "false": n["false"], "neutral": n["neutral"], "series_days": round(days, 1),
        "false_per_series_day": n["false"] / days if days else 0.0}
    if told:
        out["precision"] = n["right"] / told
    if due:
        out["recall"] = n["right"] / due
    if leads:
        out |= {"lead_s": float(np.median(leads)), "lead_min_s": min(leads),
                "lead_15min_share": float(np.mean([x >= LEAST_LEAD for x in leads]))}
    if covered:
        out["coverage90"] = float(np.mean(covered))
    return {k: round(v, 4) for k, v in out.items()}


def by_kind(tallies: Sequence[Tally]) -> Mapping[str, dict[str, float]]:
    """`summary` of each kind."""
    kinds: dict[str, list[Tally]] = defaultdict(list)
    for t in tallies:
        kinds[t.truth.kind].append(t)
    return {kind: summary(kinds[kind]) for kind in sorted(kinds)}
