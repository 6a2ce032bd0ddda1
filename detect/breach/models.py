"""The shipped models: is this a ramp into the limit, and when does it cross?"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from detect.breach.episode import Policy
from detect.breach.features import BEST_ETA, BEST_SURE, COUNTED, FEATURES
from detect.breach.series import Recorded, fingerprint
from detect.breach.trees import Trees, blended, from_arrays
from ingest.errors import OpsmendError

MODELS_DIR: Final = Path(__file__).parent.parent / "models"
QUANTILES: Final = (0.05, 0.5, 0.95)
LEAST_SURE: Final = 1.5
"""Rises that are less sure than this are not judged at all."""
MADE_SHARE: Final = 2 / 3
"""Weight of what was learned from made series, where there is something from recorded series as well: the made ones
are of more kinds, the recorded ones are nearer to what comes. Log-odds and logarithms of medians are averaged."""
COUNT_ODDS: Final = 2.0
"""Added to the log-odds of a ramp of a count (`detect.breach.counts`): its noise keeps the gate from being as sure as it
would be of anything else, and it is right as often with so much less."""
_NAMES: Final = ("low", "middle", "high")
FOLDS_FILE: Final = "breach_folds.safetensors"


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
        """Rows [n, N_COLUMNS] of `features.run`. 2 us for one that rises, nothing for the others."""
        n = len(rows)
        probability, ticks = np.zeros(n), np.full((n, 3), np.nan)
        rising = np.flatnonzero((rows[:, BEST_SURE] >= LEAST_SURE) & (rows[:, BEST_ETA] < 10.0))
        if len(rising):
            some = rows[rising]
            probability[rising] = 1.0 / (1.0 + np.exp(-self.gate(some) - COUNT_ODDS * some[:, COUNTED]))
            told = np.stack([some[:, BEST_ETA] + q(some) for q in self.quantiles], axis=1)
            told.sort(axis=1)
            told[:, 0] -= self.widen[0]
            told[:, 2] += self.widen[1]
            ticks[rising] = np.exp(np.clip(told, 0.0, 12.0))
        return Judgement(probability, ticks)


@dataclass(frozen=True)
class FromRecorded:
    """What is learned from recorded series: a gate, and the median of the time until the crossing."""

    gate: Trees
    middle: Trees

    def arrays(self, prefix: str) -> dict[str, NDArray[Any]]:
        """What `read` reads."""
        return self.gate.arrays(f"{prefix}.gate") | self.middle.arrays(f"{prefix}.middle")

    @staticmethod
    def read(arrays: Mapping[str, NDArray[Any]], prefix: str) -> FromRecorded:
        """The inverse of `arrays`. Raises KeyError and ValueError."""
        return FromRecorded(from_arrays(arrays, f"{prefix}.gate"), from_arrays(arrays, f"{prefix}.middle"))


def _blended(made: Trees, recorded: Trees) -> Trees:
    return blended(((made, MADE_SHARE), (recorded, 1.0 - MADE_SHARE)))


def from_parts(arrays: Mapping[str, NDArray[Any]], card: Mapping[str, Any],
               recorded: FromRecorded | None = None) -> BreachModels:
    """Of the tensors and the card that `opsmend train breach` writes. `recorded`: what to put in the place of that
    which has seen all the recorded series. Raises BreachModelError."""
    if tuple(card.get("features", ())) != FEATURES:
        raise BreachModelError("the breach model was made for other features: run `opsmend train breach`")
    try:
        gate = from_arrays(arrays, "gate")
        if recorded is None and "recorded" in card:
            recorded = FromRecorded.read(arrays, "recorded")
        low, middle, high = (from_arrays(arrays, n) for n in _NAMES)
        if recorded:
            gate, middle = _blended(gate, recorded.gate), _blended(middle, recorded.middle)
        before, after = card["widen"]
        return BreachModels(gate, (low, middle, high), (float(before), float(after)), _policy(card["policy"]),
                            str(card["version"]))
    except (KeyError, ValueError, TypeError) as error:
        raise BreachModelError(f"the breach model: {error!r}") from error


def _policy(fields: dict[str, Any]) -> Policy:
    knots = {name: tuple((float(a), float(b)) for a, b in fields[name]) for name in ("asked", "memory")}
    return Policy(**{**fields, **knots})


def write_models(models: BreachModels, out: Path, card: Mapping[str, Any]) -> None:
    """`breach.safetensors` of what was learned from made series alone, and its card `breach.json`."""
    from safetensors.numpy import save_file

    arrays = models.gate.arrays("gate")
    for name, trees in zip(_NAMES, models.quantiles, strict=True):
        arrays |= trees.arrays(name)
    out.mkdir(parents=True, exist_ok=True)
    save_file(arrays, str(out / "breach.safetensors"))
    (out / FOLDS_FILE).unlink(missing_ok=True)
    (out / "breach.json").write_text(json.dumps(card, indent=2) + "\n")


def write_recorded(recorded: FromRecorded, folds: Sequence[FromRecorded], out: Path, card: Mapping[str, Any]) -> None:
    """Adds what was learned from recorded series, and beside it that which has not seen one fold of them each
    (`breach_folds.safetensors`), to the models in `out`."""
    from safetensors.numpy import save_file

    save_file(tensors(out) | recorded.arrays("recorded"), str(out / "breach.safetensors"))
    save_file({name: array for k, part in enumerate(folds) for name, array in part.arrays(f"fold{k}").items()},
              str(out / FOLDS_FILE))
    (out / "breach.json").write_text(json.dumps(card, indent=2) + "\n")


def read_card(folder: Path = MODELS_DIR) -> dict[str, Any]:
    """The card of a folder. Raises BreachModelError."""
    try:
        card = json.loads((folder / "breach.json").read_text())
    except (OSError, ValueError) as error:
        raise BreachModelError(f"{folder}/breach: {error}") from error
    if not isinstance(card, dict):
        raise BreachModelError(f"{folder}/breach.json: no card")
    return card


def tensors(folder: Path, name: str = "breach.safetensors") -> dict[str, NDArray[Any]]:
    """The arrays of one file. Raises BreachModelError."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        return load_file(str(folder / name))
    except (OSError, ValueError, SafetensorError) as error:
        raise BreachModelError(f"{folder}/{name}: {error}") from error


@lru_cache(maxsize=8)
def load_models(folder: Path = MODELS_DIR, fold: int | None = None) -> BreachModels:
    """The models of a folder; with `fold` those that have not seen its recorded series. Raises BreachModelError."""
    try:
        unseen = None if fold is None else FromRecorded.read(tensors(folder, FOLDS_FILE), f"fold{fold}")
    except (KeyError, ValueError) as error:
        raise BreachModelError(f"{folder}/{FOLDS_FILE}: {error!r}") from error
    return from_parts(tensors(folder), read_card(folder), unseen)


def fold_of(series: Recorded, folder: Path = MODELS_DIR) -> int | None:
    """The fold of a series that the shipped models have learned from; None for one that they have not seen."""
    fold = _folds(folder).get(fingerprint(series))
    return None if fold is None else int(fold)


@lru_cache(maxsize=4)
def _folds(folder: Path) -> Mapping[str, int]:
    return dict(read_card(folder).get("recorded", {}).get("folds", {}))
