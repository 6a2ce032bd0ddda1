"""Alert-level cases on disk: a folder with `label.json`, `events.csv` and `nodes.txt` each, no series.

`events.csv` has `modality` (metric, trace, log), `instance`, `peer`, `feature`, `value`. The root is an instance.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from opsmend.evaluate.rca_files import CaseError, names_of, read_label, rows_of, split_of
from rootcause.alerts.case import Alert, AlertCase

_COLUMNS = ("modality", "instance", "peer", "feature", "value")
_MODALITIES = ("metric", "trace", "log")


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
    """Folders with a `label.json` and an `events.csv` and no series under `data`; none: empty."""
    return sorted(label.parent for label in data.rglob("label.json")
                  if (label.parent / "events.csv").is_file() and not (label.parent / "metrics.csv").exists())


def read_alerts(folder: Path) -> LabelledAlerts:
    """Raises CaseError, by place and remedy, where files can't be read or contradict themselves, or the root is no instance."""
    label, where = read_label(folder), f"{folder.name}/label.json"
    root = str(label.get("root_cause_instance") or label.get("root_cause_service") or "")
    if not root:
        raise CaseError(f"{where}: names no root_cause_instance")
    alerts = tuple(_alert(row, f"{folder.name}/events.csv: line {n}")
                   for n, row in enumerate(rows_of(folder / "events.csv", _COLUMNS), 2))
    instances = set(names_of(folder / "nodes.txt")) or {a.instance for a in alerts if a.instance}
    if root not in instances:
        raise CaseError(f"{where}: the root '{root}' is not among its instances: "
                        f"{', '.join(sorted(instances)[:20]) or 'events.csv and nodes.txt name none'}")
    system = str(label.get("system") or label.get("dataset") or folder.parent.name)
    return LabelledAlerts(folder.name, system, str(label.get("fault_type") or ""), split_of(label), root,
                          AlertCase(system, tuple(sorted(instances)), alerts))


def _alert(row: dict[str, str], where: str) -> Alert:
    modality, instance, peer, feature, value = (row[c] or "" for c in _COLUMNS)
    if modality not in _MODALITIES:
        raise CaseError(f"{where}: modality {modality!r:.40} is none of {', '.join(_MODALITIES)}")
    if not instance and modality != "trace":  # recorded spans of nobody known are among the alerts of TVDiag
        raise CaseError(f"{where}: names no instance")
    return Alert(modality, instance, peer, feature, value)


def read_alert_cases(data: Path) -> tuple[list[LabelledAlerts], list[str], list[str]]:
    """(all cases, why others could not be read, the groups these would be in). A case is named by its path in `data`: sets of
    one system may number theirs alike."""
    cases, failures, lost = [], [], []
    for folder in alert_folders(data):
        try:
            cases.append(replace(read_alerts(folder), name=str(folder.relative_to(data)) if folder != data else folder.name))
        except (CaseError, OSError, ValueError) as error:
            failures.append(str(error) if isinstance(error, CaseError) else f"{folder.name}: {error}")
            lost.append(folder.parent.name)
    return cases, failures, lost


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
