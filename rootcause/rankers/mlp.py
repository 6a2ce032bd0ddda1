"""A network without edges, trained on the same simulated cases: what the graph must be worth more than."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rootcause.features import squash
from rootcause.rankers.gnn import MODELS_DIR
from rootcause.robust import Change, node_changes
from rootcause.types import CaseWindow, Ranking

Floats = NDArray[np.float64]
_PER_INDICATOR = 7


def width_of(indicators: tuple[str, ...]) -> int:
    """Columns of `node_table`."""
    return _PER_INDICATOR * len(indicators) + 1


def node_table(case: CaseWindow, indicators: tuple[str, ...]) -> Floats:
    """[n, width] how each service's own indicators changed, next to those of the others; nothing of its calls."""
    n, changes = len(case.services), node_changes(case)
    columns = [np.full(n, np.log(max(n, 1)) / 4)]
    for name in indicators:
        columns += _columns(changes.get(name), n)
    table: Floats = np.nan_to_num(np.stack(columns, axis=1))
    return table


def _columns(change: Change | None, n: int) -> list[Floats]:
    if change is None:
        return [np.zeros(n)] * _PER_INDICATOR
    raw = np.abs(np.where(change.has, change.now - change.before, 0.0))
    return [squash(change.z), change.z / max(float(np.abs(change.z).max(initial=0.0)), 3.0),
            np.clip(change.ratio, -4, 4) / 2, change.has.astype(float), raw / max(float(raw.max(initial=0.0)), 1e-12),
            squash(change.peak), 1.0 - change.onset]


@lru_cache(maxsize=2)
def load_mlp(directory: Path) -> tuple[dict[str, Floats], tuple[str, ...], str]:
    """(weights, indicators, version). Raises OSError where there are none."""
    from safetensors.numpy import load_file

    card = json.loads((directory / "mlp.json").read_text())
    weights = {k: v.astype(np.float64) for k, v in load_file(str(directory / "mlp.safetensors")).items()}
    return weights, tuple(card["indicators"]), str(card["version"])


class MlpRanker:
    """One hidden layer per service, then one more that also sees the mean and the largest of all of them."""

    name = "mlp_no_edges"

    def __init__(self, directory: Path = MODELS_DIR) -> None:
        self._directory = directory

    def rank(self, case: CaseWindow) -> Ranking:
        w, indicators, version = load_mlp(self._directory)
        h = np.maximum(node_table(case, indicators) @ w["lift.0.weight"].T + w["lift.0.bias"], 0.0)
        h = np.maximum(h @ w["lift.2.weight"].T + w["lift.2.bias"], 0.0)
        pooled = np.concatenate([h.mean(axis=0), h.max(axis=0)])
        together = np.concatenate([h, np.tile(pooled, (len(h), 1))], axis=1)
        logits = _head(together, w, "head")
        scaled = np.append(logits, _head(pooled[None], w, "none"))
        p = np.exp(scaled - scaled.max())
        p /= p.sum()
        return Ranking(p[:-1], float(p[-1]), version)


def _head(x: Floats, w: dict[str, Floats], name: str) -> Floats:
    hidden = np.maximum(x @ w[f"{name}.0.weight"].T + w[f"{name}.0.bias"], 0.0)
    out: Floats = (hidden @ w[f"{name}.2.weight"].T + w[f"{name}.2.bias"])[:, 0]
    return out
