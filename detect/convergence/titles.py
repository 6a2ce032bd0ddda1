"""What an incident is called: what users suffer, in one sentence."""

from __future__ import annotations

from collections.abc import Sequence

from detect.types import Severity, Signal

_RANK = {"process.down": 0, "hang": 1, "error_ratio": 2, "crash_loop": 3, "lock_wait": 4, "cache_full": 5,
         "alert": 6, "latency": 7, "saturation": 8, "breach": 9, "log_rate": 10, "cpu": 11, "memory": 12,
         "traffic": 13, "metric_anomaly": 14, "log_template": 15}


def title_of(signals: Sequence[Signal], entries: frozenset[str]) -> str:
    """The worst user-facing signal as a sentence; else the worst of all."""
    open_ones = [s for s in signals if s.is_open] or list(signals)
    felt = [s for s in open_ones if s.service in entries and s.kind in ("error_ratio", "latency", "process.down")]
    telling = [s for s in open_ones if s.score >= 0.5] or list(signals)
    worst = min(felt or telling, key=lambda s: (_RANK[s.kind], bool(s.peer), -s.score, s.start_ns, s.service))
    return _sentence(worst)


def _sentence(s: Signal) -> str:
    name, value, usual = s.service, s.value or 0.0, s.usual or 0.0
    match s.kind:
        case "process.down":
            return f"{name} is down"
        case "hang":
            return f"{name} does not answer"
        case "crash_loop":
            return f"{name} keeps crashing"
        case "error_ratio":
            where = f"calls from {name} to {s.peer} fail" if s.peer else f"{name} fails"
            return f"{where} for {value:.0%} of requests"
        case "latency":
            where = f"{s.peer} is slow for {name}" if s.peer else f"{name} is slow"
            return f"{where}: {value:.2g} s, usually {usual:.2g} s"
        case "lock_wait":
            return f"{name}: {value:.0f} sessions wait for a lock"
        case "cache_full":
            return f"{name} is full and refuses writes"
        case "log_rate":
            return f"{name} writes {value:.0f} log lines a second, usually {usual:.0f}"
        case "breach":
            return f"{name}: {s.series} runs into its limit"
        case "alert":
            return f"{s.series[:80]} on {name}"
        case "log_template":
            return f"{name} logs a message never seen before"
        case _:
            return f"{name}: {s.series or s.kind} is unusual"


def severity_of(signals: Sequence[Signal], entries: frozenset[str]) -> Severity:
    """critical: users feel it, or a process is gone; info: only a forecast; warning: the rest."""
    open_ones = [s for s in signals if s.is_open] or list(signals)
    for s in open_ones:
        if s.kind in ("process.down", "hang", "crash_loop") or (s.kind == "error_ratio" and s.service in entries):
            return "critical"
        if s.kind == "alert" and s.score >= 0.9:
            return "critical"
    return "info" if all(s.kind == "breach" for s in open_ones) else "warning"
