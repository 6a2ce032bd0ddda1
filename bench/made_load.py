"""Managed services under another load than usual, in rows of five minutes: what `made_cases.py --kind load` writes.

Each node has requests, latency and availability, and nothing else. Part of the services is seen under two names, one calling
the other (a load balancer, a gateway, the function behind its service); stores that a provider runs have latency in some of the
rows only. The usual rows are of ordinary days. A case has five rows, on a busier, burstier day: about half of the services
are outside what the usual rows show before anything begins, a few fail as they always do, and what then goes wrong is faint: a
delay in one service, or a few percent of its requests that fail.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from bench.made_rows import drift, write_table
from bench.made_system import Fault, Minute, System, draw_system, play

_ROW = 300
_USUAL = 288
_ROWS = 5
_KINDS = ("delay", "error", "overload")
_START = 1_893_456_000
_STATISTICS = (("latency_Average", 1.0), ("latency_p50", 0.8), ("latency_p90", 1.5), ("latency_p95", 1.9), ("latency_p99", 3.0))


class Nodes:
    """How the nodes of a system are called and seen."""

    def __init__(self, system: System, rng: np.random.Generator) -> None:
        n = len(system.names)
        self._rng = rng
        leaf = ~np.isin(np.arange(n), [a for a, _ in system.edges])
        second = (rng.random(n) < 0.4) & (np.arange(n) > 0)
        self.managed = leaf & (rng.random(n) < 0.5)
        self.coverage = np.where(self.managed, rng.uniform(0.05, 1.0, n), 1.0)
        self.second = {i: f"{system.names[i]}_{'remote' if rng.random() < 0.5 else 'gateway'}"
                       for i in np.flatnonzero(second).tolist()}
        self.part = rng.uniform(0.3, 1.0, n)  # of the calls that go through the second name
        self._order = [(i, False) for i in range(n)] + [(i, True) for i in self.second]
        self.names = [*system.names, *self.second.values()]
        self.columns = [f"{name}|{what}" for name in self.names for what in
                        ("availability_Average", *(of for of, _ in _STATISTICS), "requests_Sum")]

    def edges(self, system: System) -> list[tuple[str, str]]:
        """Caller, callee."""
        names, found = system.names, set()
        for a, b in system.edges:
            found |= {(names[a], self.second[b]), (self.second[b], names[b])} if b in self.second else {(names[a], names[b])}
        return sorted(found)

    def row(self, time: float, minute: Minute) -> list[str]:
        rng = self._rng
        cells = []
        for i, is_second in self._order:
            asked = int(minute.asked[i])
            failed, seconds = int(minute.failed[i]), minute.seconds[i] / asked if asked else np.nan
            if is_second:
                asked = int(rng.binomial(asked, self.part[i]))
                failed = min(asked, int(rng.binomial(failed, self.part[i])))
                seconds = seconds + 0.002
            hidden = rng.random() > self.coverage[i]
            seen = asked > 0 and not hidden
            noise = float(np.exp(rng.normal(0, 0.08 + 0.5 / np.sqrt(max(asked, 1)))))
            cells.append(f"{100 * (1 - failed / asked):.6g}" if seen else "")
            for _, times in _STATISTICS:
                cells.append(f"{seconds * times * noise * float(np.exp(rng.normal(0, 0.05))):.6g}" if seen else "")
            cells.append("" if hidden and rng.random() < 0.5 else str(asked))
        return [f"{time:.0f}", *cells]


def write_load_set(folder: Path, cases: int, rng: np.random.Generator) -> None:
    """One system, its ordinary days, and its cases on busier ones."""
    n = int(rng.integers(18, 31))
    per_row = float(np.exp(rng.uniform(np.log(300), np.log(3000))))
    system = draw_system(rng, n, per_row)
    while sum(asked >= 20 for asked in play(system, rng, 1.0, None).asked.values()) < n // 2:
        system = draw_system(rng, n, per_row)
    always = np.where(rng.random(n) < 0.15, rng.exponential(0.01, n), 0.0)
    always = np.where(rng.random(n) < 0.04, rng.uniform(0.3, 1.0, n), always)
    system = replace(system, fails=always, mixed=min(system.mixed, 0.3))
    nodes = Nodes(system, rng)
    folder.mkdir(parents=True)
    wander = np.exp(0.1 * drift(rng, _USUAL))
    day = np.exp(0.2 * np.sin(np.arange(_USUAL) * 2 * np.pi * _ROW / 86400))
    usual = [nodes.row(_START + _ROW * t, play(system, rng, float(wander[t] * day[t]), None)) for t in range(_USUAL)]
    write_table(folder / "normal_days.csv", ["time", *nodes.columns], usual)
    traffic = play(system, rng, 1.0, None).asked
    busy = [i for i in range(n) if traffic[i] >= 20]
    for c in range(cases):
        begin = _START + _ROW * (_USUAL + 100 * (c + 1))
        fault = _draw(system, busy, nodes, rng)
        other = another_day(system, rng, strong=float(rng.uniform(0.4, 1.2)), often=float(rng.uniform(0.6, 1.0)))
        load = float(rng.uniform(1.5, 6))
        late = int(rng.integers(0, 2))  # the first row may precede the effect
        rows = [nodes.row(begin + _ROW * t, play(other, rng, load * float(rng.lognormal(0, 0.4)), fault if t >= late else None))
                for t in range(_ROWS)]
        _case(folder / f"{c:02d}__{system.names[fault.service]}__{fault.label}", nodes, system, rows,
              {"dataset": folder.name, "root_cause_service": system.names[fault.service], "inject_time": float(begin),
               "all_rows_abnormal": True, "normal": "../normal_days.csv", "fault_type": fault.label})


def another_day(system: System, rng: np.random.Generator, *, strong: float, often: float) -> System:
    """The same, slower or faster in a share `often` of the services by a lognormal factor of `strong`, asked for another mix,
    with a few more that fail now and then."""
    n = len(system.names)
    factor = np.where(rng.random(n) < often, rng.lognormal(0.3 * strong, strong, n), 1.0)
    fails = system.fails if system.fails is not None else np.zeros(n)
    fails = np.minimum(1.0, fails + np.where(rng.random(n) < 0.1 * often, rng.exponential(0.01, n), 0.0))
    operations = tuple(tuple(replace(o, seconds=o.seconds * factor[i], steps=tuple(
        replace(s, seconds=s.seconds * factor[i]) if s.kind == "span" else s for s in o.steps)) for o in of)
        for i, of in enumerate(system.operations))
    requests = tuple((rate * float(rng.lognormal(0, strong)), s, k) for rate, s, k in system.requests)
    return replace(system, operations=operations, requests=requests, fails=fails)


def _draw(system: System, busy: list[int], nodes: Nodes, rng: np.random.Generator) -> Fault:
    """Stores are overloaded, others slow or failing; in part of the operations, as far as it goes."""
    i = int(rng.choice(busy))
    label = "overload" if nodes.managed[i] else str(rng.choice(_KINDS[:2], p=[0.45, 0.55]))
    own = system.operations[i]
    hit = tuple(k for k in range(len(own)) if rng.random() < 0.6) or tuple(range(len(own)))
    if label == "error":
        share = float(np.exp(rng.uniform(np.log(0.02), np.log(0.4))))
        return Fault("exception", i, 1.0, share, tuple(range(len(own))), int(rng.integers(0, 3)), True, label)
    return Fault("cpu_contention", i, float(np.exp(rng.uniform(np.log(2), np.log(40)))), 1.0, hit, 0, True, label)


def _case(case: Path, nodes: Nodes, system: System, rows: list[list[str]], label: dict[str, Any]) -> None:
    case.mkdir()
    write_table(case / "metrics.csv", ["time", *nodes.columns], rows)
    write_table(case / "graph.csv", ["source", "target"], [list(edge) for edge in nodes.edges(system)])
    (case / "label.json").write_text(json.dumps(label))
