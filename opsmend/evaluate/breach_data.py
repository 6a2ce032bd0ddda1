"""Series of `opsmend eval breach`: `meta.json` and `<id>.csv` (timestamp, value). What a user need not know is optional."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from detect.breach.scoring import Episode, Truth
from detect.breach.series import Recorded, by_minute
from ingest.errors import OpsmendError

IN_SCOPE_SECONDS: Final = 1200.0
_LAYOUT: Final = ('a folder holds meta.json, a list of {"id": "name", "limit": 100, "direction": "up", "episodes": '
                  '[{"onset": unix seconds, "crossing": unix seconds}]}, and for each a file <id>.csv with the columns '
                  "timestamp,value")


class BreachDataError(OpsmendError):
    """A series can't be read."""

    reason = "data"


class _Episode(msgspec.Struct):
    onset: float
    crossing: float
    end: float | None = None
    cancelled: bool = False


class _Entry(msgspec.Struct):
    """One entry of `meta.json`; what is left out follows from the episodes and the samples."""

    id: str
    limit: float
    direction: Literal["up", "down"] = "up"
    kind: str = "all"
    healthy: bool | None = None
    in_scope: bool | None = None
    start: float | None = None
    end: float | None = None
    episodes: tuple[_Episode, ...] = ()


def read_meta(data: Path) -> list[dict[str, Any]]:
    """The entries of `meta.json`. Raises BreachDataError."""
    try:
        meta = json.loads((data / "meta.json").read_text())
    except FileNotFoundError as error:
        raise BreachDataError(f"{data}: there is no meta.json in it; {_LAYOUT}") from error
    except (OSError, ValueError) as error:
        raise BreachDataError(f"{data}/meta.json: {error}") from error
    if not isinstance(meta, list) or not meta:
        raise BreachDataError(f"{data}/meta.json: no list of series; {_LAYOUT}")
    return meta


def read_series(data: Path, entry: Any) -> Recorded:
    """One series. Raises BreachDataError with the place and what belongs there."""
    name = entry.get("id") if isinstance(entry, dict) else entry
    try:
        one = msgspec.convert(entry, _Entry, strict=False)
    except msgspec.ValidationError as error:
        raise BreachDataError(f"{data}/meta.json, entry {name!r}: {error}") from error
    at, values = _samples(data / f"{one.id}.csv")
    try:
        truth = _truth(one, at)
    except ValueError as error:
        raise BreachDataError(f"{data}/meta.json, entry {name!r}: {error}") from error
    return by_minute(truth, at, values, one.limit, one.direction == "up")


def all_series(data: Path) -> Iterator[Recorded]:
    """Every series of a folder. Raises BreachDataError at the first that can't be read."""
    for entry in read_meta(data):
        yield read_series(data, entry)


def _samples(path: Path) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(unix seconds, value) [n] each; an empty value is a missing one. Raises BreachDataError."""
    try:
        lines = path.read_text().splitlines()
    except (OSError, ValueError) as error:
        raise BreachDataError(f"{path}: {error}") from error
    table = np.full((max(len(lines) - 1, 0), 2), np.nan)
    for n, line in enumerate(lines[1:]):
        time, comma, value = line.partition(",")
        try:
            if not comma:
                raise ValueError("no comma")
            table[n] = float(time), float(value) if value.strip() else np.nan
        except ValueError as error:
            raise BreachDataError(f"{path}, line {n + 2}: {line[:60]!r} is no timestamp,value (unix seconds and a number; "
                                  "leave the value empty where it is missing)") from error
    if not np.isfinite(table).all(axis=1).any():
        raise BreachDataError(f"{path}: no sample in it")
    return table[:, 0].copy(), table[:, 1].copy()


def _truth(one: _Entry, at: NDArray[np.float64]) -> Truth:
    """The labels of an entry. Raises ValueError where they contradict each other."""
    for e in one.episodes:
        if e.crossing < e.onset:
            raise ValueError(f"an episode's crossing ({e.crossing:.0f}) is before its onset ({e.onset:.0f})")
    episodes = tuple(Episode(e.onset, e.crossing if e.end is None else e.end, e.crossing, e.cancelled)
                     for e in one.episodes)
    crossed = [e for e in episodes if not e.cancelled]
    healthy = not crossed if one.healthy is None else one.healthy
    if healthy and crossed:
        raise ValueError("it is said to be healthy and has an episode that was not cancelled")
    last = float(np.nanmax(at)) if one.end is None else one.end
    end = min((e.crossing for e in crossed), default=last)
    in_scope = one.in_scope if one.in_scope is not None else bool(crossed) and all(
        e.crossing - e.onset >= IN_SCOPE_SECONDS for e in crossed)
    return Truth(one.id, one.kind, healthy, in_scope, float(np.nanmin(at)) if one.start is None else one.start, end,
                 episodes)
