"""Making the calibration table: `python -m detect.evidence.build`. No labels, no recorded data: see corpus.py."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from detect.evidence.calibration import TABLE, Calibration
from detect.evidence.corpus import corpus
from detect.evidence.outputs import answer
from detect.evidence.shape import SCALARS, STREAMS
from detect.evidence.streams import Evidence, Expects, Lstm
from detect.forecaster.lstm import Forecaster, Weights

Floats = NDArray[np.float64]

RARITIES: Final = (1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 4.5)
_SMALLEST: Final = 1e-9
POINTS_PER_PAGE: Final = 700
FLAGGED: Final = 0.01
_SAME: Final = 20
"""Rises of one stream within 20 points count once, by the highest."""


def streams_of(ts_ns: NDArray[np.int64], values: Floats, forecaster: Expects,
               calibration: Calibration) -> tuple[Floats, Floats]:
    """([t, s, 4] streams, [t, s] points seen) of [s, t] values."""
    evidence = Evidence(calibration)
    out, counts = np.zeros((values.shape[1], len(values), len(STREAMS))), np.zeros((values.shape[1], len(values)))
    for k, ts in enumerate(ts_ns):
        out[k] = evidence.step(int(ts), values[:, k], forecaster).streams
        counts[k] = evidence.counts
    return out, counts


def answers(joined: Floats, page: float) -> tuple[Floats, Floats]:
    """[t, s] joined evidence to onsets and states, as the service does tick by tick. Onsets do not depend on `page`."""
    scalars = np.zeros((joined.shape[1], SCALARS))
    onset, state = np.zeros_like(joined), np.zeros_like(joined)
    for k in range(len(joined)):
        answer(np.ascontiguousarray(joined[k]), page, scalars, onset[k], state[k])
    return onset, state


def onset_heights(x: Floats, apart: int = _SAME) -> Floats:
    """Heights of the rises of one series: each counts if it beats all of the last `apart` points."""
    out, last, age = [], 0.0, apart + 1
    for value in x:
        age += 1
        if value > 0 and (age > apart or value > last):
            out.append(value)
            last, age = value, 0
    return np.array(out)


def _knots(streams: Sequence[Floats]) -> tuple[Floats, Floats]:
    """([4, k] rarities, [4, k] levels reached as rarely as that). The first knot of a stream is at its smallest onset;
    knots that are less rare than that take its rarity."""
    points = sum(part.shape[0] * part.shape[1] for part in streams)
    rarities, levels = [], []
    for k in range(len(STREAMS)):
        heights = np.sort(np.concatenate([onset_heights(part[:, s, k]) for part in streams for s in range(part.shape[1])]))
        commonest = -np.log10(max(len(heights), 1) / points)
        row, level = [commonest], [_SMALLEST]
        for rarity in RARITIES:
            rank = int(points * 10.0**-rarity)
            known = rarity > commonest + 0.02 and 1 <= rank <= len(heights)
            row.append(rarity if known else row[-1])
            level.append(max(float(heights[len(heights) - rank]) if known else 0.0, level[-1] * 1.001))
        rarities.append(row)
        levels.append(level)
    return np.array(rarities), np.array(levels)


def rate_level(x: Floats, rate: float) -> float:
    """The height that this share of the points reaches."""
    return float(np.sort(x)[::-1][int(len(x) * rate)])


def collect(make: Callable[[], Expects], parts: Sequence[tuple[NDArray[np.int64], Floats]]) -> list[tuple[Floats, Floats]]:
    """Streams and counts of each part of a corpus, with a new forecaster for each."""
    rising = np.tile(np.arange(1.0, 4.0), (len(STREAMS), 1))
    blank = Calibration(rising, rising, 1.0, 1.0, "")
    return [streams_of(ts, values, make(), blank) for ts, values in parts]


def calibrate(parts: Sequence[tuple[Floats, Floats]], version: str = "",
              use: Sequence[int] = range(len(STREAMS))) -> Calibration:
    """Table and thresholds from collected streams; `use`: the streams that count."""
    table = Calibration(*_knots([streams for streams, _ in parts]), page=1.0, flag=1.0, version=version)
    off = [k for k in range(len(STREAMS)) if k not in use]
    joined = [np.array([table.joined(_without(x, off), c) for x, c in zip(streams, counts, strict=True)])
              for streams, counts in parts]
    page, flag = thresholds(joined)
    return replace(table, page=page, flag=flag)


def thresholds(joined: Sequence[Floats]) -> tuple[float, float]:
    """(page, flag) for [t, s] joined evidence (or any other score) of unlabelled series."""
    page = rate_level(np.concatenate([answers(part, 0.0)[0].ravel() for part in joined]), 1 / POINTS_PER_PAGE)
    states = np.concatenate([answers(part, page)[1].ravel() for part in joined])
    return page, rate_level(states, FLAGGED)


def _without(streams: Floats, off: list[int]) -> Floats:
    out = np.ascontiguousarray(streams).copy()
    out[:, off] = 0.0
    return out


def build(seed: int = 0) -> dict[str, Any]:
    """The table with its card."""
    weights = Weights.load()
    series = corpus(seed)
    table = calibrate(collect(lambda: Lstm(Forecaster(weights)), series))
    return {"version": f"evidence-2-{seed}", "made_by": "python -m detect.evidence.build",
            "data": "synthetic (detect/evidence/corpus.py), unlabelled",
            "points": sum(values.size for _, values in series), "seed": seed,
            "forecaster": weights.version, "points_per_page": POINTS_PER_PAGE, "share_flagged": FLAGGED,
            "rarities": _by_stream(table.rarities), "levels": _by_stream(table.levels),
            "page": round(table.page, 4), "flag": round(table.flag, 4)}


def _by_stream(table: Floats) -> dict[str, list[float]]:
    return {stream: [float(f"{x:.6g}") for x in row] for stream, row in zip(STREAMS, table, strict=True)}


def main(path: Path = TABLE) -> None:
    """Write the table."""
    path.write_text(json.dumps(build(), indent=1) + "\n")


if __name__ == "__main__":
    main()
