"""Alert-level cases on disk: a folder with `label.json`, `events.csv` and `nodes.txt` each, no series.

`events.csv` has `modality` (metric, trace, log), `instance`, `peer`, `feature`, `value`. The root is an instance.
"""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from opsmend.evaluate.rca_cases import CaseError
from rootcause.alerts.case import Alert, AlertCase

_COLUMNS = ("modality", "instance", "peer", "feature", "value")


@dataclass(frozen=True)
class LabelledAlerts:
    """An alert case and what was wrong."""

    name: str
    system: str
    fault: str
    split: str
    root: str
    case: AlertCase

    @property
    def root_index(self) -> int:
        """Of the root among the instances."""
        return self.case.instances.index(self.root)


def alert_folders(data: Path) -> list[Path]:
    """Folders with a `label.json` and an `events.csv` under `data`; none: empty."""
    return sorted(label.parent for label in data.rglob("label.json") if (label.parent / "events.csv").is_file())


def read_alerts(folder: Path) -> LabelledAlerts:
    """Raises CaseError where files contradict themselves or the root is no instance, OSError, ValueError."""
    label: dict[str, Any] = json.loads((folder / "label.json").read_text())
    with (folder / "events.csv").open(newline="") as file:
        reader = csv.DictReader(file)
        if not set(_COLUMNS) <= set(reader.fieldnames or ()):
            raise CaseError(f"{folder.name}: events.csv needs the columns {', '.join(_COLUMNS)}")
        alerts = tuple(Alert(*(row[c] or "" for c in _COLUMNS)) for row in reader)
    nodes = folder / "nodes.txt"
    instances = set(nodes.read_text().split()) if nodes.is_file() else {a.instance for a in alerts}
    root = str(label.get("root_cause_instance") or label.get("root_cause_service") or "")
    if root not in instances:
        raise CaseError(f"{folder.name}: the root '{root}' is not among its instances")
    system = str(label.get("system") or label.get("dataset") or folder.parent.name)
    return LabelledAlerts(folder.name, system, str(label.get("fault_type") or ""), str(label.get("split") or ""), root,
                          AlertCase(system, tuple(sorted(instances)), alerts))


def read_alert_cases(data: Path) -> tuple[list[LabelledAlerts], list[str]]:
    """(all cases, why others could not be read)."""
    cases, failures = [], []
    for folder in alert_folders(data):
        try:
            cases.append(read_alerts(folder))
        except CaseError as error:
            failures.append(str(error))
        except (OSError, ValueError) as error:
            failures.append(f"{folder.name}: {error}")
    return cases, failures


def labelled_systems(data: Path) -> dict[str, tuple[list[AlertCase], list[int]]]:
    """The cases of each system under `data` that are not marked `test`, and the index of each root. Raises CaseError
    for the first that can't be read, and where there is none."""
    out: dict[str, tuple[list[AlertCase], list[int]]] = {}
    for folder in alert_folders(data):
        found = read_alerts(folder)
        if found.split != "test":
            cases, roots = out.setdefault(found.system, ([], []))
            cases.append(found.case)
            roots.append(found.root_index)
    if not out:
        raise CaseError(f"{data}: no labelled alert-level case")
    return out
