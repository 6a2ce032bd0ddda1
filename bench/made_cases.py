"""Recorded-looking root-cause cases of made-up systems: `python bench/made_cases.py --out DIR
[--kind large|canary|load|second_day|small] [--systems 6] [--cases 16] [--seed 0]`; then `opsmend eval rca --data DIR` and
`--ablation`.

One folder per system, in the layout that `opsmend eval rca` reads: metrics, and per minute logs, templates and spans
around the fault.

- `large`: 30 to 60 services, faults as named in `made_system.Fault`, seldom-called services, latency that half of the
  systems do not measure, few usual minutes of logs and spans.
- `canary`: every case has a new version of one service beside the old one, which gets a part of the calls, in half of the cases
  since just now; the fault is the new one's in three of four.
- `small`: seven to twelve services, rows of five seconds, a busy processor, a leak, or a slow network.
- `second_day`: nine to twelve services; the usual rows are of another day, with another load, another mix and other times, but
  for the quarter of an hour before the fault.
- `load`: see `made_load.py`.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np

sys.path[0] = str(Path(__file__).resolve().parent.parent)  # or bench/ingest.py would be taken for the package of its name

from bench.made_gauges import Gauges, write_modalities
from bench.made_load import another_day, write_load_set
from bench.made_rows import drift, write_table
from bench.made_system import Fault, Operation, Step, System, draw_system, play

_MINUTE: Final = 60
_USUAL: Final = 240  # fault-free rows of metrics
_FAULT: Final = 240  # seconds
_APART: Final = 1500
_ROWS_BEFORE: Final = 870  # seconds of a case's own file before its fault
_START: Final = 1_893_456_000
_DAY: Final = "2030-01-01"
_KINDS: Final = ("cpu_contention", "network_delay", "return", "exception", "memory_leak")
_MIX: Final = {"large": (0.2, 0.25, 0.25, 0.3, 0.0), "small": (0.4, 0.2, 0.0, 0.0, 0.4), "canary": (0.3, 0.2, 0.2, 0.3, 0.0),
               "second_day": (0.4, 0.3, 0.15, 0.15, 0.0)}
_SERVICES: Final = {"large": (30, 61), "small": (7, 13), "canary": (7, 13), "second_day": (9, 13)}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--kind", choices=sorted({*_MIX, "load"}), default="large")
    parser.add_argument("--systems", type=int, default=6)
    parser.add_argument("--cases", type=int, default=16)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    for k in range(args.systems):
        folder, rng = args.out / f"{args.kind}_{args.seed}_{k}", np.random.default_rng([args.seed, k])
        if args.kind == "load":
            write_load_set(folder, args.cases, rng)
        else:
            write_set(folder, args.kind, args.cases, rng)


def write_set(folder: Path, kind: str, cases: int, rng: np.random.Generator) -> None:
    """A system and its cases."""
    n = int(rng.integers(*_SERVICES[kind]))
    per_minute = float(np.exp(rng.uniform(np.log(60), np.log(600))))
    system = draw_system(rng, n, per_minute)
    while sum(asked >= 5 for asked in play(system, rng, 5.0, None).asked.values()) < n // 3:  # nobody asks for most of it
        system = draw_system(rng, n, per_minute)
    step = 5 if kind == "small" else _MINUTE
    gauges = Gauges(system, rng, kind, step)
    folder.mkdir(parents=True)
    loads = np.exp(0.15 * drift(rng, _USUAL + 60 * cases)) * step / _MINUTE
    usual = [gauges.row(_START + step * m, play(system, rng, float(loads[m]), None), None) for m in range(_USUAL)]
    if kind != "canary":
        write_table(folder / f"normal_{_DAY}.csv", ["time", *gauges.columns], usual)
    if kind == "large":
        write_modalities(folder, {_START: play(system, rng, 1.0, None)}, system, f"normal_{{}}_{_DAY}")
    before = int(rng.choice([0, 1, 2], p=[0.25, 0.4, 0.35]))  # minutes of logs and spans before a fault
    watched = play(system, rng, 5.0, None)
    traffic = watched.asked
    met = {(callee, name) for caller, callee, name in watched.spans if caller != callee}  # operations that anybody asks for
    day, part_of_load = system, 1.0
    if kind == "second_day":
        day = another_day(system, rng, strong=float(rng.uniform(0.1, 0.4)), often=float(rng.uniform(0.3, 0.8)))
        part_of_load = float(np.exp(rng.uniform(np.log(0.4), np.log(2.5))))
    for c in range(cases):
        begin = _START + _MINUTE * _USUAL + _APART * (c + 1) + int(rng.integers(0, 60))
        now = day
        if kind == "canary":
            old = int(rng.choice([i for i in range(1, n) if traffic[i]]))
            now, twin = _with_twin(system, old, rng)
            fault = draw_fault(now, twin if rng.random() < 0.75 else None, traffic, met, kind, rng)
            gauges = Gauges(now, rng, kind)
            gauges.copy(twin, old)
        else:
            fault = draw_fault(now, None, traffic, met, kind, rng)
        root = now.names[fault.service]
        case = folder / f"{c:02d}__{root}__{fault.kind}"
        case.mkdir()
        rows, minutes = [], {}
        first = begin - _ROWS_BEFORE
        for m in range((_ROWS_BEFORE + 330) // step):
            at = first + step * m
            part = float(np.clip(min(at + step, begin + _FAULT) - max(at, begin), 0, step) / step)
            load = float(loads[_USUAL + 20 * c + m * step // _MINUTE]) * part_of_load
            rows.append(gauges.row(at, play(now, rng, load, fault if part else None, part or 1.0), fault if part else None,
                                   float(np.clip((at - begin) / _FAULT, 0.02, 1))))
        if kind == "canary" and rng.random() < 0.5:  # it begins with the roll-out, and so does what is known of it
            of_new = [k for k, column in enumerate(gauges.columns, 1) if column.partition("|")[0] == now.names[-1]]
            for row in rows:
                for k in of_new if float(row[0]) < begin else ():
                    row[k] = ""
        if kind == "large":
            for m in range(-before, int(rng.integers(2, 4))):
                at = begin // _MINUTE * _MINUTE + _MINUTE * m
                part = float(np.clip(min(at + _MINUTE, begin + _FAULT) - max(at, begin), 0, _MINUTE) / _MINUTE)
                minutes[at] = play(now, rng, float(loads[_USUAL + 20 * c + 15 + m]), fault if part else None, part or 1.0)
            write_modalities(case, minutes, now, "{}")
        write_table(case / "metrics.csv", ["time", *gauges.columns], rows)
        write_table(case / "graph.csv", ["source", "target"], [[now.names[a], now.names[b]] for a, b in now.edges])
        label: dict[str, Any] = {"dataset": folder.name, "root_cause_service": root, "inject_time": float(begin),
                                 "fault_type": fault.kind, "abnormal_seconds": _FAULT, "day": _DAY}
        if kind != "canary":
            label["normal"] = f"../normal_{_DAY}.csv"
        (case / "label.json").write_text(json.dumps(label))


def draw_fault(system: System, at: int | None, traffic: Any, met: set[tuple[str, str]], kind: str,
               rng: np.random.Generator) -> Fault:
    """In somebody who is asked for something at all; in `at`, if given. Where it hits some operations, one of `met` (service,
    operation) is among them: a fault that no request meets is no incident."""
    busy = [i for i in range(1, len(system.names)) if traffic[i] >= 5]
    i = at if at is not None else int(rng.choice(busy))
    name = str(rng.choice(_KINDS, p=_MIX[kind]))
    own = system.operations[i]
    hit = tuple(k for k in range(len(own)) if rng.random() < 0.6) or tuple(range(len(own)))
    of = system.names[i].removesuffix("-canary")
    if not any((of, own[k].name) in met for k in hit):
        hit = tuple(range(len(own)))
    if name in ("cpu_contention", "memory_leak"):
        size = float(rng.uniform(1.5, 4))
    else:
        size = float(np.exp(rng.uniform(np.log(0.01), np.log(0.4))))
    return Fault(name, i, size, 1.0 if rng.random() < 0.8 else float(rng.uniform(0.3, 1)), hit, int(rng.integers(0, 3)),
                 bool(rng.random() < 0.5))


def _with_twin(system: System, i: int, rng: np.random.Generator) -> tuple[System, int]:
    """The same with a new version of service `i`, to which a part of the calls goes."""
    twin, part = len(system.names), float(rng.uniform(0.05, 0.3))

    def split(operation: Operation) -> Operation:
        steps: list[Step] = []
        for s in operation.steps:
            steps += ([replace(s, mean=s.mean * (1 - part)), replace(s, mean=s.mean * part, service=twin)]
                      if s.kind == "call" and s.service == i else [s])
        return replace(operation, steps=tuple(steps))

    operations = tuple(tuple(split(o) for o in of) for of in system.operations)
    operations = (*operations, tuple(replace(o, name=o.name) for o in operations[i]))
    edges = {(a, s.service) for a, of in enumerate(operations) for o in of for s in o.steps if s.kind == "call"}
    requests = [(rate * (1 - part if s == i else 1), s, k) for rate, s, k in system.requests]
    requests += [(rate * part, twin, k) for rate, s, k in system.requests if s == i]

    def more(column: np.ndarray) -> np.ndarray:
        return np.append(column, column[i])

    return replace(system, names=(*system.names, f"{system.names[i]}-canary"), operations=operations,
                   edges=tuple(sorted(edges)), requests=tuple(requests), writes_own=more(system.writes_own),
                   writes_other=more(system.writes_other), idle_lines=more(system.idle_lines),
                   strange_lines=more(system.strange_lines), bursts=more(system.bursts)), twin


if __name__ == "__main__":
    main()
