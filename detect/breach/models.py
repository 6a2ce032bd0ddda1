"""The shipped models: is this a ramp into the limit, and when does it cross?"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from detect.breach.episode import Policy
from detect.breach.features import BEST_ETA, BEST_SURE, FEATURES
from detect.breach.trees import Trees, from_arrays
from ingest.errors import OpsmendError

MODELS_DIR: Final = Path(__file__).parent.parent / "models"
QUANTILES: Final = (0.05, 0.5, 0.95)
LEAST_SURE: Final = 1.5
"""Rises that are less sure than this are not judged at all."""
_NAMES: Final = ("low", "middle", "high")


class BreachModelError(OpsmendError):
    """The model files are missing, or not those of this version."""

    reason = "model"


@dataclass(frozen=True)
class Judgement:
    """For each row: the probability of a ramp that ends at the limit, and 5, 50, 95 % of the ticks until then.

    0 and NaN where nothing rises.
    """

    probability: NDArray[np.float64]  # [n]
    ticks: NDArray[np.float64]  # [n, 3]


@dataclass(frozen=True)
class BreachModels:
    """Gate and quantiles. `widen`: the logarithm is moved out by this much on either side (conformal)."""

    gate: Trees
    quantiles: tuple[Trees, ...]
    widen: tuple[float, float]
    policy: Policy
    version: str

    def judge(self, rows: NDArray[np.float64]) -> Judgement:
        """Rows [n, features] of `features.run`. 2 us for one that rises, nothing for the others."""
        n = len(rows)
        probability, ticks = np.zeros(n), np.full((n, 3), np.nan)
        rising = np.flatnonzero((rows[:, BEST_SURE] >= LEAST_SURE) & (rows[:, BEST_ETA] < 10.0))
        if len(rising):
            some = rows[rising]
            probability[rising] = 1.0 / (1.0 + np.exp(-self.gate(some)))
            told = np.stack([some[:, BEST_ETA] + q(some) for q in self.quantiles], axis=1)
            told.sort(axis=1)
            told[:, 0] -= self.widen[0]
            told[:, 2] += self.widen[1]
            ticks[rising] = np.exp(np.clip(told, 0.0, 12.0))
        return Judgement(probability, ticks)


def from_parts(arrays: dict[str, NDArray[Any]], card: dict[str, Any]) -> BreachModels:
    """Of the tensors and the card that `opsmend train breach` writes. Raises BreachModelError."""
    if tuple(card.get("features", ())) != FEATURES:
        raise BreachModelError("the breach model was made for other features: run `opsmend train breach`")
    try:
        low, high = card["widen"]
        return BreachModels(from_arrays(arrays, "gate"), tuple(from_arrays(arrays, n) for n in _NAMES),
                            (float(low), float(high)), _policy(card["policy"]), str(card["version"]))
    except (KeyError, ValueError, TypeError) as error:
        raise BreachModelError(f"the breach model: {error!r}") from error


def _policy(fields: dict[str, Any]) -> Policy:
    return Policy(**{**fields, "asked": tuple((float(a), float(b)) for a, b in fields["asked"])})


def write_models(models: BreachModels, out: Path, card: dict[str, Any]) -> None:
    """`breach.safetensors` and its card `breach.json`."""
    from safetensors.numpy import save_file

    arrays = models.gate.arrays("gate")
    for name, trees in zip(_NAMES, models.quantiles, strict=True):
        arrays |= trees.arrays(name)
    out.mkdir(parents=True, exist_ok=True)
    save_file(arrays, str(out / "breach.safetensors"))
    (out / "breach.json").write_text(json.dumps(card, indent=2) + "\n")


@lru_cache(maxsize=4)
def load_models(folder: Path = MODELS_DIR) -> BreachModels:
    """The models of a folder. Raises BreachModelError."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        card = json.loads((folder / "breach.json").read_text())
        return from_parts(load_file(str(folder / "breach.safetensors")), card)
    except (OSError, ValueError, SafetensorError) as error:
        raise BreachModelError(f"{folder}/breach: {error}") from error
