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

RARITIES: Final = (1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0)
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


def answers(joined: Floats) -> tuple[Floats, Floats]:
    """[t, s] joined evidence to onsets and states, as the service does tick by tick."""
    scalars = np.zeros((joined.shape[1], SCALARS))
    onset, state = np.zeros_like(joined), np.zeros_like(joined)
    for k in range(len(joined)):
        answer(np.ascontiguousarray(joined[k]), scalars, onset[k], state[k])
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


def _levels(streams: list[Floats]) -> Floats:
    """[4, knots]: the level that is reached as rarely as each of RARITIES says."""
    rows = []
    for k in range(len(STREAMS)):
        heights = np.sort(np.concatenate([onset_heights(part[:, s, k]) for part in streams for s in range(part.shape[1])]))
        points = sum(part.shape[0] * part.shape[1] for part in streams)
        heights = np.concatenate([np.zeros(max(0, points // 10 + 1 - len(heights))), heights])
        ranks = [max(int(points * 10.0**-r), 1) for r in RARITIES]
        # Streams that are mostly zero start at a height that means something, and rise from there.
        levels = np.maximum(heights[[len(heights) - rank for rank in ranks]], 1e-3)
        rows.append(np.maximum.accumulate(levels) * 1.01 ** np.arange(len(levels)))
    return np.array(rows)


def rate_level(x: Floats, rate: float) -> float:
    """The height that this share of the points reaches."""
    return float(np.sort(x)[::-1][int(len(x) * rate)])


def collect(make: Callable[[], Expects], parts: Sequence[tuple[NDArray[np.int64], Floats]]) -> list[tuple[Floats, Floats]]:
    """Streams and counts of each part of a corpus, with a new forecaster for each."""
    blank = Calibration(np.array(RARITIES), np.tile(np.geomspace(1, 2, len(RARITIES)), (len(STREAMS), 1)), 1.0, 1.0, "")
    return [streams_of(ts, values, make(), blank) for ts, values in parts]


def calibrate(parts: Sequence[tuple[Floats, Floats]], version: str = "",
              use: Sequence[int] = range(len(STREAMS))) -> Calibration:
    """Table and thresholds from collected streams; `use`: the streams that count."""
    table = Calibration(np.array(RARITIES), _levels([streams for streams, _ in parts]), 1.0, 1.0, version)
    off = [k for k in range(len(STREAMS)) if k not in use]
    onsets, states = [], []
    for streams, counts in parts:
        onset, state = answers(np.array([table.joined(_without(x, off), c) for x, c in zip(streams, counts, strict=True)]))
        onsets.append(onset.ravel())
        states.append(state.ravel())
    return replace(table, page=rate_level(np.concatenate(onsets), 1 / POINTS_PER_PAGE),
                   flag=rate_level(np.concatenate(states), FLAGGED))


def _without(streams: Floats, off: list[int]) -> Floats:
    out = np.ascontiguousarray(streams).copy()
    out[:, off] = 0.0
    return out


def build(seed: int = 0) -> dict[str, Any]:
    """The table with its card."""
    weights = Weights.load()
    series = corpus(seed)
    table = calibrate(collect(lambda: Lstm(Forecaster(weights)), series))
    return {"version": f"evidence-1-{seed}", "made_by": "python -m detect.evidence.build",
            "data": "synthetic (detect/evidence/corpus.py), unlabelled",
            "points": sum(values.size for _, values in series), "seed": seed,
            "forecaster": weights.version, "points_per_page": POINTS_PER_PAGE, "share_flagged": FLAGGED,
            "rarities": list(RARITIES),
            "levels": {stream: [float(f"{x:.6g}") for x in row] for stream, row in zip(STREAMS, table.levels, strict=True)},
            "page": round(table.page, 4), "flag": round(table.flag, 4)}


def main(path: Path = TABLE) -> None:
    """Write the table."""
    path.write_text(json.dumps(build(), indent=1) + "\n")


if __name__ == "__main__":
    main()
