"""A recorded day of a system with faults in it, minute by minute: metrics throughout, spans and lines where the source
kept them."""

from __future__ import annotations

import csv
import json
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from opsmend.evaluate.detection_ablation_made import MODALITIES, WARM_ROWS, Watched, oddities, several, z_scores
from opsmend.evaluate.rca_cases import case_folders

Floats = NDArray[np.float64]
Cells = dict[tuple[str, str], float]
SPANS, EVERY = "minutes with spans", "all minutes"
_MINUTE: Final = 60
_AFTER_SECONDS: Final = 360.0
"""What follows a fault is neither its time nor an ordinary one."""
_LARGEST: Final = 100.0


def watch_recorded(data: Path) -> tuple[dict[str, list[Watched]], list[str]]:
    """Day and which minutes of it -> its faults, each with the ordinary minutes around them; and what can't be told.

    "minutes with spans": only there modalities can be compared. A minute is judged by the other half of the ordinary
    ones (even by odd, odd by even), by how many robust deviations it is away: there are too few of them for anything
    that learns. "all minutes": metrics alone, as the service judges them. Raises CaseError where there are no cases.
    """
    days: dict[str, list[tuple[Path, dict[str, Any]]]] = defaultdict(list)
    for folder in case_folders(data):
        label = json.loads((folder / "label.json").read_text())
        if label.get("inject_time") and label.get("normal") and not label.get("all_rows_abnormal"):
            days[f"{label.get('dataset', folder.parent.name)} {label.get('day', '')}".strip()].append((folder, label))
    out: dict[str, list[Watched]] = {}
    notes: list[str] = []
    for day, cases in sorted(days.items()):
        groups = _day(cases)
        out |= {f"{day}, {name}": found for name, found in groups.items() if found}
        logged = sum((folder / "logs.csv").is_file() for folder, _ in cases)
        notes.append(f"{day}: {len(cases)} faults, {len(groups[SPANS])} of them with spans, {logged} with log lines; "
                     f"{len(cases) - len(groups[EVERY])} began in the first {WARM_ROWS} minutes, which nobody judges")
    return out, notes


def _day(cases: list[tuple[Path, dict[str, Any]]]) -> dict[str, list[Watched]]:
    cells = _cells(cases)
    every = sorted(cells["metrics"])
    both = [minute for minute in every if minute in cells["traces"]]
    return {SPANS: _watch(cases, both, {m: _table(cells[m], both) for m in MODALITIES}, is_long=False),
            EVERY: _watch(cases, every, {"metrics": _table(cells["metrics"], every)}, is_long=True)}


def _cells(cases: list[tuple[Path, dict[str, Any]]]) -> dict[str, dict[int, Cells]]:
    """Modality -> minute -> channel -> value, of all files together: the cases of a day are one stretch of time."""
    cells: dict[str, dict[int, Cells]] = {m: defaultdict(dict) for m in MODALITIES}
    for folder, label in cases:
        for path in {folder / "metrics.csv", (folder / str(label["normal"])).resolve()}:
            for minute, column, value in _metrics(path):
                cells["metrics"][minute][column, ""] = value
        for modality, rows in (("traces", _spans(folder / "traces.csv")), ("logs", _lines(folder))):
            for minute, name, value in rows:
                cells[modality][minute][name] = value
    return cells


def _watch(cases: list[tuple[Path, dict[str, Any]]], minutes: list[int], tables: dict[str, Floats], *,
           is_long: bool) -> list[Watched]:
    """The faults that these minutes show."""
    begins = [float(label["inject_time"]) for _, label in cases]
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
    for (folder, label), begin in zip(cases, begins, strict=True):
        end = begin + float(label.get("abnormal_seconds") or 300)
        # A minute that the fault fills less than half shows little of it.
        during = np.flatnonzero((at + _MINUTE / 2 >= begin) & (at < end) & (np.arange(len(at)) >= first))
        if not len(during):
            continue
        rows = np.concatenate([quiet, during])
        watched.append(Watched(folder.name, str(label.get("fault_type", "")), len(quiet), len(rows), 0, float(_MINUTE),
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


def _metrics(path: Path) -> Iterator[tuple[int, str, float]]:
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            minute = int(float(row["time"])) // _MINUTE * _MINUTE
            yield from ((minute, name, float(value)) for name, value in row.items() if name != "time" and value)


def _spans(path: Path) -> Iterator[tuple[int, tuple[str, str], float]]:
    """Of each call and minute: how many spans, and the longest of the p95 of its operations. Nothing without a file."""
    if not path.is_file():
        return
    found: dict[tuple[int, str], list[float]] = defaultdict(lambda: [0.0, 0.0])
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            for name in (f"{row['caller']}>{row['callee']}", f"{row['caller']}>{row['callee']} {row['operation']}"):
                of = found[int(float(row["time"])) // _MINUTE * _MINUTE, name]
                of[0] += float(row["n"])
                of[1] = max(of[1], float(row["p95_us"] or 0))
    for (minute, call), (count, p95_us) in found.items():
        yield minute, (call, "n"), count
        yield minute, (call, "p95"), p95_us


def _lines(folder: Path) -> Iterator[tuple[int, tuple[str, str], float]]:
    """Of each service and minute: lines, those of errors, and those of each template."""
    if (folder / "logs.csv").is_file():
        with (folder / "logs.csv").open(newline="") as file:
            for row in csv.DictReader(file):
                minute = int(float(row["time"])) // _MINUTE * _MINUTE
                yield from ((minute, (row["service"], name), float(row[name] or 0)) for name in (
                    "n_lines", "n_level_warn_err", "n_err_words"))
    if (folder / "log_templates.csv").is_file():
        with (folder / "log_templates.csv").open(newline="") as file:
            for row in csv.DictReader(file):
                yield int(float(row["time"])) // _MINUTE * _MINUTE, (row["service"], row["template"]), float(row["n"])
