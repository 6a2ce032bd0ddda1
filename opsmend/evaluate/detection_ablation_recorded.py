"""A recorded day of a system with faults in it, minute by minute: metrics throughout, spans and lines where the source
kept them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from opsmend.evaluate.detection_ablation_made import MODALITIES, WARM_ROWS, Watched, oddities, several, z_scores
from opsmend.evaluate.rca_cases import case_folders
from opsmend.evaluate.rca_files import CaseError, read_label, read_table, rows_of
from opsmend.evaluate.rca_names import seconds_of

Floats = NDArray[np.float64]
Cells = dict[tuple[str, str], float]
SPANS, EVERY = "minutes with spans", "all minutes"
_MINUTE: Final = 60
_AFTER_SECONDS: Final = 360.0
"""What follows a fault is neither its time nor an ordinary one."""
_LARGEST: Final = 100.0


@dataclass(frozen=True)
class _Case:
    """One fault, and what its files say: modality -> minute -> channel -> value."""

    name: str
    label: dict[str, Any]
    cells: dict[str, dict[int, Cells]]
    is_logged: bool


@dataclass(frozen=True)
class Recorded:
    """What a directory of cases holds."""

    days: dict[str, list[Watched]] = field(default_factory=dict)
    """Day and which minutes of it -> its faults, each with the ordinary minutes around them."""
    notes: list[str] = field(default_factory=list)
    """What can't be told."""
    failures: list[str] = field(default_factory=list)
    """Cases that can't be read: file, row, remedy."""


def watch_recorded(data: Path) -> Recorded:
    """"minutes with spans": only there modalities can be compared. A minute is judged by the other half of the ordinary
    ones (even by odd, odd by even), by how many robust deviations it is away: there are too few of them for anything
    that learns. "all minutes": metrics alone, as the service judges them. Raises CaseError where there are no cases.
    """
    found, skipped = Recorded(), 0
    cases: dict[str, list[_Case]] = defaultdict(list)
    for folder in case_folders(data):
        try:
            label = read_label(folder)
            if not (label.get("inject_time") and label.get("normal")) or label.get("all_rows_abnormal"):
                skipped += 1
                continue
            day = f"{label.get('dataset', folder.parent.name)} {label.get('day', '')}".strip()
            cases[day].append(_Case(folder.name, label, _cells(folder, label), (folder / "logs.csv").is_file()))
        except CaseError as error:
            found.failures.append(str(error))
    if skipped:
        found.notes.append(f"left out: {skipped} without inject_time in label.json, or without `normal`, a file of ordinary "
                           "rows of the same day, so that nothing is known of false alarms")
    for day, some in sorted(cases.items()):
        cells = _together(some)
        every = sorted(cells["metrics"])
        both = [minute for minute in every if minute in cells["traces"]]
        spans = _watch(some, both, {m: _table(cells[m], both) for m in MODALITIES}, is_long=False)
        all_of_them = _watch(some, every, {"metrics": _table(cells["metrics"], every)}, is_long=True)
        found.days.update({f"{day}, {name}": faults for name, faults in ((SPANS, spans), (EVERY, all_of_them)) if faults})
        found.notes.append(f"{day}: {len(some)} faults, {len(spans)} of them with spans, "
                           f"{sum(case.is_logged for case in some)} with log lines; {len(some) - len(all_of_them)} began "
                           f"in the first {WARM_ROWS} minutes, which nobody judges")
    return found


def _cells(folder: Path, label: dict[str, Any]) -> dict[str, dict[int, Cells]]:
    """Of one case. Raises CaseError."""
    cells: dict[str, dict[int, Cells]] = {m: defaultdict(dict) for m in MODALITIES}
    for path in (folder / "metrics.csv", (folder / str(label["normal"])).resolve()):
        columns, rows = read_table(path)
        for row in rows:
            at = cells["metrics"][int(row[0]) // _MINUTE * _MINUTE]
            at.update({(name, ""): float(value) for name, value in zip(columns, row[1:], strict=True) if np.isfinite(value)})
    for modality, found in (("traces", _spans(folder / "traces.csv")), ("logs", _lines(folder))):
        for minute, name, value in found:
            cells[modality][minute][name] = value
    return cells


def _together(cases: list[_Case]) -> dict[str, dict[int, Cells]]:
    """The cases of a day are one stretch of time."""
    cells: dict[str, dict[int, Cells]] = {m: defaultdict(dict) for m in MODALITIES}
    for case in cases:
        for modality, minutes in case.cells.items():
            for minute, found in minutes.items():
                cells[modality][minute].update(found)
    return cells


def _watch(cases: list[_Case], minutes: list[int], tables: dict[str, Floats], *,
           is_long: bool) -> list[Watched]:
    """The faults that these minutes show."""
    begins = [float(case.label["inject_time"]) for case in cases]
    at = np.array(minutes, dtype=np.float64)
    near = np.zeros(len(at), bool)
    for begin in begins:
        near |= (at + _MINUTE > begin) & (at < begin + _AFTER_SECONDS)
    first = WARM_ROWS if is_long else 0
    quiet = np.flatnonzero(~near & (np.arange(len(at)) >= first))
    odd = {m: oddities(t, _MINUTE) if is_long else _odd(t, quiet) for m, t in tables.items()}
    every = np.concatenate(list(odd.values()), axis=1)
    alone = {m: several(odd[m]) if m in odd else np.full(len(at), np.nan) for m in MODALITIES}
    z = z_scores(np.concatenate(list(tables.values()), axis=1)) if is_long else every
    early = {"several": several(every), "largest": _largest(every), "z": several(z), "entry z": np.full(len(at), np.nan)}
    watched = []
    for case, begin in zip(cases, begins, strict=True):
        end = begin + float(case.label.get("abnormal_seconds") or 300)
        # A minute that the fault fills less than half shows little of it.
        during = np.flatnonzero((at + _MINUTE / 2 >= begin) & (at < end) & (np.arange(len(at)) >= first))
        if not len(during):
            continue
        rows = np.concatenate([quiet, during])
        watched.append(Watched(case.name, str(case.label.get("fault_type", "")), len(quiet), len(rows), 0, float(_MINUTE),
                               {m: s[rows] for m, s in alone.items()}, {k: s[rows] for k, s in early.items()}))
    return watched


def _odd(table: Floats, quiet: NDArray[np.int64]) -> Floats:
    """[t, s] robust deviations from ordinary rows: even ones judge odd ones, and the other way round; of the rest the
    mean of both. NaN where there are fewer than three to judge by."""
    halves = [_away(table, quiet[start::2]) for start in (0, 1)]
    out: Floats = np.mean(halves, axis=0)
    for start in (0, 1):
        out[quiet[start::2]] = halves[1 - start][quiet[start::2]]
    return out


def _away(table: Floats, usual: NDArray[np.int64]) -> Floats:
    rows = table[usual]
    count = np.isfinite(rows).sum(axis=0)
    middle = _median(rows)
    spread = 1.4826 * _median(np.abs(rows - middle))
    with np.errstate(invalid="ignore"):
        away = np.abs(table - middle) / np.maximum(spread, 0.05 * np.abs(middle) + 1e-9)
    return np.where(count >= 3, np.minimum(away, _LARGEST), np.nan)


def _median(rows: Floats) -> Floats:
    ordered = np.sort(rows, axis=0)  # NaN last
    count = np.isfinite(rows).sum(axis=0)
    return ordered[np.maximum(count - 1, 0) // 2, np.arange(rows.shape[1])] if len(rows) else np.full(rows.shape[1], np.nan)


def _largest(channels: Floats) -> Floats:
    known = np.isfinite(channels)
    return np.where(known.any(axis=1), np.where(known, channels, 0.0).max(axis=1, initial=0.0), np.nan)


def _table(cells: dict[int, Cells], minutes: list[int]) -> Floats:
    names = {name: k for k, name in enumerate(sorted({name for minute in minutes for name in cells.get(minute, {})}))}
    out = np.full((len(minutes), len(names)), np.nan)
    for row, minute in enumerate(minutes):
        for name, value in cells.get(minute, {}).items():
            out[row, names[name]] = value
    return out


def _spans(path: Path) -> Iterator[tuple[int, tuple[str, str], float]]:
    """Of each call and minute: how many spans, and the longest of the p95 of its operations. Nothing without a file."""
    if not path.is_file():
        return
    found: dict[tuple[int, str], list[float]] = defaultdict(lambda: [0.0, 0.0])
    for n, row in enumerate(rows_of(path, ("time", "caller", "callee", "operation", "n", "p95_us")), 1):
        time_s, count, p95_us = (_number(path, n, row, column) for column in ("time", "n", "p95_us"))
        for name in (f"{row['caller']}>{row['callee']}", f"{row['caller']}>{row['callee']} {row['operation']}"):
            of = found[_minute(time_s), name]
            of[0] += count
            of[1] = max(of[1], p95_us)
    for (minute, call), (count, p95_us) in found.items():
        yield minute, (call, "n"), count
        yield minute, (call, "p95"), p95_us


def _lines(folder: Path) -> Iterator[tuple[int, tuple[str, str], float]]:
    """Of each service and minute: lines, those of errors, and those of each template."""
    counts = ("n_lines", "n_level_warn_err", "n_err_words")
    if (path := folder / "logs.csv").is_file():
        for n, row in enumerate(rows_of(path, ("time", "service", *counts)), 1):
            minute = _minute(_number(path, n, row, "time"))
            yield from ((minute, (row["service"], name), _number(path, n, row, name)) for name in counts)
    if (path := folder / "log_templates.csv").is_file():
        for n, row in enumerate(rows_of(path, ("time", "service", "template", "n")), 1):
            yield _minute(_number(path, n, row, "time")), (row["service"], row["template"]), _number(path, n, row, "n")


def _minute(time_s: float) -> int:
    return int(seconds_of(time_s)) // _MINUTE * _MINUTE


def _number(path: Path, n: int, row: dict[str, str], column: str) -> float:
    """0 where the cell is empty, but for the time. Raises CaseError."""
    cell = row[column]
    try:
        value = float(cell or ("nan" if column == "time" else 0))
    except ValueError:
        value = np.nan
    if not np.isfinite(value):
        raise CaseError(f"{path.parent.name}/{path.name}: row {n}, column `{column}`: {(cell or '')[:40]!r} is no number")
    return value
