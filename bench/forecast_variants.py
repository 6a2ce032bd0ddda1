"""Smaller and coarser forecasters beside the shipped one:
`python bench/forecast_variants.py [--distill UNITS]... [--students DIR] [--json F]`.

Speed is that of `Forecaster.step` with 10,000 series, or, for what our cell can't compute, of the network alone in the
library that can, beside the same network in FP32 there. Quality is the pinball loss against the shipped weights on
series held back (made up, four clocks, and recorded): a negative gain is lost quality. `equal` means at most 1 % lost.
Students are trained as `opsmend train forecaster --distill UNITS` does it (ten minutes each), but kept whatever they are
worth: under --students, where they are found again, or nowhere.
"""

from __future__ import annotations

import argparse
import functools
import json
import operator
import os
import sys
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(name, "1")

import numpy as np
import torch

sys.path[0] = str(Path(__file__).resolve().parent.parent)  # or this file would be taken for the package of its name

from bench.forecast import our_step, per_step
from detect.forecaster.lstm import FEATURES, Weights
from detect.forecaster.network import Network
from detect.train import EQUAL, against_shipped, train_forecaster

SERIES, REPEATS = 10_000, 40


def rounded(weights: Weights, bits: int) -> Weights:
    """Every row rounded to `bits`, with a scale of its own, and computed in FP32."""
    def one(matrix: np.ndarray) -> np.ndarray:
        top = np.abs(matrix).max(axis=1, keepdims=True) / (2 ** (bits - 1) - 1)
        near: np.ndarray = np.round(matrix / top) * top
        return near.astype(np.float32)

    return replace(weights, w=one(weights.w), v=one(weights.v), version=f"int{bits}")


def pruned(weights: Weights, share: float) -> Weights:
    """The smallest `share` of the gates' weights set to nought."""
    limit = np.quantile(np.abs(weights.w), share)
    return replace(weights, w=np.where(np.abs(weights.w) < limit, 0, weights.w).astype(np.float32), version=f"pruned {share}")


def torch_rates(weights: Weights) -> dict[str, float]:
    """Series-steps per second of torch's stateful cell: FP32, and INT8 by dynamic quantization."""
    torch.set_num_threads(1)
    plain = Network.of(weights).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        quantized: Callable[..., Any] = torch.ao.quantization.quantize_dynamic
        eight = quantized(plain, {torch.nn.LSTM, torch.nn.Linear}, dtype=torch.qint8)
    made = {}
    for name, network in (("fp32", plain), ("int8", eight)):
        with torch.inference_mode():
            x = torch.randn(1, SERIES, FEATURES)
            state = network(x)[1]
            made[name] = SERIES / per_step(functools.partial(network, x, state), REPEATS)[0]
    return made


def sparse_rates(weights: Weights) -> dict[str, float]:
    """Products per second of the gates' matrix with 10,000 states: dense, and as rows of what is left after pruning."""
    from scipy.sparse import csr_matrix

    x = np.random.default_rng(0).normal(size=(weights.w.shape[1], 1024)).astype(np.float32)
    made = {"dense": 1024 / per_step(lambda: weights.w @ x, REPEATS)[0]}
    for share in (0.5, 0.9):
        matrix = csr_matrix(pruned(weights, share).w)
        made[f"pruned {share}"] = 1024 / per_step(functools.partial(operator.matmul, matrix, x), REPEATS)[0]
    return made


def untrained_rates(sizes: tuple[int, ...]) -> dict[str, float]:
    """Series-steps per second with networks of so many units, which do not have to know anything for that."""
    made = {}
    for units in sizes:
        weights = Weights.of(Network(units).tensors(), {**Weights.load().card, "version": f"{units}", "hidden": units})
        made[f"{units} units"] = SERIES / per_step(our_step(SERIES, weights)[0], REPEATS)[0]
    return made


def student(units: int, kept: Path) -> Weights:
    """A network of `units` units that learned from the shipped one."""
    directory = kept / f"h{units}"
    if not (directory / "forecaster.safetensors").is_file():
        train_forecaster(directory, progress=sys.stderr.isatty(), hidden=units, teacher=Weights.load())
    return Weights.load(directory)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--distill", type=int, action="append", default=[], metavar="UNITS")
    parser.add_argument("--students", type=Path)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    shipped = Weights.load()
    variants = {"shipped, FP32": shipped, "INT8 weights": rounded(shipped, 8), "INT4 weights": rounded(shipped, 4),
                "half pruned": pruned(shipped, 0.5), "nine tenths pruned": pruned(shipped, 0.9)}
    with tempfile.TemporaryDirectory() as scratch:
        for units in arguments.distill:
            variants[f"distilled to {units} units"] = student(units, arguments.students or Path(scratch))
    rows = []
    for name, weights in variants.items():
        verdict = against_shipped(weights)
        middle, _ = per_step(our_step(SERIES, weights)[0], REPEATS)
        row: dict[str, Any] = {"variant": name, "gain": round(verdict.gain, 4),
                               "by_horizon": [round(g, 4) for g in verdict.by_horizon],
                               "equal": verdict.gain >= -EQUAL, "series_steps_per_s": round(SERIES / middle)}
        rows.append(row)
        print(f"{name:26} {row['series_steps_per_s'] / 1e6:6.3f} M/s  quality {verdict.gain:+7.2%}  "
              f"{[f'{g:+.1%}' for g in verdict.by_horizon]}", flush=True)
    libraries = {"torch": torch_rates(shipped), "gates' matrix": sparse_rates(shipped), "smaller": untrained_rates((24, 16))}
    for library, rates in libraries.items():
        print(f"{library:26} " + "  ".join(f"{name} {rate / 1e6:.3f} M/s" for name, rate in rates.items()))
    if arguments.json:
        arguments.json.write_text(json.dumps({"name": "forecast variants", "unit": "series-steps/s", "rows": rows,
                                              "libraries": libraries, "equal_within": EQUAL}, indent=2) + "\n")


if __name__ == "__main__":
    main()
