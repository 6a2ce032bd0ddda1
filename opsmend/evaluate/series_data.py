"""Labelled series from disk: NAB's layout, or CSV files with timestamp, value and label."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from opsmend.evaluate.rca_cases import CaseError
from opsmend.evaluate.series_scores import Labelled
from opsmend.evaluate.series_volume import segments

_WINDOWS: Final = Path("labels") / "combined_windows.json"


def read_series(data: Path) -> tuple[list[Labelled], list[str]]:
    """(series, why others could not be read).

    With `labels/combined_windows.json`: `data/**.csv` with timestamp and value, named by their path below `data`.
    Without: every `**.csv` with timestamp, value and label (1: anomalous). Raises CaseError where there are none.
    """
    windows: dict[str, Any] | None = None
    root = data
    if (data / _WINDOWS).is_file():
        root = data / "data"
        try:
            windows = json.loads((data / _WINDOWS).read_text())
        except ValueError as error:
            raise CaseError(f"{data / _WINDOWS}: {error}") from error
    found: list[Labelled] = []
    failures: list[str] = []
    for file in sorted(root.rglob("*.csv")):
        name = file.relative_to(root).as_posix()
        try:
            found.append(_read(file, name, windows))
        except (OSError, ValueError) as error:
            failures.append(f"{name}: {error}"[:300])
    if not found and not failures:
        raise CaseError(f"{data}: no series in it")
    return found, failures


def _read(file: Path, name: str, windows: dict[str, Any] | None) -> Labelled:
    """ValueError where columns, rows, or the windows of this file are missing."""
    import pandas as pd

    table = pd.read_csv(file)
    needed = ("timestamp", "value") if windows is not None else ("timestamp", "value", "label")
    missing = [column for column in needed if column not in table.columns]
    if missing or table.empty:
        raise ValueError(f"no {', '.join(missing) or 'rows'}")
    ts_ns = _times(table["timestamp"])
    values = pd.to_numeric(table["value"], errors="coerce").to_numpy(float, copy=True)
    if windows is None:
        labels = pd.to_numeric(table["label"], errors="coerce").fillna(0).to_numpy(float) > 0
        return Labelled(name, ts_ns, values, tuple(segments(labels)))
    if name not in windows:
        raise ValueError(f"not in {_WINDOWS.as_posix()}")
    pairs = [tuple(int(pd.Timestamp(end).as_unit("ns").value) for end in pair)
             for pair in windows[name]]
    return Labelled(name, ts_ns, values, tuple(sorted(_inside(ts_ns, first, last) for first, last in pairs)))


def _times(column: Any) -> NDArray[np.int64]:
    """[n] ns since 1970, from text, or from numbers of seconds or milliseconds."""
    import pandas as pd

    if pd.api.types.is_numeric_dtype(column):
        seconds = column.to_numpy(float)
        return np.asarray(seconds * (1e6 if np.nanmax(np.abs(seconds)) > 1e11 else 1e9)).astype(np.int64)
    return np.asarray(pd.to_datetime(column, utc=True).dt.as_unit("ns").astype("int64"), dtype=np.int64)


def _inside(ts_ns: NDArray[np.int64], first: int, last: int) -> tuple[int, int]:
    """Indices of a window's ends: those of its very times, or else of the points within."""
    at = [np.flatnonzero(ts_ns == end) for end in (first, last)]
    begin = int(at[0][0]) if len(at[0]) else int(np.searchsorted(ts_ns, first))
    end = int(at[1][0]) if len(at[1]) else int(np.searchsorted(ts_ns, last, side="right")) - 1
    if begin > end:
        raise ValueError("a window without points")
    return begin, end
