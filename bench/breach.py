"""What early warning costs: `python bench/breach.py [--series N] [--minutes M] [--json FILE]`. One thread, CPU time.

Made series, half of which run into their limit. `ours` is a tick of all series at once as the service runs it, after
the minutes that warm up. The peers are the rules of `opsmend eval breach`, compiled, over the same minutes; beside
them ours over a whole series at once, as the evaluation runs it.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np

sys.path[0] = str(Path(__file__).resolve().parent.parent)

from detect.breach.memory import STATE
from detect.breach.predictor import BreachPredictor, foretell
from detect.breach.series import Recorded
from detect.breach.synthetic.make import make_many
from opsmend.evaluate.breach_baselines import BASELINES

PEERS = ("predict_linear(1h, 4h)", "predict_linear(15m, 30m) for 5m", "Holt, under 60 min for 5 min",
         "Theil-Sen 60 min, under 60 min")


def microseconds_by_tick(series: list[Recorded], minutes: int, warm_up: int) -> float:
    """Median CPU time of a tick over the series in it."""
    predictor: BreachPredictor[str] = BreachPredictor()
    taken = []
    for minute in range(minutes):
        there = [s for s in series if minute < len(s.ticks)]
        values = [s.values[minute:minute + 1] for s in there]
        keys, limits = [s.truth.id for s in there], [s.limit for s in there]
        began = time.process_time()
        predictor.step(minute, keys, values, limits)
        if there and minute >= warm_up:
            taken.append((time.process_time() - began) / len(there))
    return round(1e6 * float(np.median(taken)), 2)


def microseconds_at_once(name: str, series: list[Recorded]) -> float:
    """CPU time of whole series over their minutes, best of three."""
    rule = BASELINES.get(name, foretell)
    rule(series[0])
    taken = []
    for _ in range(3):
        began = time.process_time()
        for one in series:
            rule(one)
        taken.append(time.process_time() - began)
    return round(1e6 * min(taken) / sum(len(s.ticks) for s in series), 3)


def main() -> None:
    """Print the table, write the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--series", type=int, default=200)
    parser.add_argument("--minutes", type=int, default=300)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    series = [s for s in make_many(2 * arguments.series, 5) if len(s.ticks) >= arguments.minutes][:arguments.series]
    ours = microseconds_by_tick(series, arguments.minutes, arguments.minutes // 2)
    peers = {name: microseconds_at_once(name, series) for name in PEERS}
    at_once = microseconds_at_once("opsmend", series)
    report = {"name": "early warning, per series and minute", "unit": "us", "ours": ours, "peers": peers,
              "ratio": round(ours / peers[PEERS[0]], 1), "ours_at_once": at_once,
              "ratio_at_once": round(at_once / peers[PEERS[0]], 1), "series": len(series),
              "state_bytes_per_series": 8 * STATE,
              "core_share_of_10k_series_each_minute": round(ours * 1e-6 * 10_000 / 60, 4)}
    print(f"{len(series)} series; {report['state_bytes_per_series']} bytes of state each")
    for name, cost in (("opsmend, a tick at a time", ours), ("opsmend, a series at once", at_once), *peers.items()):
        print(f"{name:34s} {cost:8.2f} us per series and minute, {cost / peers[PEERS[0]]:7.1f} times predict_linear")
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
