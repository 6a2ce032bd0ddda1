"""Did it work? A verdict of three values: fixed, not_fixed, cannot_tell.

Looked at: what the incident was about (its strong signals' own series), and whether what users meet became
worse. Zero samples are never a success; a system that was well before the action took effect proves nothing
about the action.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from detect.indicators import indicator_of
from detect.types import LEVEL_KINDS, Incident, Observations, Signal
from ingest.types import SeriesKey
from remediate.types import Verdict
from rootcause.types import ServiceGraph

_NS = 10**9
_STRONG = 0.5
_LATELY = 5
"""Points right before the action that say whether it was still bad then."""
Column = NDArray[np.float64]


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
    extensions: int = 2
    """How often the watch goes on for another `watch_seconds` while things are getting better but are not well
    yet: a queue that drains is not a repair that failed."""
    good_share: float = 0.8
    """Share of watched points that must be back in the usual range, 0..1."""
    least_samples: float = 0.5
    """Share of the usual density of samples below which a series counts as not seen, 0..1."""


@dataclass(frozen=True)
class Judgement:
    """The verdict with its grounds. `before`, `after`: means per indicator, keyed `service/series`."""

    verdict: Verdict
    why: str
    before: dict[str, float]
    after: dict[str, float]
    is_improving: bool = False
    """Not well yet, but every series that is still bad has come back a good part of the way."""


def felt_by(graph: ServiceGraph, target: str) -> frozenset[str]:
    """The target and what users meet: services that call others and that nobody calls."""
    callers, callees = {a for a, _ in graph.edges}, {b for _, b in graph.edges}
    return frozenset({target} | (callers - callees - graph.external))


def concerning(incident: Incident, graph: ServiceGraph, target: str) -> Incident:
    """The incident with those of its signals that a repair of `target` could end: on it, and on all that call it,
    directly or not. All of them where none are. A second fault elsewhere must not undo the repair of the first."""
    related, waiting = {target}, [target]
    while waiting:
        for caller in graph.callers(waiting.pop()):
            if caller not in related:
                related.add(caller)
                waiting.append(caller)
    mine = tuple(s for s in incident.signals
                 if (s.service in related and (not s.peer or s.peer in related or s.service == target)))
    return msgspec.structs.replace(incident, signals=mine) if mine else incident


def judge(incident: Incident, seen: Observations, acted_ns: int, started_ns: int, config: VerifyConfig, *,
          felt_by: frozenset[str] = frozenset()) -> Judgement:
    """Compare the watch window with the baseline. Pure; `seen` must reach from baseline to the end of the watch."""
    watch_from = acted_ns + int(config.settle_seconds * _NS)
    first = incident.first_signal_ns
    base = (seen.ts_ns >= first - int((config.baseline_seconds + 5) * _NS)) & (seen.ts_ns < first - 5 * _NS)
    broken = (seen.ts_ns >= first) & (seen.ts_ns <= started_ns)
    watch = (seen.ts_ns >= watch_from) & (seen.ts_ns < watch_from + int(config.watch_seconds * _NS))
    strong = [s for s in incident.signals if s.score >= _STRONG] or list(incident.signals)
    # A level may stay where something pushed it (memory that is not given back): it decides only where nothing
    # else was wrong.
    strong = [s for s in strong if s.kind not in LEVEL_KINDS] or strong
    before: dict[str, float] = {}
    after: dict[str, float] = {}
    bad: list[str] = []
    judged = was_bad = was_seen = stuck = 0
    for key, column in _together(seen):
        usual, wrong, now = (_finite(column[rows]) for rows in (base, broken, watch))
        signals = [s for s in strong if _concerns(s, key)]
        name = f"{key.service}{'>' + key.peer if key.peer else ''}/{key.name}"
        if not signals:
            if (key.service in felt_by and not key.peer and indicator_of(key) == "errors" and len(now) and len(wrong)
                    and float(_good(key, wrong, usual, ()).mean()) >= config.good_share > float(
                        _good(key, now, usual, ()).mean())):
                bad.append(f"{name} became {_mean(now):.3g}")
                stuck += 1
            continue
        density = len(usual) / max(1, int(base.sum())) if len(usual) else 1.0
        if len(now) == 0 or len(now) < config.least_samples * density * int(watch.sum()):
            continue
        judged += 1
        after[name] = _mean(now)
        if len(wrong):
            before[name] = _mean(wrong)
            was_seen += 1
            was_bad += not bool(_good(key, wrong if _grows(key) else wrong[-_LATELY:], usual, signals, wrong).all())
        if float(_good(key, now, usual, signals, wrong).mean()) < config.good_share:
            bad.append(f"{name} is {_mean(now):.3g}, usually {_mean(usual):.3g}")
            stuck += not _is_coming_back(usual, wrong, now)
    if judged == 0:
        return Judgement("cannot_tell", "no samples of what was wrong", before, after)
    if bad:
        return Judgement("not_fixed", "; ".join(sorted(bad)[:3]), before, after, is_improving=stuck == 0)
    if was_seen == 0:
        return Judgement("cannot_tell", "no samples of the fault itself", before, after)
    if was_bad == 0:
        return Judgement("cannot_tell", "it was well again before the action took effect", before, after)
    return Judgement("fixed", f"{judged} series are back in their usual range", before, after)


def _together(seen: Observations) -> list[tuple[SeriesKey, Column]]:
    """Instances of a service as one column: they come and go with restarts and releases. The worst counts:
    the lowest `up` and `responsive`, the sum of log lines, the highest of the rest."""
    groups: dict[SeriesKey, list[int]] = {}
    for at, key in enumerate(seen.series):
        groups.setdefault(SeriesKey(key.service, key.name, peer=key.peer), []).append(at)
    out = []
    for key, columns in groups.items():
        table = seen.values[:, columns]
        some = np.isfinite(table).any(axis=1)
        filled = np.where(np.isfinite(table), table, np.nan)
        column = np.full(len(table), np.nan)
        if indicator_of(key) in ("up", "responsive"):
            column[some] = np.nanmin(filled[some], axis=1)
        elif key.name == "log.lines_per_second":
            column[some] = np.nansum(filled[some], axis=1)
        else:
            column[some] = np.nanmax(filled[some], axis=1)
        out.append((key, column))
    return out


def _concerns(signal: Signal, key: SeriesKey) -> bool:
    """The series that a signal is about; for process states, being up, answering and not restarting."""
    if signal.service != key.service or signal.peer != key.peer:
        return False
    indicator = indicator_of(key)
    match signal.kind:
        case "process.down" | "hang":
            return indicator in ("up", "responsive")
        case "crash_loop":
            return indicator in ("up", "responsive", "restarts")
        case "lock_wait" | "cache_full":
            return indicator == signal.kind and "blockers" not in key.name
        case "log_rate":
            return key.name == "log.lines_per_second"
        case "error_ratio":
            return indicator == "errors"
        case "latency" | "cpu" | "memory" | "saturation" | "metric_anomaly" | "traffic":
            return key.name == signal.series
        case "breach":
            return signal.breach is not None and key.name == signal.breach.series
    return False


def _finite(values: Column) -> Column:
    return values[np.isfinite(values)]


def _mean(values: Column) -> float:
    """0 for none; huge values are cut, so that the sum is still a number that can be stored."""
    return float(np.clip(values, -1e150, 1e150).mean()) if len(values) else 0.0


def _grows(key: SeriesKey) -> bool:
    return indicator_of(key) == "restarts"


def _is_coming_back(usual: Column, wrong: Column, now: Column) -> bool:
    """Whether the last third of the watch is at least a third of the way from the fault to the usual level."""
    if not (len(usual) and len(wrong) and len(now)):
        return False
    goal, start, here = float(np.median(usual)), _mean(wrong[-_LATELY:]), _mean(now[-max(1, len(now) // 3):])
    return abs(start - goal) > 0 and (start - here) / (start - goal) > 1 / 3


def _good(key: SeriesKey, now: Column, usual: Column, signals: Sequence[Signal],
          wrong: Column | None = None) -> NDArray[np.bool_]:
    """Which points are back in the usual range; see each indicator. `wrong`: the points of the fault."""
    indicator = indicator_of(key)
    if indicator in ("up", "responsive"):
        return np.asarray(now > 0.5)
    if indicator == "restarts":  # a count: what matters is whether it stands still
        return np.full(len(now), bool(now.max() <= now.min()))
    kinds = {s.kind for s in signals}
    level = float(np.quantile(usual, 0.9)) if len(usual) else min((s.usual or 0.0 for s in signals), default=0.0)
    if kinds & {"breach", "memory"}:
        # Growth that was met before it hurt: what counts is that at least half of the rise is gone.
        sign = -1.0 if any(s.breach is not None and s.breach.direction == "down" for s in signals) else 1.0
        usually = sign * (float(np.median(usual)) if len(usual) else level)
        peak = max(usually, float((sign * wrong[-_LATELY:]).max())) if wrong is not None and len(wrong) else usually
        return np.asarray(sign * now <= max(usually + (peak - usually) / 2, usually + 0.05 * abs(usually)))
    if indicator == "errors":
        return np.asarray(now <= max(0.05, 2 * level))
    if indicator == "latency":
        return np.asarray(now <= max(2 * level, level + 0.1))
    if indicator in ("cpu", "saturation", "usage"):
        return np.asarray(now <= max(1.5 * level, level + 0.1))
    if key.name == "log.lines_per_second":
        return np.asarray(now <= max(3 * level, level + 30))
    if "metric_anomaly" in kinds or "traffic" in kinds:  # unusual in either direction
        middle = float(np.median(usual)) if len(usual) else level
        spread = 1.48 * float(np.median(np.abs(usual - middle))) if len(usual) else 0.0
        return np.asarray(np.abs(np.clip(now, -1e150, 1e150) - middle) <= max(4 * spread, 0.25 * abs(middle), 1e-9))
    return np.asarray(now <= max(level, 1e-9))


def window_of(incident: Incident, acted_ns: int, config: VerifyConfig) -> tuple[int, int]:
    """(start, end) of the observations that `judge` needs."""
    start = incident.first_signal_ns - int((config.baseline_seconds + 6) * _NS)
    end = acted_ns + int((config.settle_seconds + config.watch_seconds) * _NS)
    return start, end
