"""Series of `opsmend eval breach`: `meta.json` and `<id>.csv` (timestamp, value)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from detect.breach.scoring import Episode, Truth
from detect.breach.series import Recorded, by_minute
from ingest.errors import OpsmendError


class BreachDataError(OpsmendError):
    """A series can't be read."""

    reason = "data"


def read_meta(data: Path) -> list[dict[str, Any]]:
    """The entries of `meta.json`. Raises BreachDataError."""
    try:
        meta = json.loads((data / "meta.json").read_text())
    except (OSError, ValueError) as error:
        raise BreachDataError(f"{data}/meta.json: {error}") from error
    if not isinstance(meta, list) or not meta:
        raise BreachDataError(f"{data}/meta.json: no list of series")
    return meta


def read_series(data: Path, entry: dict[str, Any]) -> Recorded:
    """One series. Raises BreachDataError."""
    try:
        table = np.loadtxt(data / f"{entry['id']}.csv", delimiter=",", skiprows=1, ndmin=2)
        return by_minute(truth_of(entry), table[:, 0], table[:, 1], float(entry["limit"]), entry["direction"] == "up")
    except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
        raise BreachDataError(f"{entry.get('id') if isinstance(entry, dict) else entry}: {error}") from error


def all_series(data: Path) -> Iterator[Recorded]:
    """Every series of a folder. Raises BreachDataError at the first that can't be read."""
    for entry in read_meta(data):
        yield read_series(data, entry)


def truth_of(entry: dict[str, Any]) -> Truth:
    """The labels of an entry of `meta.json`."""
    episodes = tuple(Episode(float(e["onset"]), float(e["end"]), float(e["crossing"]), bool(e["cancelled"]))
                     for e in entry["episodes"])
    crossed = [e.crossing for e in episodes if not e.cancelled]
    end = min(crossed) if crossed else float(entry["end"])
    return Truth(str(entry["id"]), str(entry["kind"]), bool(entry["healthy"]), bool(entry["in_scope"]),
                 float(entry["start"]), end, episodes)
