"""One series of an incident as a line: its values, what had been forecast, its limit and when it is to be crossed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detect.indicators import indicator_of
from detect.types import Breach
from ingest.types import SeriesKey
from opsmend.api.chart_types import ChartSeries, Crossing, Numbers
from opsmend.dashboard.plots import Floats, between, path, room, thin_at
from opsmend.dashboard.timeline import Timeline
from opsmend.dashboard.words import NS, clock, label, quantity, span

POINTS = 100
"""Of a line in the page's own drawing; the browser asks for more once it draws itself."""
_STATES = frozenset({"up", "responsive"})


@dataclass(frozen=True)
class Course:
    """What is known about one series on the clock."""

    key: SeriesKey
    times: NDArray[np.int64]  # [t]
    values: Floats  # [t]
    forecast: Floats  # [t, 3], NaN where there was none
    onset_ns: int = 0
    """Of its first signal; 0: it has none."""
    rank_ns: int = 0
    """Where it stands among the others, if it has none."""
    limit: float | None = None
    breach: Breach | None = None
    is_open: bool = False
    decides: str = ""
    """The suspect that it speaks for or against."""

    @property
    def scale(self) -> tuple[float, float]:
        """(low, high): room around the values, with the limit in sight if it is near or is said to be reached. A band
        may ask for as much again on either side, so that a wide one does not press the line flat."""
        low, high = room(self.key, self.values)
        size, band = high - low, self.forecast[np.isfinite(self.forecast)]
        floor = 0.0 if low >= 0 else -np.inf
        if len(band):
            low, high = max(min(low, float(band.min())), low - size, floor), min(max(high, float(band.max())), high + size)
        if self.limit is not None and (self.breach is not None or self.limit <= high + 2 * size):
            low, high = min(low, self.limit), max(high, self.limit) + 0.06 * (max(high, self.limit) - low)
        return low, high


def told(course: Course, first_ns: int) -> tuple[bool, str]:
    """(is it as usual, `0.2 % → 31 %` or `as usual`): the median before the first sign of all, and the newest. What is
    a sign of the incident itself is never called usual."""
    key, values = course.key, course.values
    before = values[(course.times < first_ns) & np.isfinite(values)]
    since = values[(course.times >= first_ns) & np.isfinite(values)]
    if not len(since):
        return True, quantity(key, float(before[-1])) if len(before) else ""
    newest = float(np.median(since[-3:]))
    if not len(before):
        return False, quantity(key, newest)
    usual = float(np.median(before))
    around = max(abs(usual) * 0.5, 3 * float(np.percentile(before, 90) - np.percentile(before, 10)), 1e-9)
    worst = float(since[int(np.argmax(np.abs(since - usual)))])
    if abs(worst - usual) <= around and not course.onset_ns:
        return True, "as usual"
    is_back = abs(newest - usual) <= around < abs(worst - usual)
    if is_back or (quantity(key, newest) == quantity(key, usual) != quantity(key, worst)):
        return False, f"{quantity(key, worst)}, now {quantity(key, newest)}"
    return False, f"{quantity(key, usual)} → {quantity(key, newest)}"


def expected(course: Course) -> str:
    """`0.1 % to 0.4 %`: what had been forecast for the moment of its first sign, or last; "" without a forecast."""
    there = np.isfinite(course.forecast).all(axis=1)
    if course.onset_ns:
        there &= course.times <= course.onset_ns
    at = np.flatnonzero(there)
    if not len(at) or indicator_of(course.key) in _STATES:
        return ""
    floor = 0.0 if np.nanmin(course.values) >= 0 else -np.inf  # a band may reach where the series never was
    least = (course.scale[1] - course.scale[0]) * 1e-3  # finer than can be seen is nothing
    bounds = [max(float(v), floor) for v in course.forecast[at[-1]]]
    low, _, high = (quantity(course.key, v if abs(v) > least else 0.0) for v in bounds)
    return low if low == high else f"{low} to {high}"


def outside(course: Course, first_ns: int) -> float:
    """Seconds since the first sign of all in which it lay outside of what had been forecast."""
    with np.errstate(invalid="ignore"):
        out = (course.values > course.forecast[:, 2]) | (course.values < course.forecast[:, 0])
    step = float(np.median(np.diff(course.times))) / NS if len(course.times) > 1 else 0.0
    return int((out & (course.times >= first_ns)).sum()) * step


def crossing(course: Course, now_ns: int) -> str:
    """`crosses 14:37 to 14:42`, or what was expected of one whose time has come, or that was withdrawn."""
    b = course.breach
    if b is None:
        return ""
    is_ahead = course.is_open and b.eta_high_ns > now_ns
    low, high = max(b.eta_low_ns, now_ns) if is_ahead else b.eta_low_ns, b.eta_high_ns
    digits = 5 if high - low >= 300 * NS else 8
    return f"{'crosses' if is_ahead else 'crossing was expected'} {clock(low)[:digits]} to {clock(high)[:digits]}"


def line_view(course: Course, line: Timeline, first_ns: int) -> dict[str, Any]:
    """What the template `chart` shows of it, as SVG paths on WIDTH x `height`."""
    key = course.key
    quiet, words = told(course, first_ns)
    low, high = course.scale
    height = 84 if course.breach is not None else 34 if quiet else 56
    at = thin_at(course.values, POINTS)
    left, right = (line.x(float(course.times[i])) for i in (0, -1))
    band = course.forecast[at[::2]]  # smooth: every second point is enough

    def y(value: float) -> float:
        return round(height - 2 - (value - low) / (high - low or 1.0) * (height - 4), 1)

    view = {"id": f"{key.service}|{key.name}|{key.instance}|{key.peer}", "service": key.service, "label": label(key),
            "name": key.name, "instance": key.instance, "words": words, "quiet": quiet, "height": height,
            "path": path(course.values[at], low, high, right, height, left),
            "band": between(band[:, 0], band[:, 2], low, high, right, height, left),
            "middle": path(np.clip(band[:, 1], low, high), low, high, right, height, left),
            "onset": line.x(course.onset_ns) if course.onset_ns >= line.start else None,
            "decides": course.decides,
            "onset_ns": course.onset_ns, "expected": expected(course), "outside": outside(course, first_ns),
            "limit": course.limit, "limit_y": None, "limit_word": "", "crossing": "", "is_open": course.is_open}
    if course.limit is not None:
        view["limit_word"] = quantity(key, course.limit)
        view["limit_y"] = y(course.limit) if low <= course.limit <= high else None
    if course.breach is not None:
        b, now, is_ahead = course.breach, line.now, course.is_open and course.breach.eta_high_ns > line.now
        view["crossing"] = crossing(course, now)
        first, middle, last = (line.x(max(t, now) if is_ahead else t) for t in (b.eta_low_ns, b.eta_ns, b.eta_high_ns))
        if (top := view["limit_y"]) is not None and b.eta_high_ns > line.start:
            here = f"M{line.x(now)} {y(b.current)}"
            view |= {"low_x": first, "high_x": max(last, first + 3)}
            if is_ahead and line.end > now:
                view |= {"cone": f"{here}L{first} {top}L{last} {top}Z", "ahead": f"{here}L{middle} {top}"
                         if b.eta_ns < line.end else ""}
    view["said"] = " ".join(_said(view))
    return view


def _said(view: dict[str, Any]) -> list[str]:
    """The chart in words: its label for those who do not see it."""
    said = [f"{view['words']}." if view["words"] else "No value."]
    if view["onset_ns"]:
        said.append(f"First sign {clock(view['onset_ns'])}.")
    if view["expected"]:
        out = f", outside of it for {span(view['outside'])}" if view["outside"] else ""
        said.append(f"Forecast {view['expected']}{out}.")
    if view["limit_word"]:
        said.append(f"Limit {view['limit_word']}.")
    if view["crossing"]:
        said.append(f"Prediction: {view['crossing']}.")
    return said


def line_json(course: Course, line: Timeline, first_ns: int, at: NDArray[np.int64]) -> ChartSeries:
    """What the browser draws: values and forecasts at the moments `at`, thinned so that peaks stay."""
    key, (low, high) = course.key, course.scale
    quiet, _ = told(course, first_ns)
    chosen = thin_at(course.values, len(at))
    least, middle, most = (_numbers(course.forecast[chosen, q], high - low) for q in range(3))
    crossing = None
    if (b := course.breach) is not None:
        is_ahead = course.is_open and b.eta_high_ns > line.now
        low_ns, middle_ns = (max(t, line.now) if is_ahead else t for t in (b.eta_low_ns, b.eta_ns))
        crossing = Crossing(low_ns / NS, middle_ns / NS, b.eta_high_ns / NS, is_ahead, b.current, line.now / NS)
    return ChartSeries(
        f"{key.service}|{key.name}|{key.instance}|{key.peer}", key.service, key.name, key.instance, key.peer, label(key),
        course.decides, quiet, low, high, _numbers(course.values[chosen], high - low), (least, middle, most),
        course.onset_ns / NS or None, course.limit, crossing)


def _numbers(values: Floats, size: float) -> Numbers:
    """As fine as can be seen on a scale of `size`."""
    places = 3 - int(np.floor(np.log10(size))) if size > 0 else 6
    return tuple(round(v, places) if np.isfinite(v) else None for v in values.tolist())
