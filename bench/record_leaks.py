"""Record leaks of the fault lab for `opsmend eval breach`: `python bench/record_leaks.py [--minutes 60] DIR`.

The shop runs under a light load. Four of its services get releases that leak slowly (memory, connections), one of which
is rolled back half-way, and the others stay well; no healer runs. Writes the layout of `opsmend eval breach`: a row every
ten seconds per series, and `meta.json` with what was deployed when. Made `opsmend/evaluate/recorded_leaks/`.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

from rich.progress import track

sys.path[0] = str(Path(__file__).resolve().parent.parent)

from opsmend.lab import topology
from opsmend.lab.settings import ReleaseSettings
from opsmend.lab.system import Lab, LabConfig

EVERY_SECONDS: Final = 10
MEMORY, POOL = "process.memory.rss", "db.pool.in_use"
WATCHED: Final = (*((s, MEMORY) for s in topology.SERVICES), *((s, POOL) for s in topology.USES_POSTGRES),
                  ("redis", "redis.memory_used_bytes"))
LIMITS: Final = {MEMORY: float(topology.MEMORY_LIMIT_BYTES), POOL: float(topology.POOL_MAX),
                 "redis.memory_used_bytes": float(topology.REDIS_MAX_BYTES)}


@dataclass(frozen=True)
class Leak:
    """A release that is rolled out at a share of the recording, and rolled back at another (above 1: never)."""

    service: str
    metric: str
    settings: ReleaseSettings
    at: float
    until: float = 2.0


def leaks(minutes: float, requests_per_second: float) -> list[Leak]:
    """Leaks that reach their limit in a third to three quarters of the recording, by what each service is asked."""
    served = {"catalog": 0.68, "cart": 0.32, "frontend": 1.0}

    def bytes_each(service: str, share: float) -> int:
        return int(130e6 / (share * minutes * 60 * served[service] * requests_per_second))

    kept = max(1, round(0.5 * minutes * 60 * 0.14 * requests_per_second / topology.POOL_MAX))
    return [Leak("catalog", MEMORY, ReleaseSettings(cache_bytes_per_request=bytes_each("catalog", 0.40)), 0.15),
            Leak("orders", POOL, ReleaseSettings(keep_connection_every=kept), 0.20),
            Leak("cart", MEMORY, ReleaseSettings(cache_bytes_per_request=bytes_each("cart", 0.60)), 0.25),
            Leak("frontend", MEMORY, ReleaseSettings(cache_bytes_per_request=bytes_each("frontend", 0.55)), 0.10, 0.40)]


def record(lab: Lab, minutes: float, plan: list[Leak]) -> tuple[dict[tuple[str, str], list[tuple[float, float]]],
                                                                 dict[str, tuple[float, float]]]:
    """((service, metric) -> (unix seconds, value) rows; service -> when its release leaked from and to)."""
    rows: dict[tuple[str, str], list[tuple[float, float]]] = {key: [] for key in WATCHED}
    times: dict[str, tuple[float, float]] = {}
    begun = time.time()
    for step in track(range(int(minutes * 60 / EVERY_SECONDS)), "recording"):
        time.sleep(max(0.0, begun + step * EVERY_SECONDS - time.time()))
        share = step * EVERY_SECONDS / (minutes * 60)
        for leak in plan:
            if share >= leak.at and leak.service not in times:
                lab.deployer.deploy(leak.service, "rollout", leak.settings)
                times[leak.service] = (time.time(), float("inf"))
            elif share >= leak.until and times[leak.service][1] == float("inf"):
                lab.deployer.act(leak.service, "rollback")
                times[leak.service] = (times[leak.service][0], time.time())
        latest = json.loads(lab.layout.latest.read_bytes())
        for service, metric in WATCHED:
            value = latest["values"].get(f"{service}/{metric}/")
            if value is not None:
                rows[service, metric].append((latest["ts"] / 1e9, value))
    return rows, times


def entry(name: str, metric: str, rows: list[tuple[float, float]], leak: Leak | None,
          times: tuple[float, float] | None) -> dict[str, Any]:
    """The labels of a series; its rows are cut off where it has crossed."""
    limit = LIMITS[metric]
    found: dict[str, Any] = {"id": name, "kind": "lab_calm", "metric": metric, "limit": limit, "step": EVERY_SECONDS,
                             "direction": "up", "healthy": True, "episodes": []}
    if leak is None or times is None:
        return found
    onset, ended = times
    after = [(t, v) for t, v in rows if t >= onset]
    crossed = next((t for (t, v), (_, following) in pairwise(after)
                    if v >= 0.98 * limit or (following < 0.6 * v and v > 0.9 * limit)), None)
    found |= {"kind": "lab_leak", "healthy": False}
    if crossed is not None and crossed < ended:
        found["episodes"] = [{"onset": onset, "end": crossed, "crossing": crossed, "cancelled": False}]
        del rows[sum(t <= crossed for t, _ in rows):]
        return found
    ramp = [(t, v) for t, v in after if onset + 60 < t < ended]
    slope = (ramp[-1][1] - ramp[0][1]) / (ramp[-1][0] - ramp[0][0])
    end = min(ended, rows[-1][0])
    crossing = end + max(0.0, limit - ramp[-1][1]) / slope if slope > 0 else end
    return found | {"kind": "lab_rolled_back", "healthy": True,
                    "episodes": [{"onset": onset, "end": end, "crossing": crossing, "cancelled": True}]}


def main() -> None:
    """Record and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--requests", type=float, default=8.0, help="a second")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("directory", type=Path)
    arguments = parser.parse_args()
    plan = leaks(arguments.minutes, arguments.requests)
    of = {(leak.service, leak.metric): leak for leak in plan}
    with Lab(LabConfig(requests_per_second=arguments.requests, seed=arguments.seed)) as lab:
        lab.wait_steady()
        rows, times = record(lab, arguments.minutes, plan)
    arguments.directory.mkdir(parents=True, exist_ok=True)
    meta = []
    for (service, metric), table in rows.items():
        name = f"{service}-{metric.replace('.', '-')}-{arguments.seed}"
        leak = of.get((service, metric))
        if not table:
            continue
        meta.append(entry(name, metric, table, leak, times.get(service) if leak else None))
        lines = [f"{t:.0f},{v:.9g}" for t, v in table]
        (arguments.directory / f"{name}.csv").write_text("\n".join(["timestamp,value", *lines]) + "\n")
    (arguments.directory / "meta.json").write_text(json.dumps(meta, indent=1) + "\n")
    for one in meta:
        print(one["id"], one["kind"], *(f"{(e['crossing'] - e['onset']) / 60:.0f} min" for e in one["episodes"]))


if __name__ == "__main__":
    main()
