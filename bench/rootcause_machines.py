"""How often a shaken machine is named: where one was, and where something else was wrong. Made-up systems alone.

    python bench/rootcause_machines.py [--cases 300] [--seed 0] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

sys.path[0] = str(Path(__file__).resolve().parent.parent)  # or bench/ingest.py would be taken for the package of its name

from rootcause.machines import Machine, shaken_machine
from rootcause.rankers.registry import ranker_of
from rootcause.reasons import Reasons
from rootcause.simulate import simulate
from rootcause.simulate.physics import Conditions, flow
from rootcause.simulate.sensors import draw_profile, measure
from rootcause.simulate.topology import draw_system
from rootcause.simulate.watchers import names_of, usual_rows
from rootcause.simulate.weather import disturb, settle
from rootcause.stage import RootCauseConfig
from rootcause.types import CaseWindow, ServiceGraph


def placed(case: CaseWindow, rng: np.random.Generator) -> ServiceGraph:
    """Three to eight services on each machine, anyhow."""
    names = list(case.services)
    hosts = max(2, round(len(names) / rng.uniform(3, 8)))
    on = rng.integers(0, hosts, len(names))
    edges = frozenset((case.services[a], case.services[b]) for a, b in case.edges.tolist())
    return ServiceGraph(case.services, edges, kinds={f"node-{h}": "host" for h in range(hosts)},
                        rests_on=frozenset((name, f"node-{h}") for name, h in zip(names, on.tolist(), strict=True)))


def shaken(rng: np.random.Generator) -> tuple[CaseWindow, ServiceGraph, str]:
    """A machine on which everything gets slow, or fails, and whose CPU is or is not seen to be busy."""
    while True:
        system, profile = draw_system(rng), draw_profile(rng)
        step = float(rng.choice([1.0, 10.0, 60.0]))
        base, after = usual_rows(step, rng)
        given = Conditions.usual(system, base + after)
        settle(system, given, base, step, rng)
        disturb("", (), system, given, base, step, rng)
        t = np.arange(base + after)
        ts_ns = (t * int(step * 1e9)).astype(np.int64)
        empty = CaseWindow(ts_ns, names_of(system.n), {}, system.edges, {}, base)
        graph = placed(empty, rng)
        host = str(rng.choice(sorted({h for _, h in graph.rests_on})))
        on = np.array([(name, host) in graph.rests_on for name in graph.services]) & ~system.is_external
        if on.sum() < 2:
            continue
        shape = (t >= base + int(rng.integers(-1, 3))).astype(float)[:, None] * on
        if rng.random() < 0.75:
            given.own_seconds *= 1 + shape * (np.exp(rng.uniform(np.log(2), np.log(40))) - 1) * rng.uniform(0.5, 1, system.n)
        else:
            given.own_error += shape * rng.uniform(0.05, 0.6) * rng.uniform(0.5, 1, system.n)
        np.clip(given.own_error, 0, 1, out=given.own_error)
        node, edge = measure(system, given, flow(system, given), [], [], base, step, profile, rng)
        return replace(empty, node_metrics=node, edge_metrics=edge), graph, host


def other(rng: np.random.Generator) -> tuple[CaseWindow, ServiceGraph, str]:
    """As the ranker is trained on: one fault, two or none; "" is the right answer."""
    made = simulate(rng)
    return made.case, placed(made.case, rng), ""


def named(make: Callable[[np.random.Generator], tuple[CaseWindow, ServiceGraph, str]], cases: int,
          seed: int) -> list[tuple[str, Machine | None]]:
    out = []
    for n in range(cases):
        case, graph, host = make(np.random.default_rng((seed, n)))
        first = int(case.ts_ns[min(case.baseline_rows, len(case.ts_ns) - 1)])
        out.append((host, shaken_machine(case, graph, Reasons(case, first), {})))
    return out


def told(case: CaseWindow) -> bool:
    """Whether the ranker alone is ahead by the margin with which the stage speaks."""
    ranking = ranker_of(RootCauseConfig().ranker, "").rank(case)
    p = np.sort(ranking.scores)[::-1] / ranking.scores.sum() * (1 - (ranking.p_none or 0.0))
    return bool(p[0] - max(p[1], ranking.p_none or 0.0) >= RootCauseConfig().margin)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    struck, rest = named(shaken, given.cases, given.seed), named(other, given.cases, given.seed)
    right = sum(found is not None and found.name == host for host, found in struck) / given.cases
    wrong = sum(found is not None and found.name != host for host, found in struck) / given.cases
    false = sum(found is not None for _, found in rest) / given.cases
    alone = np.mean([told(shaken(np.random.default_rng((given.seed, n)))[0]) for n in range(given.cases)])
    report = {"name": "rootcause_machines", "unit": "share of cases", "cases": given.cases, "seed": given.seed,
              "named": right, "another_named": wrong, "named_without_one": false,
              "ranker_alone_tells_a_service": float(alone)}
    print(", ".join(f"{k} {v}" if isinstance(v, str) else f"{k} {v:.3g}" for k, v in report.items()))
    if given.json:
        given.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
