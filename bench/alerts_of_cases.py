"""Alerts of another system for `opsmend eval alerts`: `python bench/alerts_of_cases.py CASES OUT`.

CASES holds root-cause cases with minutes of metrics and calls around each injected fault (`<case>/metrics.csv`,
`traces.csv`, `graph.csv`, `label.json`, and the fault-free rows that the label names). OUT gets the layout that
`opsmend eval alerts --split all --data OUT` reads. An alert is the first minute of the fault in which a metric is more than
6 robust deviations off its fault-free rows, or the 95th percentile of a call takes three times its median over all cases.
"""

from __future__ import annotations

import argparse
import csv
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

DEVIATIONS = 6.0
SLOWER = 3.0
Table = tuple[list[str], np.ndarray]
Call = tuple[str, str, str]


def table(path: Path) -> Table:
    """Names of the columns, and the values as floats, NaN where one is missing."""
    with path.open(newline="") as file:
        names, *rows = csv.reader(file)
    return names, np.array([[float(v) if v else np.nan for v in row] for row in rows])


def metrics(case: Path, label: dict[str, Any], normal: Table) -> list[list[Any]]:
    """[ms, service, host, metric, direction] of each column that left its usual range."""
    names, now = table(case / "metrics.csv")
    now = now[[is_in(at, label) for at in now[:, 0]]]
    out = []
    for at, name in enumerate(names[1:], 1):
        if name not in normal[0] or name.startswith("__"):
            continue
        usual = normal[1][:, normal[0].index(name)]
        centre = np.nanmedian(usual)
        scale = 1.4826 * np.nanmedian(np.abs(usual - centre)) + 0.01 * abs(centre) + 1e-9
        z = (now[:, at] - centre) / scale
        hit = np.flatnonzero(np.abs(z) > DEVIATIONS)
        if len(hit):
            service, metric = name.split("|")
            out.append([int(now[hit[0], 0] * 1e3), service, "", metric, "up" if z[hit[0]] > 0 else "down"])
    return out


def is_in(at_s: float, label: dict[str, Any]) -> bool:
    """Whether a minute, named by its start or middle, is in the fault."""
    return bool(label["inject_time"] - 30 <= at_s <= label["inject_time"] + label["abnormal_seconds"])


def calls(case: Path) -> list[tuple[Call, float, float]]:
    """(call, time, 95th percentile) per minute and operation; none where the case has no traces."""
    if not (case / "traces.csv").exists():
        return []
    with (case / "traces.csv").open(newline="") as file:
        return [((r["caller"], r["callee"], r["operation"]), float(r["time"]), float(r["p95_us"]))
                for r in csv.DictReader(file) if not r["caller"].startswith("__")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", type=Path)
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args()
    cases = sorted(path.parent for path in arguments.cases.glob("*/label.json"))
    labels = {case.name: json.loads((case / "label.json").read_text()) for case in cases}
    normal = {at: table((arguments.cases / cases[0].name / at).resolve()) for at in {la["normal"] for la in labels.values()}}
    called = {case.name: calls(case) for case in cases}
    seen: dict[Call, list[float]] = {}
    for rows in called.values():
        for call, _, p95 in rows:
            seen.setdefault(call, []).append(p95)
    found: dict[str, dict[str, list[list[Any]]]] = {"metric": {}, "trace": {}, "log": {}}
    for case in cases:
        found["metric"][case.name] = metrics(case, labels[case.name], normal[labels[case.name]["normal"]])
        first: dict[Call, float] = {}
        for call, at, p95 in called[case.name]:
            if is_in(at, labels[case.name]) and p95 > SLOWER * np.median(seen[call]):
                first[call] = min(at, first.get(call, at))
        found["trace"][case.name] = [[int(at * 1e3), *call, "PD"] for call, at in sorted(first.items())]
        found["log"][case.name] = []
    for kind, file in (("metric", "metrics"), ("trace", "traces"), ("log", "logs")):
        (arguments.out / kind).mkdir(parents=True, exist_ok=True)
        (arguments.out / kind / f"{file}.json").write_text(json.dumps(found[kind]))
    edges = {tuple(row) for case in cases for row in list(csv.reader((case / "graph.csv").read_text().splitlines()))[1:]}
    with (arguments.out / "graph.csv").open("w", newline="") as handle:
        csv.writer(handle).writerows([("source", "target"), *sorted(edges)])
    with (arguments.out / "label.csv").open("w", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(["fault_id", "fault_entity", "fault_type", "fault_st_time"])
        for case in cases:
            label = labels[case.name]
            begin = datetime.fromtimestamp(label["inject_time"], UTC)
            writer.writerow([case.name, label["root_cause_service"], label["fault_type"], f"{begin:%Y-%m-%d %H:%M:%S}"])
    print(f"{len(cases)} faults, {sum(map(len, found['metric'].values()))} metric and "
          f"{sum(map(len, found['trace'].values()))} call alerts")


if __name__ == "__main__":
    main()
