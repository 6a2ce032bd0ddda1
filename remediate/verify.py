"""Did it work? A verdict of three values: fixed, not_fixed, cannot_tell.

Looked at: what the incident was about (its signals' own series) and the error ratio of the services that
users meet. Zero samples are never a success; a system that was well before the action took effect proves
nothing about the action.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from detect.indicators import indicator_of
from detect.types import Incident, Observations, Signal
from ingest.types import SeriesKey
from remediate.types import Verdict

_NS = 10**9


@dataclass(frozen=True)
class VerifyConfig:
    """Windows of event time, in seconds."""

    baseline_seconds: float = 60.0
    """Before the first sign."""
    settle_seconds: float = 20.0
    """After the action, not looked at."""
    watch_seconds: float = 60.0
    """After settling; what is judged."""
    patience_seconds: float = 60.0
    """Wall clock beyond the windows before telemetry counts as silent."""
    good_share: float = 0.8
    """Share of watched points that must be back in the usual range, 0..1."""


@dataclass(frozen=True)
class Judgement:
    """The verdict with its grounds. `before`, `after`: means per indicator, keyed `service/series`."""

    verdict: Verdict
    why: str
    before: dict[str, float]
    after: dict[str, float]


def judge(incident: Incident, seen: Observations, acted_ns: int, started_ns: int, config: VerifyConfig) -> Judgement:
    """Compare the watch window with the baseline. Pure; `seen` must reach from baseline to the end of the watch."""
    watch_from = acted_ns + int(config.settle_seconds * _NS)
    base = (seen.ts_ns >= incident.first_signal_ns - int((config.baseline_seconds + 5) * _NS)) & (
        seen.ts_ns < incident.first_signal_ns - 5 * _NS)
    broken = (seen.ts_ns >= incident.first_signal_ns) & (seen.ts_ns <= started_ns)
    watch = (seen.ts_ns >= watch_from) & (seen.ts_ns < watch_from + int(config.watch_seconds * _NS))
    before: dict[str, float] = {}
    after: dict[str, float] = {}
    bad: list[str] = []
    judged = healed_early = was_broken = 0
    for at, key in enumerate(seen.series):
        signals = [s for s in incident.signals if _concerns(s, key)]
        if not signals:
            continue
        column = seen.values[:, at]
        usual, now, wrong = (_finite(column[m]) for m in (base, watch, broken))
        if len(now) == 0:
            continue
        name = f"{key.service}{'>' + key.peer if key.peer else ''}/{key.name}"
        judged += 1
        before[name], after[name] = float(wrong.mean() if len(wrong) else np.nan), float(now.mean())
        good = _is_good(key, now, usual, signals)
        if float(good.mean()) < config.good_share:
            bad.append(f"{name} is {now.mean():.3g}, usually {usual.mean() if len(usual) else 0:.3g}")
        if len(wrong):
            last = wrong[-3:]
            was_broken += 1
            healed_early += bool(_is_good(key, last, usual, signals).all())
    clean = {k: v for k, v in before.items() if np.isfinite(v)}
    if judged == 0:
        return Judgement("cannot_tell", "no samples of what was wrong", clean, after)
    if bad:
        return Judgement("not_fixed", "; ".join(sorted(bad)[:3]), clean, after)
    if was_broken and healed_early == was_broken:
        return Judgement("cannot_tell", "it was well again before the action took effect", clean, after)
    return Judgement("fixed", f"{judged} series are back in their usual range", clean, after)


def _concerns(signal: Signal, key: SeriesKey) -> bool:
    """The series that a signal is about; for process states, being up and answering."""
    if signal.service != key.service or signal.peer != key.peer:
        return False
    indicator = indicator_of(key)
    match signal.kind:
        case "process.down" | "hang" | "crash_loop":
            return indicator in ("up", "responsive")
        case "lock_wait" | "cache_full":
            return indicator == signal.kind and "blockers" not in key.name
        case "log_rate":
            return key.name == "log.lines_per_second"
        case "error_ratio":
            return indicator == "errors"
        case "latency" | "cpu" | "memory" | "saturation":
            return key.name == signal.series
    return False


def _finite(values: np.ndarray[tuple[int], np.dtype[np.float64]]) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return values[np.isfinite(values)]


def _is_good(key: SeriesKey, now: np.ndarray[tuple[int], np.dtype[np.float64]],
             usual: np.ndarray[tuple[int], np.dtype[np.float64]], signals: Sequence[Signal]
             ) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    indicator = indicator_of(key)
    if indicator in ("up", "responsive"):
        return np.asarray(now > 0.5)
    level = float(np.quantile(usual, 0.9)) if len(usual) else min((s.usual or 0.0) for s in signals)
    if indicator == "errors":
        return np.asarray(now <= max(0.05, 2 * level))
    if indicator == "latency":
        return np.asarray(now <= max(2 * level, level + 0.1))
    if indicator in ("cpu", "memory", "saturation", "usage"):
        return np.asarray(now <= max(1.5 * level, level + 0.1))
    if key.name == "log.lines_per_second":
        return np.asarray(now <= max(3 * level, level + 30))
    return np.asarray(now <= max(level, 1e-9))


def window_of(incident: Incident, acted_ns: int, config: VerifyConfig) -> tuple[int, int]:
    """(start, end) of the observations that `judge` needs."""
    start = incident.first_signal_ns - int((config.baseline_seconds + 6) * _NS)
    end = acted_ns + int((config.settle_seconds + config.watch_seconds) * _NS)
    return start, end
