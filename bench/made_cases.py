"""Recorded-looking root-cause cases of made-up systems: `python bench/made_cases.py --out DIR [--kind large|small|canary]
[--systems 6] [--cases 16] [--seed 0]`; then `opsmend eval rca --data DIR` and `--ablation`.

One folder per system, in the layout that `opsmend eval rca` reads: metrics, and per minute logs, templates and spans
around the fault. `large`: 30 to 60 services, faults as named in `made_system.Fault`, seldom-called services, latency
that half of the systems do not measure, few usual minutes of logs and spans. `canary`: every case has a new version of
one service beside the old one, which gets a part of the calls, in half of the cases since just now; the fault is the new
one's in three of four. `small`: seven to twelve services.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from made_system import Fault, Minute, Operation, Step, System, draw_system, play

_MINUTE = 60
_USUAL = 240  # fault-free rows of metrics
_FAULT = 240  # seconds
_APART = 1500
_KINDS = ("cpu_contention", "network_delay", "return", "exception")
_MIX = {"large": (0.2, 0.25, 0.25, 0.3), "small": (0.6, 0.4, 0.0, 0.0), "canary": (0.3, 0.2, 0.2, 0.3)}
_MOST_TEMPLATES = 200  # per service and minute, as recorded sets have it


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--kind", choices=sorted(_MIX), default="large")
    parser.add_argument("--systems", type=int, default=6)
    parser.add_argument("--cases", type=int, default=16)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    for k in range(args.systems):
        write_set(args.out / f"{args.kind}_{args.seed}_{k}", args.kind, args.cases, np.random.default_rng([args.seed, k]))


def write_set(folder: Path, kind: str, cases: int, rng: np.random.Generator) -> None:
    """A system and its cases."""
    n = int(rng.integers(30, 61) if kind == "large" else rng.integers(7, 13))
    per_minute = float(np.exp(rng.uniform(np.log(60), np.log(600))))
    system = draw_system(rng, n, per_minute)
    while sum(asked >= 5 for asked in play(system, rng, 5.0, None).asked.values()) < n // 3:  # nobody asks for most of it
        system = draw_system(rng, n, per_minute)
    gauges = _Gauges(system, rng, kind)
    folder.mkdir(parents=True)
    day = "2030-01-01"
    start = 1_893_456_000
    loads = np.exp(0.15 * _drift(rng, _USUAL + 60 * cases))
    usual = [gauges.row(start + _MINUTE * m, play(system, rng, float(loads[m]), None), None) for m in range(_USUAL)]
    if kind != "canary":
        _table(folder / f"normal_{day}.csv", ["time", *gauges.columns], usual)
    if kind == "large":
        _modalities(folder, {start: play(system, rng, 1.0, None)}, system, f"normal_{{}}_{day}")
    before = int(rng.choice([0, 1, 2], p=[0.25, 0.4, 0.35]))  # minutes of logs and spans before a fault
    traffic = play(system, rng, 5.0, None).asked
    for c in range(cases):
        begin = start + _MINUTE * _USUAL + _APART * (c + 1) + int(rng.integers(0, 60))
        now = system
        if kind == "canary":
            now, twin = _with_twin(system, int(rng.choice([i for i in range(1, n) if traffic[i]])), rng)
            fault = draw_fault(now, twin if rng.random() < 0.75 else None, traffic, kind, rng)
            gauges = _Gauges(now, rng, kind)
        else:
            fault = draw_fault(now, None, traffic, kind, rng)
        root = now.names[fault.service]
        case = folder / f"{c:02d}__{root}__{fault.kind}"
        case.mkdir()
        rows, minutes = [], {}
        first = begin - 870
        for m in range(20):
            at = first + _MINUTE * m
            part = float(np.clip(min(at + _MINUTE, begin + _FAULT) - max(at, begin), 0, _MINUTE) / _MINUTE)
            rows.append(gauges.row(at, play(now, rng, float(loads[_USUAL + 20 * c + m]), fault if part else None, part or 1.0),
                                   fault if part else None))
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
            _modalities(case, minutes, now, "{}")
        _table(case / "metrics.csv", ["time", *gauges.columns], rows)
        _table(case / "graph.csv", ["source", "target"], [[now.names[a], now.names[b]] for a, b in now.edges])
        label: dict[str, Any] = {"dataset": folder.name, "root_cause_service": root, "inject_time": float(begin),
                                 "fault_type": fault.kind, "abnormal_seconds": _FAULT, "day": day}
        if kind != "canary":
            label["normal"] = f"../normal_{day}.csv"
        (case / "label.json").write_text(json.dumps(label))


def draw_fault(system: System, at: int | None, traffic: Any, kind: str, rng: np.random.Generator) -> Fault:
    """In somebody who is asked for something at all; in `at`, if given."""
    busy = [i for i in range(1, len(system.names)) if traffic[i] >= 5]
    i = at if at is not None else int(rng.choice(busy))
    name = str(rng.choice(_KINDS, p=_MIX[kind]))
    own = system.operations[i]
    hit = tuple(k for k in range(len(own)) if rng.random() < 0.6) or tuple(range(len(own)))
    size = float(rng.uniform(1.5, 4)) if name == "cpu_contention" else float(np.exp(rng.uniform(np.log(0.01), np.log(0.4))))
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


class _Gauges:
    """Metrics of each service, as a cluster keeps them; which are missing is a matter of luck."""

    def __init__(self, system: System, rng: np.random.Generator, kind: str) -> None:
        n = len(system.names)
        self._rng, self._n = rng, n
        self._cpu, self._memory = rng.lognormal(-3, 0.8, n), rng.lognormal(5.5, 0.5, n)
        self._per_work = rng.uniform(0.2, 2, n)
        latency = kind != "large" or rng.random() < 0.5
        names = ["cpu", "cpu_rate", "mem", "net_rx", "net_tx", "workload", "success", "node_cpu"]
        names += ["server_lat_90", "server_lat_95", "client_lat_95"] if latency else []
        self._kept = [(i, name) for i in range(n) for name in names if rng.random() < 0.95]
        self.columns = [f"{system.names[i]}|{name}" for i, name in self._kept]
        self._counts_errors = kind != "large" or rng.random() < 0.3

    def row(self, time: float, minute: Minute, fault: Fault | None) -> list[str]:
        rng = self._rng
        noise = np.exp(rng.normal(0, 0.12, self._n))
        wild = np.where(rng.random(self._n) < 0.02, rng.lognormal(0.3, 0.5, self._n), 1.0)
        cells = []
        for i, name in self._kept:
            asked = minute.asked[i]
            mine = fault is not None and fault.service == i
            seconds = minute.seconds[i] / asked if asked else np.nan
            waits = minute.waits[i] / minute.calls[i] if minute.calls[i] else np.nan  # for whom it calls
            value = np.nan
            if name.startswith("cpu"):
                value = (self._cpu[i] * wild[i] + self._per_work[i] * minute.work[i] / 60) * noise[i]
                value += 0.3 * rng.uniform(0.5, 1.5) if fault is not None and mine and fault.kind == "cpu_contention" else 0.0
            elif name == "mem":
                self._memory[i] *= float(np.exp(rng.normal(0, 0.002)))
                value = self._memory[i]
            elif name.startswith("net"):
                value = 900 * asked * noise[i] + 3000
            elif name == "workload":
                value = asked / 60
            elif name == "success":
                value = 1 - (minute.failed[i] / asked if asked and self._counts_errors else 0.0)
            elif name == "node_cpu":
                value = 20 * noise[i]
            else:
                value = (waits if "client" in name else seconds) * (1.6 if "95" in name else 1.3) * noise[i]
            cells.append("" if not np.isfinite(value) else f"{value:.6g}")
        return [f"{time:.0f}", *cells]


def _drift(rng: np.random.Generator, n: int) -> np.ndarray:
    """[n] a load that wanders, about -2..2."""
    out = np.zeros(n)
    for t in range(1, n):
        out[t] = 0.95 * out[t - 1] + rng.normal(0, 0.3)
    return out


def _modalities(folder: Path, minutes: dict[int, Minute], system: System, pattern: str) -> None:
    spans, lines, templates = [], [], []
    for at, minute in sorted(minutes.items()):
        for (caller, callee, name), (n, seconds) in sorted(minute.spans.items()):
            mean = 1e6 * seconds / n
            spans.append([at, caller, callee, name, int(n), *(f"{times * mean:.6g}" for times in (1, 0.8, 2, 4))])
        for i, service in enumerate(system.names):
            mine = sorted(((k, text) for (s, text), k in minute.lines.items() if s == i and k), reverse=True)
            if mine:
                bad = minute.bad[i]
                lines.append([at, service, sum(k for k, _ in mine), bad // 2, bad, len(mine)])
            templates += [[at, service, text, k] for k, text in mine[:_MOST_TEMPLATES]]
    _table(folder / f"{pattern.format('traces')}.csv",
           ["time", "caller", "callee", "operation", "n", "mean_us", "p50_us", "p95_us", "max_us"], spans)
    _table(folder / f"{pattern.format('logs')}.csv",
           ["time", "service", "n_lines", "n_level_warn_err", "n_err_words", "n_templates"], lines)
    _table(folder / f"{pattern.format('log_templates')}.csv", ["time", "service", "template", "n"], templates)


def _table(file: Path, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    with file.open("w", newline="") as out:
        writer = csv.writer(out)
        writer.writerow(columns)
        writer.writerows(rows)


if __name__ == "__main__":
    main()
