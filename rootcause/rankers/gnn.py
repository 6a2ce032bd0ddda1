"""The GNN ranker: an ensemble trained on simulated faults alone, so it needs no labels of the target."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from rootcause.features import case_features
from rootcause.types import CaseWindow, Ranking

if TYPE_CHECKING:
    from rootcause.rankers.model import RootCauseNet

MODELS_DIR = Path(__file__).resolve().parent.parent / "models"


@lru_cache(maxsize=2)
def load_nets(directory: Path = MODELS_DIR) -> tuple[tuple[RootCauseNet, ...], float, str]:
    """(nets, temperature, version). Raises OSError where there are no weights, RuntimeError where they are of
    another architecture than this code."""
    import torch
    from safetensors.torch import load_file

    from rootcause.rankers.model import RootCauseNet

    card = json.loads((directory / "rootcause.json").read_text())
    tensors = load_file(str(directory / "rootcause.safetensors"))
    nets = []
    for n in range(int(card["members"])):
        net = RootCauseNet()
        net.load_state_dict({k.split("/", 1)[1]: v for k, v in tensors.items() if k.startswith(f"{n}/")})
        net.eval()
        nets.append(net)
    torch.set_num_threads(1)
    return tuple(nets), float(card["temperature"]), str(card["version"])


def sharpen(log_p: NDArray[np.float64], temperature: float) -> NDArray[np.float64]:
    """softmax(log p / temperature)."""
    scaled = log_p / temperature
    p: NDArray[np.float64] = np.exp(scaled - scaled.max())
    p /= p.sum()
    return p


class GnnRanker:
    """Mean log probability of the ensemble, over the temperature. Cost: some 15 ms per case of 20 services."""

    name = "gnn"

    def __init__(self, directory: Path = MODELS_DIR) -> None:
        self._directory = directory

    def log_probabilities(self, case: CaseWindow) -> NDArray[np.float64]:
        """[n + 1] mean over the members, before the temperature; the last is "none of these"."""
        import torch

        from rootcause.rankers.model import log_probabilities

        nets, _, _ = load_nets(self._directory)
        n = len(case.services)
        features = case_features(case)
        x, attr = torch.from_numpy(features.node), torch.from_numpy(features.edge)
        edges = torch.from_numpy(case.edges.astype(np.int64).T.copy()).reshape(2, -1)
        total = np.zeros(n + 1)
        with torch.no_grad():
            for net in nets:
                log_p, log_none = log_probabilities(net, x, edges, attr, torch.zeros(n, dtype=torch.int64), 1)
                total += torch.cat([log_p, log_none]).double().numpy()
        mean: NDArray[np.float64] = total / len(nets)
        return mean

    def rank(self, case: CaseWindow) -> Ranking:
        _, temperature, version = load_nets(self._directory)
        p = sharpen(self.log_probabilities(case), temperature)
        return Ranking(p[:-1], float(p[-1]), version)
