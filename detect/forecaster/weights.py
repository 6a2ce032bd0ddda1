"""The forecaster's weights, and their card."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from detect.forecaster.shape import FEATURES, HIDDEN, HORIZONS, OUTPUTS, QUANTILES
from ingest.errors import OpsmendError

MODELS_DIR = Path(__file__).resolve().parent.parent / "models"
_NAMES = ("w", "b", "v", "d")


def _shapes(hidden: int) -> dict[str, tuple[int, ...]]:
    return {"w": (4 * hidden, FEATURES + hidden), "b": (4 * hidden,), "v": (OUTPUTS, FEATURES + hidden), "d": (OUTPUTS,)}


class BadWeights(OpsmendError, ValueError):
    """Model files that do not fit this forecaster: another shape, other horizons, or numbers that are none."""

    def __init__(self, message: str) -> None:
        super().__init__(message, reason="model")


@dataclass(frozen=True)
class Weights:
    """Shapes: w [4h, x + h] (gates i, f, g, o), b [4h], v [horizons * quantiles, x + h], d [horizons * quantiles]."""

    w: NDArray[np.float32]
    b: NDArray[np.float32]
    v: NDArray[np.float32]
    d: NDArray[np.float32]
    version: str
    card: dict[str, Any] = field(default_factory=dict, compare=False)

    @property
    def hidden(self) -> int:
        """Units of the LSTM."""
        return len(self.b) // 4

    def digest(self) -> str:
        """Of the numbers alone: equal weights, equal digest, whatever they are called. 24 hexadecimal digits."""
        return hashlib.blake2b(b"".join(getattr(self, name).tobytes() for name in _NAMES), digest_size=12).hexdigest()

    @classmethod
    def load(cls, directory: Path = MODELS_DIR) -> Weights:
        """The shipped weights, or those of `directory`. Raises OSError if there are none, BadWeights if they do
        not fit."""
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        try:
            card = json.loads((directory / "forecaster.json").read_text())
            tensors = load_file(str(directory / "forecaster.safetensors"))
            return cls.of(tensors, card)
        except (SafetensorError, ValueError, KeyError) as error:
            raise BadWeights(f"{directory}: {error}") from error

    @classmethod
    def of(cls, tensors: dict[str, Any], card: dict[str, Any]) -> Weights:
        """Checked: shapes, horizons, quantiles, finite numbers. Raises BadWeights."""
        if tuple(card["horizons"]) != HORIZONS or tuple(card["quantiles"]) != QUANTILES:
            raise BadWeights(f"{card['version']}: made for other horizons or quantiles")
        made = {}
        hidden = int(card.get("hidden", HIDDEN))
        if hidden < 4 or hidden % 4:
            raise BadWeights(f"{card['version']}: hidden size {hidden} is no multiple of 4")
        for name, shape in _shapes(hidden).items():
            made[name] = np.require(tensors[name], np.float32, ("C", "W"))
            if made[name].shape != shape:
                raise BadWeights(f"{card['version']}: '{name}' is {made[name].shape}, not {shape}")
            if not np.isfinite(made[name]).all():
                raise BadWeights(f"{card['version']}: '{name}' has numbers that are none")
        return cls(**made, version=str(card["version"]), card=card)

    def save(self, directory: Path) -> None:
        """`forecaster.safetensors` and `forecaster.json` into `directory`, which is made."""
        from safetensors.numpy import save_file

        directory.mkdir(parents=True, exist_ok=True)
        save_file({name: np.asarray(getattr(self, name)) for name in _NAMES},
                  str(directory / "forecaster.safetensors"), {"version": self.version})
        (directory / "forecaster.json").write_text(json.dumps(self.card, indent=2) + "\n")


@runtime_checkable
class UsesForecaster(Protocol):
    """A detector whose weights may be changed between two buckets."""

    def use_weights(self, weights: Weights) -> None: ...
