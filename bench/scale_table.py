"""How many cores, workers and shards for how many lines per second: `python bench/scale_table.py [FILE]`.

Reads what bench/scale.py wrote (bench/results/scale.json) and prints the table of docs/scaling.md.
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

LOAD = 0.6  # share of a core that is planned for: the rest is for catching up and for a worker that died
CORES_PER_WORKER = 1.0  # packer and detect are threads of one interpreter: do not count on more
RESULTS = Path(__file__).parent / "results" / "scale.json"


def table(measured: dict[str, dict[str, dict[str, float]]]) -> str:
    """Markdown. The cost is that of two workers with the broker beside them: the dearest that was measured."""
    cost_us = measured["workers"]["2 workers"]["cpu_us_per_line"]
    per_line = float(measured["bytes_per_line"])  # type: ignore[arg-type]
    rows = ["| lines a second | raw MB a second | cores | workers | shards and partitions |", "|---|---|---|---|---|"]
    for rate in (100_000, 500_000, 1_000_000, 3_000_000, 10_000_000):
        cores = rate * cost_us / 1e6 / LOAD
        workers = max(2, math.ceil(cores / CORES_PER_WORKER))
        shards = 2 ** math.ceil(math.log2(2 * workers))
        rows.append(f"| {rate:,} | {rate * per_line / 1e6:,.0f} | {cores:.1f} | {workers} | {shards} |")
    return "\n".join(rows)


if __name__ == "__main__":
    print(table(json.loads(Path(sys.argv[1] if len(sys.argv) > 1 else RESULTS).read_text())))
