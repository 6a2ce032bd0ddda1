"""CPU time per ranking against the number of services: `python bench/rootcause_speed.py [--json FILE]`.

One thread, so on an idle machine it is the time that one waits. A made-up window, all indicators: 200 rows and 1.5 calls per
service, and `dense`: 800 rows, which are a quarter of an hour by the second, and ten calls per service. `ours` is the GNN at
100 services; `gnn alone` is its pass through the network, without the features. Every time is of another case.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

sys.path[0] = str(Path(__file__).resolve().parent.parent)  # or bench/ingest.py would be taken for the package of its name

from rootcause.features import case_features
from rootcause.rankers.gnn import load_weights
from rootcause.rankers.registry import RANKERS
from rootcause.types import CaseWindow
from rootcause.window import EDGE_INDICATORS, NODE_INDICATORS

ROWS, BASELINE = 200, 180
SIZES = (10, 100, 500, 2000)
REPEATS = 3


def made_up(n: int, rows: int = ROWS, calls: float = 1.5, seed: int = 0) -> CaseWindow:
    """A window in which the last service is slow and fails."""
    rng, base = np.random.default_rng([n, seed]), rows * BASELINE // ROWS
    callers = rng.integers(0, np.maximum(1, np.arange(n) // 2 + 1))
    pairs = {(int(callers[i]), i) for i in range(1, n) if callers[i] != i}
    for _ in range(round(n * (calls - 1))):
        one, other = sorted(map(int, rng.choice(n, 2, replace=False)))
        pairs.add((one, other))
    edges = np.array(sorted(pairs), dtype=np.int32)
    node = {name: rng.lognormal(0, 0.1, (rows, n)) for name in NODE_INDICATORS}
    node["errors"] = np.zeros((rows, n))
    edge = {name: rng.lognormal(0, 0.1, (rows, len(edges))) for name in EDGE_INDICATORS}
    node["latency"][base:, -1] *= 20
    node["errors"][base:, -1] = 0.5
    return CaseWindow(np.arange(rows, dtype=np.int64) * 10**9, tuple(f"s{i}" for i in range(n)), node, edges, edge, base)


def milliseconds(work: Callable[[CaseWindow], object], cases: Sequence[CaseWindow]) -> float:
    """The median of all but the first, each another case: of the one before something may be remembered."""
    taken = []
    for case in cases:
        began = time.process_time()
        work(case)
        taken.append(1e3 * (time.process_time() - began))
    return round(statistics.median(taken[1:]), 2)


def measured(n: int, rows: int = ROWS, calls: float = 1.5) -> dict[str, float]:
    """Milliseconds of every ranker, and of the GNN's pass through the network alone."""
    cases = [made_up(n, rows, calls, seed) for seed in range(REPEATS + 1)]
    case = cases[0]
    features, nets = case_features(case), load_weights().nets
    node, edge = torch.from_numpy(features.node), torch.from_numpy(features.edge)
    edges = torch.from_numpy(case.edges.astype(np.int64).T.copy())
    found = {name: milliseconds(make().rank, cases) for name, make in RANKERS.items()}
    return found | {"gnn alone": milliseconds(lambda _: nets.log_probabilities(node, edges, edge), cases)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    by_size = {n: measured(n) for n in SIZES}
    for n, row in by_size.items():
        print(f"{n:5} services  " + "  ".join(f"{name} {ms:.1f} ms" for name, ms in row.items()))
    dense = {n: measured(n, rows=800, calls=10.0) for n in (100, 2000)}
    for n, row in dense.items():
        print(f"{n:5} dense     " + "  ".join(f"{name} {ms:.1f} ms" for name, ms in row.items()))
    ours = by_size[100]["gnn"]
    peers = {name: ms for name, ms in by_size[100].items() if not name.startswith("gnn")}
    report = {"name": "rootcause ranking, 100 services", "unit": "ms", "ours": ours, "peers": peers,
              "ratio": round(ours / max(peers["max_robust_z"], 1e-9), 2),
              "by_services": {str(n): row for n, row in by_size.items()},
              "dense": {str(n): row for n, row in dense.items()}}
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
