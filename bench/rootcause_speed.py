"""Time per ranking against the number of services: `python bench/rootcause_speed.py [--json FILE]`.

One thread. A made-up window of 200 rows, all indicators, 1.5 calls per service. `ours` is the GNN at 40 services.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path

import numpy as np

from rootcause.rankers.registry import RANKERS
from rootcause.types import CaseWindow
from rootcause.window import EDGE_INDICATORS, NODE_INDICATORS

ROWS, BASELINE = 200, 180
SIZES = (10, 40, 200, 1000)


def made_up(n: int) -> CaseWindow:
    """A window in which the last service is slow and fails."""
    rng = np.random.default_rng(n)
    callers = rng.integers(0, np.maximum(1, np.arange(n) // 2 + 1))
    pairs = {(int(callers[i]), i) for i in range(1, n) if callers[i] != i}
    pairs |= {tuple(sorted(map(int, rng.choice(n, 2, replace=False)))) for _ in range(n // 2)}
    edges = np.array(sorted(pairs), dtype=np.int32)
    node = {name: rng.lognormal(0, 0.1, (ROWS, n)) for name in NODE_INDICATORS}
    node["errors"] = np.zeros((ROWS, n))
    edge = {name: rng.lognormal(0, 0.1, (ROWS, len(edges))) for name in EDGE_INDICATORS}
    node["latency"][BASELINE:, -1] *= 20
    node["errors"][BASELINE:, -1] = 0.5
    return CaseWindow(np.arange(ROWS, dtype=np.int64) * 10**9, tuple(f"s{i}" for i in range(n)), node, edges, edge, BASELINE)


def milliseconds(name: str, case: CaseWindow, repeats: int = 7) -> float:
    ranker = RANKERS[name]()
    ranker.rank(case)
    taken = []
    for _ in range(repeats):
        began = time.perf_counter()
        ranker.rank(case)
        taken.append(1e3 * (time.perf_counter() - began))
    return round(statistics.median(taken), 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    by_size = {n: {name: milliseconds(name, made_up(n)) for name in RANKERS} for n in SIZES}
    for n, row in by_size.items():
        print(f"{n:5} services  " + "  ".join(f"{name} {ms:.1f} ms" for name, ms in row.items()))
    ours = by_size[40]["gnn"]
    peers = {name: ms for name, ms in by_size[40].items() if name != "gnn"}
    report = {"name": "rootcause ranking, 40 services", "unit": "ms", "ours": ours, "peers": peers,
              "ratio": round(ours / max(peers["max_robust_z"], 1e-9), 2),
              "by_services": {str(n): row for n, row in by_size.items()}}
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
