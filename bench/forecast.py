"""What forecasting costs: `python bench/forecast.py [--series N] [--json FILE]`.

One thread, CPU time. `ours` is `Forecaster.step` as the service calls it: scaling, season, LSTM, all quantiles at all
horizons, judging, blending and bands. Beside it, of the same sizes: torch's LSTM over a window of 60 steps for every
forecast, and torch's own cell with a kept state; both are given their features ready-made and do nothing else.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(name, "1")

import numpy as np
import torch

sys.path[0] = str(Path(__file__).resolve().parent.parent)  # or this file would be taken for the package of its name

from detect.forecaster.cell import advance
from detect.forecaster.lstm import FEATURES, HORIZONS, QUANTILES, Forecaster, Weights
from detect.forecaster.network import Network
from detect.forecaster.shape import OUTPUTS
from detect.forecaster.synthetic import synthetic_series

WINDOW = 60
BUCKET_NS = 10 * 10**9


def per_step(step: Callable[[], object], repeats: int) -> tuple[float, float]:
    """CPU seconds of one call: the median and the least of `repeats`."""
    step()
    taken = []
    for _ in range(repeats):
        began = time.process_time()
        step()
        taken.append(time.process_time() - began)
    return float(np.median(taken)), min(taken)


def our_step(n: int, weights: Weights | None = None) -> tuple[Callable[[], object], Forecaster]:
    """Ticks of n series, warm: they have seen 200 values."""
    values = np.tile(synthetic_series(min(n, 200), 256, np.random.default_rng(0)), (-(-n // 200), 1))[:n]
    rows = np.ascontiguousarray(values.T)
    forecaster = Forecaster(weights or Weights.load(), BUCKET_NS)
    at = 0

    def step() -> object:
        nonlocal at
        at += 1
        return forecaster.step(at * BUCKET_NS, rows[at % len(rows)])

    for _ in range(200 if n <= 20_000 else 70):
        step()
    return step, forecaster


def network_alone(n: int, repeats: int) -> float:
    """Series-steps per second of our cell on features that are ready-made, as torch's below."""
    weights, rng = Weights.load(), np.random.default_rng(0)
    feats, hidden = rng.normal(size=(n, FEATURES)).astype(np.float32), np.zeros((n, 2 * weights.hidden), np.float32)
    raw, at = np.empty((n, OUTPUTS), np.float32), np.arange(n)
    return n / per_step(lambda: advance(at, feats, hidden, weights.w, weights.b, weights.v, weights.d, raw), repeats)[0]


def peers(n: int, repeats: int) -> dict[str, float]:
    """Series-steps per second of the others."""
    torch.set_num_threads(1)
    network = Network.of(Weights.load()).eval()
    made: dict[str, float] = {}
    with torch.inference_mode():
        one, window = torch.randn(1, n, FEATURES), torch.randn(WINDOW, min(n, 1000), FEATURES)
        _, state = network(one)

        def cell() -> object:
            nonlocal state
            out, state = network(one, state)
            return out

        made["torch, stateful"] = n / per_step(cell, repeats)[0]
        made[f"torch, window of {WINDOW}"] = window.shape[1] / per_step(lambda: network(window)[0][-1], 3)[0]
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--series", type=int, default=10_000)
    parser.add_argument("--repeats", type=int, default=60)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    n = arguments.series
    rows = []
    for size in sorted({1, 100, 1000, n}):
        step, forecaster = our_step(size)
        middle, least = per_step(step, arguments.repeats)
        rows.append({"series": size, "ms_per_tick": round(1e3 * middle, 3), "ms_least": round(1e3 * least, 3),
                     "series_steps_per_s": round(size / middle), "best": round(size / least)})
        print(f"{size:7} series  {1e3 * middle:8.3f} ms a tick  {size / middle / 1e6:6.3f} M series-steps/s "
              f"(best {size / least / 1e6:.3f})")
    alone = network_alone(n, arguments.repeats)
    print(f"{'our network alone':24} {alone / 1e6:6.3f} M series-steps/s")
    others = peers(n, arguments.repeats)
    for name, rate in others.items():
        print(f"{name:24} {rate / 1e6:6.3f} M series-steps/s")
    ours = rows[-1]
    state = Forecaster.BYTES_PER_SERIES
    share = ours["ms_per_tick"] / 1e3 / (BUCKET_NS / 1e9)
    print(f"state {state} bytes a series; {n} series every 10 s: {share:.2%} of a core")
    report = {"name": f"forecast, {n} series, {len(HORIZONS)} horizons x {len(QUANTILES)} quantiles",
              "unit": "series-steps/s per core", "ours": ours["series_steps_per_s"],
              "peers": {name: round(rate) for name, rate in others.items()},
              "ratio": round(ours["series_steps_per_s"] / max(others.values()), 2), "network_alone": round(alone),
              "sizes": rows,
              "bytes_per_series": state, "share_of_core_at_10s": round(share, 5), "model": forecaster.version}
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
