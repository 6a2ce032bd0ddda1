"""The files of recorded root-cause cases, as people make them: what can't be read is refused by place and remedy."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ingest.errors import OpsmendError
from opsmend.evaluate.rca_names import seconds_of

Floats = NDArray[np.float64]
csv.field_size_limit(1 << 24)  # a stack trace in one cell is longer than what Python allows by itself
_NUMBERS = ("inject_time", "detect_time", "abnormal_seconds", "n_normal")


class CaseError(OpsmendError):
    """A case that can't be read: what is missing or contradicts itself."""

    reason = "case"


def read_label(folder: Path) -> dict[str, Any]:
    """`label.json`, its numbers as such. Raises CaseError."""
    path = folder / "label.json"
    where = f"{folder.name}/label.json"
    try:
        label = json.loads(_text(path))
    except json.JSONDecodeError as error:
        raise CaseError(f"{where}: no JSON: {error}") from error
    if not isinstance(label, dict):
        raise CaseError(f"{where}: must be an object with root_cause_service and inject_time")
    for name in _NUMBERS:
        if label.get(name) is not None:
            try:
                label[name] = float(label[name])
                if not math.isfinite(label[name]):
                    raise ValueError(name)
            except (TypeError, ValueError) as error:
                raise CaseError(f"{where}: {name} {label[name]!r:.60} is no number; times are unix seconds") from error
            if name in ("n_normal", "abnormal_seconds") and label[name] < 0:
                raise CaseError(f"{where}: {name} is {label[name]:g}, and can't be below 0")
            if name.endswith("_time"):
                label[name] = seconds_of(label[name])
    return label


def split_of(label: dict[str, Any]) -> str:
    """`test`, `train`, another word, or "": however it is written, so that no case marked test is taken for another."""
    return str(label.get("split") or "").strip().lower()


def names_of(path: Path) -> list[str]:
    """One name a word; none where there is no such file."""
    return _text(path).split() if path.is_file() else []


@lru_cache(maxsize=8)
def read_table(path: Path) -> tuple[tuple[str, ...], Floats]:
    """(columns without the time, rows as they stand in the file with unix seconds in column 0); NaN where a cell is empty, nan
    or infinite. Raises CaseError."""
    where = f"{path.parent.name}/{path.name}"
    lines = [row for row in csv.reader(_lines(path)) if row]
    if not lines or lines[0][0] != "time":
        found = f"is '{lines[0][0][:40]}'" if lines else "is missing: the file is empty"
        raise CaseError(f"{where}: the first column must be `time` (unix seconds), and {found}")
    header, rows = lines[0], lines[1:]
    try:
        table = np.array([[float(cell) if cell else np.nan for cell in row] for row in rows],
                         dtype=np.float64).reshape(len(rows), len(header))
    except ValueError as error:
        raise CaseError(f"{where}: {_wrong(header, rows) or error}") from error
    if np.isnan(table[:, 0]).any():
        raise CaseError(f"{where}: line {int(np.argmax(np.isnan(table[:, 0]))) + 2} has no time")
    table[~np.isfinite(table)] = np.nan
    table[:, 0] = [seconds_of(t) for t in table[:, 0].tolist()]
    return tuple(header[1:]), table


def read_edges(path: Path) -> list[tuple[str, str]]:
    """(caller, callee) pairs; none where there is no such file, or nothing in it. Raises CaseError."""
    if not path.is_file() or not path.stat().st_size:
        return []
    reader = csv.DictReader(_lines(path))
    if not {"source", "target"} <= set(reader.fieldnames or ()):
        raise CaseError(f"{path.parent.name}/{path.name}: its first line must be `source,target` (caller, callee)")
    return [(row["source"], row["target"]) for row in reader if row["source"] and row["target"]]


def rows_of(path: Path, needed: Sequence[str]) -> list[dict[str, str]]:
    """Of a file with a header. Raises CaseError where a column that is needed is missing."""
    reader = csv.DictReader(_lines(path, errors="replace"))  # what programs log is not always text
    lacking = [name for name in needed if name not in (reader.fieldnames or ())]
    if lacking:
        raise CaseError(f"{path.parent.name}/{path.name}: no column `{'`, `'.join(lacking)}`; it has "
                        f"{', '.join(reader.fieldnames or ()) or 'none'}")
    try:
        return list(reader)
    except csv.Error as error:
        raise CaseError(f"{path.parent.name}/{path.name}: line {reader.line_num}: {error}") from error


def _wrong(header: list[str], rows: list[list[str]]) -> str:
    """The first line of another width, or cell that is no number."""
    for n, row in enumerate(rows, 2):
        if len(row) != len(header):
            return f"line {n} has {len(row)} cells, the header {len(header)}"
        for name, cell in zip(header, row, strict=True):
            if cell and not _is_number(cell):
                return f"line {n}, column `{name}`: {cell!r:.40} is no number; leave empty what is missing"
    return ""


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _lines(path: Path, errors: str = "strict") -> io.StringIO:
    """What a csv reader takes: a line ends where the file says so, not at every character that may end one, and a cell in
    quotes may have several."""
    return io.StringIO(_text(path, errors), newline="")


def _text(path: Path, errors: str = "strict") -> str:
    """UTF-8, with or without a mark in front, as spreadsheets write it."""
    try:
        return path.read_bytes().decode("utf-8-sig", errors)
    except UnicodeDecodeError as error:
        raise CaseError(f"{path.parent.name}/{path.name}: byte {error.start} is no UTF-8; save the file as UTF-8") from error
    except FileNotFoundError as error:
        raise CaseError(f"{path}: no such file") from error
    except IsADirectoryError as error:
        raise CaseError(f"{path}: is a folder, not a file") from error
