"""Recorded alerts of injected faults, read for `opsmend eval alerts`: one clock, one row per raw alert."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np

from opsmend.evaluate.rca_cases import CaseError
from opsmend.evaluate.rca_files import read_edges

METRIC, LOG, TRACE = "metric", "log", "trace"
MODALITIES: Final = (METRIC, LOG, TRACE)
_FILES: Final = {METRIC: "metric/metrics.json", LOG: "log/logs.json", TRACE: "trace/traces.json"}
_LAYOUT: Final = {METRIC: "[ms, entity, host, metric, direction]", LOG: "[entity, template, [messages with a wall clock]]",
                  TRACE: "[ms, caller, callee, operation, kind]"}
_DEV_SHARE: Final = 76 / 98
_ZONE_SECONDS: Final = 900.0
_TIME: Final = re.compile(r"(\d{4}-\d\d-\d\d)[ T](\d\d:\d\d:\d\d)(?:[.,](\d{1,6}))?")


@dataclass(frozen=True)
class RawAlert:
    """One alert as it was recorded. `at_s` is seconds after the start of its fault."""

    at_s: float
    modality: str
    name: str
    service: str
    peer: str = ""
    host: str = ""


@dataclass(frozen=True)
class Fault:
    """One injected fault and all alerts recorded with it, oldest first."""

    id: str
    entity: str
    kind: str
    start_s: float
    """When it was injected, by the clock of the metrics."""
    alerts: tuple[RawAlert, ...]


def read_faults(data: Path) -> list[Fault]:
    """The distinct faults of `data` in the order of label.csv; rows marked as augmented, and repetitions of an
    original, are left out.

    `data` holds label.csv (fault_id, fault_entity, fault_type, fault_st_time; orig_fault_id and augmented where
    known), metric/metrics.json (rows of ms, entity, host, metric, direction), log/logs.json (entity, template,
    messages) and trace/traces.json (ms, caller, callee, operation, kind) by fault id; one or two of these may be
    missing. Metrics and traces share an epoch clock; the labels' and the log messages' wall clocks are aligned to it by
    whole quarters of an hour. Raises CaseError, with file, fault and what belongs there, where something can't be read.
    """
    labels = _labels(data / "label.csv")
    recorded = {m: _recorded(data / at) for m, at in _FILES.items()}
    if not any(found is not None for found in recorded.values()):
        raise CaseError(f"{data}: none of {', '.join(_FILES.values())} is in it")
    starts = {row["fault_id"]: _start(data, row) for row in labels}
    raw = {m: {i: _rows(data / _FILES[m], i, (found or {}).get(i, ()), m) for i in starts}
              for m, found in recorded.items()}
    timed = {i: [*raw[METRIC][i], *raw[TRACE][i]] for i in starts}
    logged = raw[LOG]
    zone = _zone(starts, timed)
    log_zone = _zone({i: at + zone for i, at in starts.items()}, logged)
    faults = []
    for row in labels:
        i = row["fault_id"]
        rows = [*timed[i], *(_moved(a, -log_zone) for a in logged[i])]
        begin = starts[i] + zone
        alerts = sorted((_moved(a, -begin) for a in rows), key=lambda a: (a.at_s, a.modality, a.service, a.name, a.peer))
        faults.append(Fault(i, row.get("fault_entity") or "", (row.get("fault_type") or "").strip("[]"), begin,
                            tuple(alerts)))
    return faults


def read_graph(data: Path) -> frozenset[tuple[str, str]]:
    """(caller, callee) of graph.csv (source, target), where `data` has one: alerts name only the calls that went wrong,
    and a service that none of them names would be in a system of its own. CaseError where it can't be read."""
    return frozenset(read_edges(data / "graph.csv"))


def split_faults(faults: list[Fault], split: str) -> list[Fault]:
    """"dev": the first 76 of 98 faults in the order of the labels; "test": those after; "": all."""
    cut = round(len(faults) * _DEV_SHARE)
    return {"dev": faults[:cut], "test": faults[cut:], "": faults}[split]


def _labels(path: Path) -> list[dict[str, str]]:
    try:
        with path.open(newline="") as file:
            reader = csv.DictReader(file)
            if missing := {"fault_id", "fault_st_time"} - set(reader.fieldnames or ()):
                raise CaseError(f"{path}: no column {', '.join(sorted(missing))}; it has one row a fault, with fault_id, "
                                "fault_st_time (a wall clock), fault_entity and fault_type")
            return list(_originals(reader))
    except (OSError, ValueError) as error:
        raise CaseError(f"{path}: {error}") from error


def _recorded(path: Path) -> dict[str, Any] | None:
    """Fault id -> rows; None where there is no such file."""
    try:
        found = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise CaseError(f"{path}: {error}") from error
    if not isinstance(found, dict):
        raise CaseError(f"{path}: not an object of fault_id: rows")
    return found


def _start(data: Path, row: dict[str, str]) -> float:
    try:
        return _seconds(row["fault_st_time"] or "")
    except ValueError as error:
        raise CaseError(f"{data}/label.csv, fault {row['fault_id']}: fault_st_time: {error}; like 2021-07-01 14:03:59"
                        ) from error


def _rows(path: Path, fault: str, rows: Iterable[Any], modality: str) -> list[RawAlert]:
    """The alerts of one fault in one file."""
    try:
        return list(_READERS[modality](rows))
    except (ValueError, TypeError) as error:
        raise CaseError(f"{path}, fault {fault}: {error}; a row is {_LAYOUT[modality]}") from error


def _originals(rows: Iterable[dict[str, str]]) -> Iterator[dict[str, str]]:
    seen: set[str] = set()
    for row in rows:
        origin = row.get("orig_fault_id") or row["fault_id"]
        if (row.get("augmented") or "").strip().lower() != "true" and origin not in seen:
            seen.add(origin)
            yield row


def _seconds(text: str) -> float:
    """Wall clock read as UTC; ValueError where there is none in it."""
    found = _TIME.search(text)
    if found is None:
        raise ValueError(f"no time in {text[:60]!r}")
    day, clock, fraction = found.groups()
    return datetime.fromisoformat(f"{day}T{clock}").replace(tzinfo=UTC).timestamp() + float(f"0.{fraction or 0}")


def _metrics(rows: Iterable[Any]) -> Iterator[RawAlert]:
    for ms, entity, host, metric, direction in rows:
        yield RawAlert(int(ms) / 1e3, METRIC, f"{metric} {direction}", entity, host=host)


def _traces(rows: Iterable[Any]) -> Iterator[RawAlert]:
    for ms, caller, callee, operation, kind in rows:
        yield RawAlert(int(ms) / 1e3, TRACE, f"{kind} {operation}", caller, callee if callee != caller else "")


def _logs(rows: Iterable[Any]) -> Iterator[RawAlert]:
    for entity, template, messages, *_ in rows:
        for message in messages:
            yield RawAlert(_seconds(message), LOG, f"template {template}", entity)


_READERS: Final[dict[str, Callable[[Iterable[Any]], Iterator[RawAlert]]]] = {METRIC: _metrics, LOG: _logs, TRACE: _traces}


def _zone(starts: Mapping[str, float], alerts: Mapping[str, list[RawAlert]]) -> float:
    """Seconds to add to the clock of `starts` so that faults begin with their first alerts."""
    gaps = [min(a.at_s for a in alerts[i]) - starts[i] for i in starts if alerts[i]]
    return float(np.round(np.median(gaps) / _ZONE_SECONDS) * _ZONE_SECONDS) if gaps else 0.0


def _moved(alert: RawAlert, seconds: float) -> RawAlert:
    return replace(alert, at_s=alert.at_s + seconds)
