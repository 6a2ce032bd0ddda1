"""Times, durations, shares and series in words, as the pages write them."""

from __future__ import annotations

import math
import re
from typing import Any

from detect.indicators import indicator_of
from ingest.types import SeriesKey
from opsmend.api.present import rfc3339

NS = 10**9
_LABELS = {"up": "process up", "responsive": "answers", "errors": "errors", "latency": "latency", "traffic": "requests",
           "cpu": "CPU", "memory": "memory", "lock_wait": "lock waits", "restarts": "restarts",
           "cache_full": "refused writes"}
_KINDS = {"process.down": "process is gone", "hang": "does not answer", "crash_loop": "exits again and again",
          "error_ratio": "requests fail", "latency": "slower than usual", "traffic": "unusual traffic",
          "saturation": "a resource is used up", "cpu": "unusual CPU", "memory": "unusual memory",
          "lock_wait": "sessions wait for a lock", "cache_full": "cache is full", "log_rate": "unusually many log lines",
          "log_template": "log message never seen before", "metric_anomaly": "left its forecast",
          "breach": "limit will be crossed", "alert": "alert"}


_HIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]")
"""Control characters, and marks that have no width or turn text around: with them one name looks like another."""


def visible(value: Any) -> Any:
    """What a page writes of `value`: text with every hidden character shown as one.

    >>> visible("cart\\x00"), visible("\\u202egnp.exe"), visible(7)
    ('cart\ufffd', '\ufffdgnp.exe', 7)
    """
    return _HIDDEN.sub("\ufffd", value) if type(value) is str else value


def clock(ts_ns: int) -> str:
    """HH:MM:SS UTC of event time, "–" for 0."""
    return (rfc3339(ts_ns) or "")[11:19] or "–"


def minute(ts_ns: int) -> str:
    """HH:MM UTC."""
    return clock(ts_ns)[:5]


def span(seconds: float) -> str:
    """A duration in at most two units: `40 s`, `2 min 14 s`, `3 h 5 min`, `9 d`.

    >>> span(134), span(0.4), span(7260)
    ('2 min 14 s', '0.4 s', '2 h 1 min')
    """
    if not math.isfinite(seconds):
        return "–"
    seconds = max(0.0, seconds)
    if seconds < 9.95:
        return f"{seconds:.1f}".removesuffix(".0") + " s"
    whole = round(seconds)
    for size, big, small, small_size in ((86_400, "d", "h", 3600), (3600, "h", "min", 60), (60, "min", "s", 1)):
        if whole >= size:
            rest = whole % size // small_size
            return f"{whole // size} {big}" + (f" {rest} {small}" if rest and whole < 10 * size else "")
    return f"{whole} s"


def share(p: float) -> str:
    """A share of 1 as per cent: `83 %`, `0.2 %`, `0 %`."""
    percent = 100 * p
    return f"{percent:.1f} %" if 0.05 <= percent < 0.95 else f"{percent:.0f} %"


def likely(p: float) -> str:
    """A probability that was estimated: never 0 % and never 100 %."""
    return "<1 %" if p < 0.005 else ">99 %" if p > 0.995 else share(round(p, 2))


def number(value: float) -> str:
    """Three digits, thousands apart by a space: `41 200`, `0.083`.

    >>> number(41200.4), number(0.0834), number(14.0)
    ('41 200', '0.0834', '14')
    """
    if not math.isfinite(value):
        return "–"
    if abs(value) >= 1000:
        return f"{value:,.0f}".replace(",", " ")
    return f"{value:.3g}"


def quantity(key: SeriesKey, value: float) -> str:
    """A series' value with its unit, from what its name means."""
    match indicator_of(key):
        case "errors":
            return share(value)
        case "latency":
            return span(value) if value >= 1 else f"{1000 * value:.0f} ms"
        case "up" | "responsive" as state:
            return ("up" if value > 0.5 else "down") if state == "up" else "yes" if value > 0.5 else "no"
        case "memory" if value > 1e6:
            return f"{number(value / 1e6)} MB"
        case _:
            return number(value)


def label(key: SeriesKey) -> str:
    """What a series is called beside its service; its full name where its meaning is not known."""
    indicator = indicator_of(key)
    word = _LABELS.get(indicator, key.name.replace("_", " "))
    if indicator == "latency":
        word = next((q for q in ("p50", "p90", "p95", "p99") if q in key.name), word)
    return f"{word} of calls to {key.peer}" if key.peer else word


def kind_words(kind: str) -> str:
    """A signal's kind as people say it."""
    return _KINDS.get(kind, kind)


def plural(count: int, one: str, many: str = "") -> str:
    """`1 service`, `3 services`."""
    return f"{count} {one if count == 1 else many or one + 's'}"


def change_words(kind: str, ref: str) -> str:
    """`release 4.2.0`, `configuration change`: what was changed."""
    word = {"rollout": "release", "config": "configuration change", "scale": "scaling", "start": "start",
            "exit": "exit", "action": "repair"}.get(kind, kind)
    return f"{word} {ref}".strip()
