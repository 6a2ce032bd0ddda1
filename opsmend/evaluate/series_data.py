"""Labelled series from disk: NAB's layout, or CSV files with timestamp, value and label."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from opsmend.evaluate.rca_cases import CaseError
from opsmend.evaluate.series_scores import Labelled
from opsmend.evaluate.series_volume import segments

_WINDOWS: Final = Path("labels") / "combined_windows.json"
_LAYOUT: Final = (f"expected data/**.csv with timestamp,value and {_WINDOWS.as_posix()}, or **.csv with timestamp,value,label "
                  "(1: anomalous)")
_WORDS: Final = {"true": 1.0, "yes": 1.0, "false": 0.0, "no": 0.0, "": 0.0}
"""Labels that are words."""
_UNSORTED: Final = 0.01
"""Share of the rows that run back in time from which on a file counts as unsorted. A few are a clock that was set back
(eight of NAB's files have that), and are left as the detector would have got them."""


@dataclass(frozen=True)
class Found:
    """What a directory holds."""

    series: list[Labelled]
    failures: list[str] = field(default_factory=list)
    """File, line and reason of each that could not be read."""
    notes: list[str] = field(default_factory=list)
    """What was read otherwise than it stands there."""


def read_series(data: Path) -> Found:
    """With `labels/combined_windows.json`: `data/**.csv` with timestamp and value, named by their path below `data`.
    Without: every `**.csv` with timestamp, value and label (1: anomalous; none: not).

    Times are text with a date (without a zone: UTC) or numbers since 1970 in s, ms, us or ns; values that are no numbers
    are missing, and noted. Raises CaseError where there are no series.
    """
    windows: dict[str, Any] | None = None
    root = data
    if (data / _WINDOWS).is_file():
        root = data / "data"
        windows = _windows(data / _WINDOWS)
    found = Found([])
    for file in sorted(root.rglob("*.csv")):
        name = file.relative_to(root).as_posix()
        try:
            found.series.append(_read(file, name, windows, found.notes))
        except (OSError, ValueError) as error:
            found.failures.append(f"{name}: {_reason(error)}")
    if not found.series and not found.failures:
        raise CaseError(f"{data}: {'no series in it' if data.is_dir() else 'no such folder'}; {_LAYOUT}")
    if windows is not None:
        seen = {file.relative_to(root).as_posix() for file in root.rglob("*.csv")}
        found.notes.extend(f"{name}: in {_WINDOWS.as_posix()}, but there is no such file below data/"
                           for name in sorted(set(windows) - seen))
    return found


def _windows(path: Path) -> dict[str, Any]:
    try:
        read = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise CaseError(f"{path}: {error}") from error
    if not isinstance(read, dict):
        raise CaseError(f'{path}: expected {{"folder/file.csv": [["first time", "last time"], ...], ...}}')
    return read


def _reason(error: OSError | ValueError) -> str:
    """One line, in our words where it is pandas that speaks of its parser."""
    text = " ".join(str(error).split())
    if isinstance(error, UnicodeDecodeError):
        return "no text in UTF-8; is it compressed?"
    if ragged := re.search(r"Expected (\d+) fields in line (\d+), saw (\d+)", text):
        return f"line {ragged[2]}: {ragged[3]} columns where the lines before have {ragged[1]}"
    return "empty" if "No columns to parse" in text else text[:300]


def _read(file: Path, name: str, windows: dict[str, Any] | None, notes: list[str]) -> Labelled:
    """ValueError where columns, rows, times, labels, or the windows of this file are missing or can't be read."""
    import pandas as pd

    table = pd.read_csv(file, skip_blank_lines=False).dropna(how="all")  # the index stays: line - 2
    heading = [str(column) for column in table.columns]
    table.columns = pd.Index([column.strip().lower() for column in heading])
    needed = ("timestamp", "value") if windows is not None else ("timestamp", "value", "label")
    missing = [column for column in needed if column not in table.columns]
    if missing:
        raise ValueError(f"no column {', '.join(missing)}; its first line is {','.join(heading)[:80]!r}")
    if table.empty:
        raise ValueError("no rows")
    ts_ns = _times(table["timestamp"])
    values = _values(table["value"], name, notes)
    order = _order(ts_ns, name, notes)
    ts_ns, values = ts_ns[order], values[order]
    if windows is None:
        return Labelled(name, ts_ns, values, tuple(segments(_labels(table["label"])[order])))
    if name not in windows:
        raise ValueError(f"not in {_WINDOWS.as_posix()}")
    return Labelled(name, ts_ns, values, _disjoint([_inside(ts_ns, *_pair(pair)) for pair in _list(windows[name])]))


def _times(column: Any) -> NDArray[np.int64]:
    """[n] ns since 1970, from text, or from numbers of seconds, milli-, micro- or nanoseconds. ValueError, with the line,
    where one can't be read."""
    import pandas as pd

    if pd.api.types.is_numeric_dtype(column) and not column.isna().all():
        _refuse(column, column.isna() | np.isinf(column), "no time (a date, or seconds since 1970)")
        numbers = column.to_numpy()
        size = float(np.abs(numbers).max())
        factor = 10**9 if size < 1e11 else 10**6 if size < 1e14 else 10**3 if size < 1e17 else 1
        return np.asarray(numbers * factor).astype(np.int64)
    try:
        read = pd.to_datetime(column, utc=True)
    except ValueError:  # not all in the form of the first
        read = pd.to_datetime(column, utc=True, format="ISO8601", errors="coerce")
    _refuse(column, read.isna(), "no time (a date, or seconds since 1970)")
    return np.asarray(read.dt.as_unit("ns").astype("int64"), dtype=np.int64)


def _values(column: Any, name: str, notes: list[str]) -> NDArray[np.float64]:
    """[n], NaN: missing."""
    import pandas as pd

    values = pd.to_numeric(column, errors="coerce").to_numpy(float, copy=True)
    odd = np.flatnonzero(np.isnan(values) & column.notna().to_numpy())
    if len(odd):
        notes.append(f"{name}: line {column.index[odd[0]] + 2}: value {str(column.iloc[odd[0]])[:40]!r} is no number; "
                     f"{len(odd)} such count as missing")
    if not np.isfinite(values).any():
        notes.append(f"{name}: not one value")
    return np.asarray(values)


def _labels(column: Any) -> NDArray[np.bool_]:
    """[n], from numbers (above 0: anomalous) or words. ValueError, with the line, for any other word."""
    import pandas as pd

    numbers = pd.to_numeric(column, errors="coerce").astype(float)
    if not pd.api.types.is_numeric_dtype(column):
        words = column.map(lambda word: _WORDS.get(str(word).strip().lower(), np.nan)).astype(float)
        numbers = numbers.fillna(words)
        _refuse(column, numbers.isna() & column.notna(), "no label (1 or 0)")
    return np.asarray(numbers.fillna(0).to_numpy(float) > 0)


def _refuse(column: Any, bad: Any, why: str) -> None:
    at = np.flatnonzero(np.asarray(bad))
    if len(at):
        entry = "" if column.isna().iloc[at[0]] else str(column.iloc[at[0]])[:40]
        raise ValueError(f"line {column.index[at[0]] + 2}: {column.name} {entry!r} is {why}"
                         + (f"; so are {len(at) - 1} more" if len(at) > 1 else ""))


def _order(ts_ns: NDArray[np.int64], name: str, notes: list[str]) -> NDArray[np.int64]:
    """Indices of the rows as they are taken."""
    steps = np.diff(ts_ns)
    back, twice = int((steps < 0).sum()), int((steps == 0).sum())
    if back > _UNSORTED * len(ts_ns):
        notes.append(f"{name}: not in the order of time; sorted")
        return np.argsort(ts_ns, kind="stable")
    told = [f"rows that run back in time: {back}"] * (back > 0) + [f"times that stand twice: {twice}"] * (twice > 0)
    if told:
        notes.append(f"{name}: {', '.join(told)}; taken as they stand")
    return np.arange(len(ts_ns))


def _list(windows: Any) -> list[Any]:
    if not isinstance(windows, list):
        raise ValueError(f"its entry in {_WINDOWS.as_posix()} is no list of windows")
    return windows


def _pair(pair: Any) -> tuple[int, int]:
    """First and last time of a window, ns."""
    import pandas as pd

    if not isinstance(pair, list) or len(pair) != 2:
        raise ValueError(f"window {str(pair)[:60]} in {_WINDOWS.as_posix()} is no pair of times")
    first, last = (pd.Timestamp(end) for end in pair)
    return tuple(int((t.tz_localize("UTC") if t.tzinfo is None else t).as_unit("ns").value) for t in (first, last))  # type: ignore[return-value]


def _inside(ts_ns: NDArray[np.int64], first: int, last: int) -> tuple[int, int]:
    """Indices of a window's ends: those of its very times, or else of the points within."""
    at = [np.flatnonzero(ts_ns == end) for end in (first, last)]
    begin = int(at[0][0]) if len(at[0]) else int(np.searchsorted(ts_ns, first))
    end = int(at[1][0]) if len(at[1]) else int(np.searchsorted(ts_ns, last, side="right")) - 1
    if begin > end:
        raise ValueError(f"a window without points ({np.datetime64(first, 'ns')} to {np.datetime64(last, 'ns')})")
    return begin, end


def _disjoint(windows: list[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """In order; those that overlap are one."""
    out: list[tuple[int, int]] = []
    for first, last in sorted(windows):
        if out and first <= out[-1][1]:
            out[-1] = (out[-1][0], max(last, out[-1][1]))
        else:
            out.append((first, last))
    return tuple(out)
