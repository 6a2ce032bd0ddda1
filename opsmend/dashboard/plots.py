"""Lines and bands as SVG paths, laid out on the server, and the series behind the charts."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from detect.indicators import indicator_of
from detect.types import Breach
from ingest.types import SeriesKey

Floats = NDArray[np.float64]
_LEAST_ROOM = {"errors": 0.05, "up": 0.6, "responsive": 0.6, "latency": 0.1, "cpu": 0.2}


def room(key: SeriesKey, values: Floats) -> tuple[float, float]:
    """(low, high) of the vertical scale. A quiet series must look quiet: around the usual value there is always room
    for a quarter of it, for eight times its own noise from point to point, and for what would matter to its kind."""
    present = values[np.isfinite(values)]
    if not len(present):
        return 0.0, 1.0
    middle = float(np.median(present))
    noise = float(np.median(np.abs(np.diff(present)))) if len(present) > 2 else 0.0
    around = max(abs(middle) * 0.25, 8 * noise, _LEAST_ROOM.get(indicator_of(key), 0.0), 1e-9)
    low, high = min(float(present.min()), middle - around), max(float(present.max()), middle + around)
    return (max(low, 0.0) if float(present.min()) >= 0 else low), high


def thin_at(values: Floats, most: int) -> NDArray[np.int64]:
    """Which `most` of the values are drawn: of each stretch the one that is furthest from the whole's median, so peaks
    stay; any of a stretch where none is finite."""
    if len(values) <= most:
        return np.arange(len(values))
    edges = np.linspace(0, len(values), most + 1).astype(int)
    middle = float(np.nanmedian(values)) if np.isfinite(values).any() else 0.0
    apart = np.where(np.isfinite(values), np.abs(values - middle), -1.0)
    return np.array([begin + int(np.argmax(apart[begin:end])) for begin, end in pairwise(edges.tolist())])


def thin(values: Floats, most: int) -> Floats:
    """At most `most` values, see `thin_at`."""
    out: Floats = values[thin_at(values, most)]
    return out


def path(values: Floats, low: float, high: float, width: float, height: float, left: float = 0.0) -> str:
    """An SVG path from `left` to `width`, "" for fewer than two points. A gap in the series is a gap in the line up to
    a tenth of it."""
    at = np.flatnonzero(np.isfinite(values))
    if len(at) < 2:
        return ""
    xs = left + at / (len(values) - 1) * (width - left)
    ys = _y(values[at], low, high, height)
    out, longest = [], max(3, len(values) // 10)
    for i, (x, y) in enumerate(zip(xs.tolist(), ys.tolist(), strict=True)):
        out.append(f"{'M' if i == 0 or at[i] - at[i - 1] > longest else 'L'}{x:.0f} {y:.1f}")
    return "".join(out)


def _y(values: Floats, low: float, high: float, height: float) -> Floats:
    out: Floats = height - 2 - (values - low) / (high - low or 1.0) * (height - 4)
    return out


def between(bottom: Floats, top: Floats, low: float, high: float, width: float, height: float, left: float = 0.0) -> str:
    """The area between two lines as an SVG path of one closed shape per stretch without gaps; see `path`."""
    both = np.isfinite(bottom) & np.isfinite(top)
    at = np.flatnonzero(both)
    if len(at) < 2:
        return ""
    xs = left + np.arange(len(bottom)) / (len(bottom) - 1) * (width - left)
    lows, highs = (np.clip(_y(np.clip(v, low, high), low, high, height), 0, height) for v in (bottom, top))
    out = []
    for run in np.split(at, np.flatnonzero(np.diff(at) > 1) + 1):
        if len(run) > 1:
            there = [f"{xs[i]:.0f} {highs[i]:.1f}" for i in run]
            back = [f"{xs[i]:.0f} {lows[i]:.1f}" for i in run[::-1]]
            out.append("M" + "L".join(there + back) + "Z")
    return "".join(out)


def spark(key: SeriesKey, values: Floats, width: int = 120, height: int = 28) -> str:
    """A small line without axes."""
    drawn = thin(values, width // 2)
    return path(drawn, *room(key, values), width, height)


@dataclass(frozen=True)
class Forecast:
    """A breach as a drawing of `width` x `height`: past line, median, band, limit, crossing interval on the limit."""

    past: str
    middle: str
    band: str
    limit_y: float
    low_x: float
    high_x: float
    now_x: float
    width: int = 330
    height: int = 84


def forecast(times_ns: NDArray[np.int64], values: Floats, breach: Breach, now_ns: int, *, width: int = 330,
             height: int = 84) -> Forecast:
    """`times_ns` and `values` are the past; the right edge is the late end of the crossing interval."""
    end = max(breach.eta_high_ns, now_ns + 10**9)
    start = int(times_ns[0]) if len(times_ns) else now_ns - (end - now_ns)
    start = max(start, now_ns - 2 * (end - now_ns))  # the forecast keeps at least a third of the width
    past = (times_ns >= start) & np.isfinite(values)
    times, values = times_ns[past], values[past]
    every = np.concatenate([values, [breach.limit, breach.current]])
    low, high = float(every.min()), float(every.max())
    pad = (high - low or 1.0) * 0.12
    low, high = low - pad, high + pad

    def x(ts_ns: float) -> float:
        return round(min(max((ts_ns - start) / (end - start), 0.0), 1.0) * width, 1)

    def y(value: float) -> float:
        return round(height - (value - low) / (high - low) * height, 1)

    step = max(1, len(times) // 110)
    points = list(zip(times.tolist()[::step], values.tolist()[::step], strict=True))
    line = "".join(f"{'L' if i else 'M'}{x(t)} {y(v)}" for i, (t, v) in enumerate(points)) if len(points) > 1 else ""
    at = f"M{x(now_ns)} {y(breach.current)}"
    top = y(breach.limit)
    first, last = x(max(breach.eta_low_ns, now_ns)), x(breach.eta_high_ns)
    return Forecast(line, f"{at}L{x(breach.eta_ns)} {top}", f"{at}L{first} {top}L{last} {top}Z", top, first, last,
                    x(now_ns), width, height)
