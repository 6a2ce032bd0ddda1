"""The same LSTM in torch, to train it. Inference is cell.py."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from detect.forecaster.shape import FEATURES, HIDDEN, HORIZONS, OUTPUTS, QUANTILES
from detect.forecaster.weights import Weights

_WEIGHT = (2.0, 1.5, 1.0, 0.7, 0.4)
"""Of the horizons: the far ones err by far more, and would otherwise be all that is learned."""
State = Any


class Network(torch.nn.Module):
    """LSTM and a head that sees the features as well: [t, n, x] to [t, n, horizons, quantiles]."""

    def __init__(self, hidden: int = HIDDEN) -> None:
        super().__init__()
        self.lstm = torch.nn.LSTM(FEATURES, hidden)
        self.head = torch.nn.Linear(FEATURES + hidden, OUTPUTS)
        with torch.no_grad():
            self.head.weight[:, :FEATURES] = 0.0
        self._quantiles = torch.tensor(QUANTILES)
        self._weight = torch.tensor(_WEIGHT)[:, None]

    @classmethod
    def of(cls, weights: Weights) -> Network:
        """To go on from `weights`."""
        made = cls(weights.hidden)
        with torch.no_grad():
            lstm = made._parts()
            lstm["weight_ih_l0"].copy_(torch.from_numpy(weights.w[:, :FEATURES].copy()))
            lstm["weight_hh_l0"].copy_(torch.from_numpy(weights.w[:, FEATURES:].copy()))
            lstm["bias_ih_l0"].copy_(torch.from_numpy(weights.b))
            lstm["bias_hh_l0"].zero_()
            made.head.weight.copy_(torch.from_numpy(weights.v))
            made.head.bias.copy_(torch.from_numpy(weights.d))
        return made

    def _parts(self) -> dict[str, torch.Tensor]:
        return dict(self.lstm.named_parameters())

    def forward(self, feats: torch.Tensor, state: State = None) -> tuple[torch.Tensor, State]:
        hidden, state = self.lstm(feats, state)  # [t, n, h]
        out = self.head(torch.cat([feats, hidden], 2))[..., : len(HORIZONS) * len(QUANTILES)]
        return out.reshape(*out.shape[:2], len(HORIZONS), len(QUANTILES)), state

    def loss(self, feats: NDArray[np.float32], targets: NDArray[np.float32],
             state: State = None) -> tuple[torch.Tensor, State]:
        """Weighted pinball loss in scales, and the state without its history."""
        q, state = self(torch.from_numpy(feats), state)
        loss = self._pinball(q, torch.from_numpy(targets)[..., None])
        return loss, tuple(part.detach() for part in state)

    def _pinball(self, q: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        there = torch.isfinite(target)
        error = torch.nan_to_num(target) - q
        pinball = torch.maximum(self._quantiles * error, (self._quantiles - 1.0) * error) * self._weight
        pinball = torch.where(there, pinball, torch.zeros(()))
        return pinball.mean()

    def imitate(self, teacher: Network, feats: NDArray[np.float32], targets: NDArray[np.float32],
                state: tuple[State, State] | None = None) -> tuple[torch.Tensor, tuple[State, State]]:
        """Distillation: half the pinball loss, half the distance to the teacher's quantiles; both states."""
        mine, theirs = state or (None, None)
        with torch.no_grad():
            wanted, theirs = teacher(torch.from_numpy(feats), theirs)
        said, now = self(torch.from_numpy(feats), mine)
        target = torch.from_numpy(targets)[..., None]
        loss = 0.5 * self._pinball(said, target) + 0.5 * ((said - wanted).abs() * self._weight).mean()
        return loss, (tuple(part.detach() for part in now), theirs)

    def tensors(self) -> dict[str, NDArray[np.float32]]:
        """As `Weights` wants them."""
        lstm = self._parts()
        with torch.no_grad():
            made = {"w": torch.cat([lstm["weight_ih_l0"], lstm["weight_hh_l0"]], 1),
                    "b": lstm["bias_ih_l0"] + lstm["bias_hh_l0"], "v": self.head.weight, "d": self.head.bias}
            return {name: part.detach().numpy().astype(np.float32).copy() for name, part in made.items()}
