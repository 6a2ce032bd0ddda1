"""Recorded root-cause cases on disk, as CaseWindows: one folder per case.

`label.json` names the root and where the fault-free rows are; `metrics.csv` has `time` (unix seconds) and columns
`<service>|<metric>`; `graph.csv` has `source,target` = caller, callee. Alert-level sets (`events.csv` instead of
`metrics.csv`) hold no series and are not read.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from opsmend.evaluate.rca_columns import ENTRY, SERVED, WAITED, Role, one_name, role_of, services_of
from opsmend.evaluate.rca_files import CaseError, read_edges, read_label, read_table, split_of
from opsmend.evaluate.rca_levels import joined, take_waits
from opsmend.evaluate.rca_modalities import read_channels
from opsmend.evaluate.rca_names import known_as
from opsmend.evaluate.rca_rows import add_channels, with_rows
from rootcause.newcomers import with_stand_ins
from rootcause.types import CaseWindow

__all__ = ["CaseError", "RecordedCase", "build_window", "case_folders", "read_case", "read_cases", "read_split"]

Floats = NDArray[np.float64]
_AFTER_DETECTION = 120.0
"""Seconds of a fault that are seen after somebody noticed it, where the label says when that was."""


@dataclass(frozen=True)
class RecordedCase:
    """A window and what was wrong in it."""

    name: str
    system: str
    fault: str
    split: str  # "test", "train", or "" where the source makes no difference
    root: str
    window: CaseWindow
    notes: tuple[str, ...] = ()
    """What it lacks, and can be read without."""


def case_folders(data: Path) -> list[Path]:
    """Folders with a `label.json` under `data`, but for those of alert-level sets: a case, a set, or a folder of sets. One
    without its `metrics.csv` is a case that can't be read.

    Raises CaseError where there is none.
    """
    if not data.is_dir():
        raise CaseError(f"{data}: no such folder")
    found = sorted(label.parent for label in data.rglob("label.json") if (label.parent / "metrics.csv").is_file()
                   or not (label.parent / "events.csv").is_file())
    if not found:
        raise CaseError(f"{data}: no case. A case is a folder with label.json and metrics.csv (or events.csv)")
    return found


def unlabelled(data: Path) -> list[str]:
    """A word on each folder with `metrics.csv` that is no case, for want of a label: nobody is to think that it counts."""
    folders = sorted(metrics.parent for metrics in data.rglob("metrics.csv"))
    return [f"{folder.name}: metrics.csv without label.json: not scored" for folder in folders
            if not (folder / "label.json").is_file()]


def read_case(folder: Path, clock: str = "known") -> RecordedCase:
    """`clock` "known": usual rows from both sides of the fault; "detected": those before it alone. Raises CaseError."""
    label = read_label(folder)
    root = str(label.get("root_cause_service") or "")
    if not root:
        raise CaseError(f"{folder.name}/label.json: names no root_cause_service")
    normal, abnormal, columns = _rows(folder, label, clock)
    edges = read_edges(folder / "graph.csv")
    columns, edges = one_name(columns, edges, root)
    known = frozenset(services_of(columns)) | {s for edge in edges for s in edge}
    begin = label.get("inject_time")
    channels = None
    if begin is not None and not label.get("all_rows_abnormal"):
        end = float(begin) + float(label.get("abnormal_seconds") or 600)
        channels = read_channels(folder, float(begin), end, str(label.get("day") or ""), clock, known)
    if channels is None:
        window = build_window(normal, abnormal, columns, edges)
    else:
        normal = _in_order(with_rows(channels.usual, normal), clock)
        window = build_window(normal, abnormal, columns, sorted({*edges, *channels.calls}), channels.services)
        window = add_channels(window, channels, np.concatenate([normal[:, 0], abnormal[:, 0]]))
    window = with_stand_ins(window)
    root = known_as(root, window.services)
    if root not in window.services:
        raise CaseError(f"{folder.name}: the root '{root}' is not among its services: "
                        f"{', '.join(window.services[:20]) or 'no column is `<service>|<metric>` with a metric that is known'}")
    if not any(np.isfinite(table[window.baseline_rows:]).any()
               for table in (*window.node_metrics.values(), *window.edge_metrics.values())):
        why = "" if any(map(role_of, columns)) else (
            f": no column is `<service>|<metric>` with a metric that is known, they are {', '.join(columns[:8]) or 'none'}")
        raise CaseError(f"{folder.name}: not one value in the {len(abnormal)} rows of the fault{why}")
    missing = "names no call" if (folder / "graph.csv").is_file() else "is missing"
    notes = () if len(window.edges) else (
        f"{folder.name}: graph.csv {missing}: rankers that need to know who calls whom are at a loss",)
    return RecordedCase(folder.name, str(label.get("dataset") or folder.parent.name), str(label.get("fault_type") or ""),
                        split_of(label), root, window, notes)


def read_cases(folders: list[Path], clock: str = "known") -> Iterator[RecordedCase | CaseError]:
    """Each case, or why it can't be read."""
    for folder in folders:
        try:
            yield read_case(folder, clock)
        except CaseError as error:
            yield error
        except (OSError, ValueError, KeyError) as error:
            yield CaseError(f"{folder.name}: {error}")


def read_split(data: Path, split: str, clock: str) -> tuple[list[RecordedCase], list[str], list[str]]:
    """(cases of the split, why others could not be read, the groups these would be in). `split` is "" for all cases,
    "test" for those marked so, "dev" for the rest. Raises CaseError where there is no case at all."""
    cases, failures, lost = [], [], []
    folders = case_folders(data)
    for folder, found in zip(folders, read_cases(folders, clock), strict=True):
        if isinstance(found, CaseError):
            failures.append(str(found))
            lost.append(folder.parent.name)
        elif not split or (found.split == "test") == (split == "test"):
            cases.append(found)
    return cases, failures, lost


def cases_to_learn_from(data: Path) -> list[RecordedCase]:
    """All but those marked `test`. Raises CaseError where one can't be read, or none is left: who learns from half of
    what was meant would not notice."""
    cases = []
    for found in read_cases(case_folders(data)):
        if isinstance(found, CaseError):
            raise found
        if found.split != "test":
            cases.append(found)
    if not cases:
        raise CaseError(f"{data}: all cases are marked test")
    return cases


def build_window(normal: Floats, abnormal: Floats, columns: tuple[str, ...],
                 named_edges: list[tuple[str, str]], others: Iterable[str] = ()) -> CaseWindow:
    """Rows with the time in column 0; `others` are services that no column and no call names. Of several columns of one
    indicator the best statistic counts; several of these are joined by their geometric mean, each over its own usual level."""
    rows = np.concatenate([normal, abnormal])
    base = len(normal)
    roles = [role_of(column) for column in columns]
    if any(role and role.service == ENTRY for role in roles):
        entry = _entry(named_edges)
        roles = [role if role is None or role.service != ENTRY else replace(role, service=entry) if entry else None
                 for role in roles]
    services = sorted({s for role in roles if role for s in (role.service, role.caller) if s}
                      | {s for edge in named_edges for s in edge} | set(others))
    at = {service: i for i, service in enumerate(services)}
    pairs = sorted({(at[a], at[b]) for a, b in named_edges if a != b})
    edge_at = {pair: k for k, pair in enumerate(pairs)}
    groups: dict[tuple[str, int, bool], list[tuple[int, Role]]] = {}
    for k, role in enumerate(roles):
        if role is None:
            continue
        where = edge_at.get((at[role.caller], at[role.service]), -1) if role.caller else at[role.service]
        if where >= 0:
            groups.setdefault((role.indicator, where, bool(role.caller)), []).append((k, role))
    node: dict[str, Floats] = {}
    edge: dict[str, Floats] = {}
    for (indicator, where, is_edge), members in groups.items():
        tables, width = (edge, len(pairs)) if is_edge else (node, len(services))
        table = tables.setdefault(indicator, np.full((len(rows), width), np.nan))
        best = min(role.rank for _, role in members)
        parts = [role.value(rows[:, k + 1]) for k, role in members if role.rank == best]
        table[:, where] = joined(parts, indicator, base)
    if SERVED in edge:
        served = edge.pop(SERVED)
        if "latency" in edge:
            edge["network"] = edge["latency"] - served
    if WAITED in node:
        take_waits(node, edge, pairs, base)
    step_seconds = _step_seconds(rows[:base, 0])
    # A clock of its own: usual rows may come from another day, or from both sides of the fault.
    ts_ns = np.arange(len(rows), dtype=np.int64) * max(int(step_seconds * 1e9), 1)
    if "traffic" in node:
        node["traffic"] = _per_second(node["traffic"], step_seconds)
    return CaseWindow(ts_ns, tuple(services), node, np.array(pairs, dtype=np.int32).reshape(-1, 2), edge, base)


def _entry(named_edges: list[tuple[str, str]]) -> str:
    """The service through which requests come in: nobody calls it, and more than half of all are called by it or by who is
    called by it; "" where there is none, or more than one."""
    below: dict[str, list[str]] = {}
    for a, b in named_edges:
        if a != b:
            below.setdefault(a, []).append(b)
    everybody = set(below) | {b for callees in below.values() for b in callees}
    found = []
    for first in set(below) - {b for callees in below.values() for b in callees}:
        reached, edge = {first}, [first]
        while edge:
            edge = [b for a in edge for b in below.get(a, ()) if b not in reached]
            reached |= set(edge)
        if len(reached) > len(everybody) / 2:
            found.append(first)
    return found[0] if len(found) == 1 else ""


def _step_seconds(seconds: Floats) -> float:
    """The usual distance of rows; from their span where the file's digits don't tell neighbours apart (`1.68187e+09`);
    a minute where there is one row."""
    if len(seconds) < 2:
        return 60.0
    usual = float(np.median(np.diff(seconds)))
    return usual if usual > 0 else max((float(np.max(seconds)) - float(np.min(seconds))) / (len(seconds) - 1), 1e-3)


def _per_second(traffic: Floats, step_seconds: float) -> Floats:
    """Whole numbers throughout are requests per row, else it is a rate already. Nothing else in a file of columns tells
    one from the other."""
    known = traffic[np.isfinite(traffic)]
    return traffic / step_seconds if len(known) and bool((known == np.round(known)).all()) else traffic


def _rows(folder: Path, label: dict[str, Any], clock: str) -> tuple[Floats, Floats, tuple[str, ...]]:
    """(fault-free rows, rows of the fault, columns). The rows just before the fault come last among the former."""
    columns, table = read_table(folder / "metrics.csv")
    begin = label.get("inject_time")
    before = table[:0]
    in_order = table[np.argsort(table[:, 0], kind="stable")]
    if label.get("n_normal"):  # told by their place: usual rows may be of a later day than those of the fault
        before, abnormal = table[:int(label["n_normal"])], table[int(label["n_normal"]):]
    elif label.get("all_rows_abnormal"):
        abnormal = in_order
    elif begin is None:
        raise CaseError(f"{folder.name}/label.json: needs inject_time (unix seconds), or all_rows_abnormal")
    else:
        end = begin + float(label.get("abnormal_seconds") or np.inf)
        if label.get("detect_time"):
            end = min(end, float(label["detect_time"]) + _AFTER_DETECTION)
        abnormal = in_order[(in_order[:, 0] >= begin) & (in_order[:, 0] <= end)]
        before = in_order[in_order[:, 0] < begin]
    if label.get("normal"):
        usual_columns, normal = read_table((folder / str(label["normal"])).resolve())
        both = [c for c in columns if c in set(usual_columns)]
        if not both:
            raise CaseError(f"{folder.name}: metrics.csv and {label['normal']} have no column in common")
        pick = [0, *(columns.index(c) + 1 for c in both)]
        normal = normal[:, [0, *(usual_columns.index(c) + 1 for c in both)]]
        abnormal, before = abnormal[:, pick], before[:, pick]
        columns = tuple(both)
        if begin is not None and not label.get("all_rows_abnormal"):  # those come with a fault-free day of its own
            # Who knows when a fault began looks back on it; who has just detected it can't know what comes later.
            later = normal[:, 0] > begin
            normal = np.concatenate([normal[later], normal[~later]]) if clock == "known" else normal[~later]
            normal = _in_order(np.concatenate([normal, before[~np.isin(before[:, 0], normal[:, 0])]]), clock)
    elif len(before):
        normal = before
    else:
        raise CaseError(f"{folder.name}: no fault-free rows: none before inject_time in metrics.csv, and label.json names no "
                        "file of them as `normal`")
    if not len(normal) or not len(abnormal):
        span = f"{in_order[0, 0]:.0f} to {in_order[-1, 0]:.0f}" if len(table) else "no row"
        raise CaseError(f"{folder.name}: {len(normal)} fault-free rows, {len(abnormal)} in the fault; metrics.csv has {span}, "
                        f"inject_time is {begin}")
    return normal, abnormal, columns


def _in_order(normal: Floats, clock: str) -> Floats:
    """In the order of time where the onset is looked for in them; with a known clock those just before the fault are last."""
    return normal if clock == "known" else normal[np.argsort(normal[:, 0], kind="stable")]
