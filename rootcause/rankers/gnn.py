"""The GNN ranker: an ensemble trained on simulated faults alone, so it needs no labels of the target."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from rootcause.features import case_features
from rootcause.novelty import against_nothing_wrong
from rootcause.types import CaseWindow, Ranking

if TYPE_CHECKING:
    from rootcause.rankers.stacked import StackedNets

MODELS_DIR = Path(__file__).resolve().parent.parent / "models"
_TRUST = (0.56, 1.08)
"""Where a card has none: what `bench/rootcause_trust.py` found for the weights that were shipped when it was written."""


@dataclass(frozen=True)
class Weights:
    """The ensemble and what was fitted after it."""

    nets: StackedNets
    temperature: float
    none_bias: float
    """"None of these" is the answer where its log odds against all suspects together are above this."""
    version: str
    trust: tuple[float, float]
    """Slope and offset of the log odds with which the first suspect of `fused` is right (`bench/rootcause_trust.py`)."""


@lru_cache(maxsize=4)
def load_weights(directory: Path = MODELS_DIR) -> Weights:
    """Raises OSError where there are no weights, RuntimeError where they are of another architecture than this code."""
    import torch
    from safetensors.torch import load_file

    from rootcause.rankers.model import RootCauseNet
    from rootcause.rankers.stacked import StackedNets

    card = json.loads((directory / "rootcause.json").read_text())
    tensors = load_file(str(directory / "rootcause.safetensors"))
    members = []
    for n in range(int(card["members"])):
        net = RootCauseNet()
        net.load_state_dict({k.split("/", 1)[1]: v for k, v in tensors.items() if k.startswith(f"{n}/")})
        members.append(net.state_dict())
    torch.set_num_threads(1)
    return Weights(StackedNets(members), float(card["temperature"]), float(card.get("none_bias", 0.0)),
                   str(card["version"]), tuple(card.get("trust", _TRUST)))


def load_nets(directory: Path = MODELS_DIR) -> tuple[int, float, str]:
    """(members, temperature, version) of what is loaded."""
    weights = load_weights(directory)
    return weights.nets.members, weights.temperature, weights.version


def sharpen(log_p: NDArray[np.float64], temperature: float) -> NDArray[np.float64]:
    """softmax(log p / temperature)."""
    scaled = log_p / temperature
    p: NDArray[np.float64] = np.exp(scaled - scaled.max())
    p /= p.sum()
    return p


class GnnRanker:
    """Mean log probability of the ensemble, over the temperature. Cost: some 15 ms per case of 40 services."""

    name = "gnn"

    def __init__(self, directory: Path = MODELS_DIR) -> None:
        self._directory = directory

    def log_probabilities(self, case: CaseWindow) -> NDArray[np.float64]:
        """[n + m + 1] mean over the members, before the temperature: services, calls, and "none of these"."""
        import torch

        features = case_features(case)
        edges = torch.from_numpy(case.edges.astype(np.int64).T.copy()).reshape(2, -1)
        log_p = load_weights(self._directory).nets.log_probabilities(
            torch.from_numpy(features.node), edges, torch.from_numpy(features.edge))
        mean: NDArray[np.float64] = log_p.double().clamp_min(-20).mean(dim=0).numpy()
        return mean

    def rank(self, case: CaseWindow) -> Ranking:
        weights = load_weights(self._directory)
        p, calls = by_service(sharpen(self.log_probabilities(case), weights.temperature), case)
        said = decide(with_past(p, case), weights.none_bias)
        part = float(said[:-1].sum()) / max(float(p[:-1].sum()), 1e-12)  # calls are in the services' scores, and move with them
        return Ranking(said[:-1], float(said[-1]), weights.version, calls * part)


def by_service(p: NDArray[np.float64], case: CaseWindow) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """([n + 1] with the share of every call added to that of the service it calls, [m] those of the calls)."""
    n = len(case.services)
    calls = p[n:-1]
    onto = np.bincount(case.edges[:, 1], weights=calls, minlength=n) if len(calls) else np.zeros(n)
    return np.append(p[:n] + onto, p[-1]), calls


def with_past(p: NDArray[np.float64], case: CaseWindow) -> NDArray[np.float64]:
    """[n + 1] the same once the system's own past has spoken against "none of these" (or for it); sums to 1. The networks
    know the systems that were made up for them, in which much is unusual that does not matter."""
    out = np.append(p[:-1], p[-1] * np.exp(-against_nothing_wrong(case)))
    return np.asarray(out / out.sum())


def decide(p: NDArray[np.float64], none_bias: float) -> NDArray[np.float64]:
    """The same where "none of these" is likelier than all suspects together, by the factor e^`none_bias` (0 or above);
    else with it below the first suspect, so that it is the largest exactly where it is the answer. [n + 1], sums to 1.
    Many suspects that share a certainty are no reason to say that there is none."""
    top = float(p[:-1].max(initial=0.0))
    if p[-1] > 1 / (1 + np.exp(-none_bias)) or p[-1] < top:
        return p
    out = np.append(p[:-1], 0.999 * top)
    return np.asarray(out / out.sum())
