"""Rankers of alert cases: ours that needs no label of the target, and what it must beat."""

from __future__ import annotations

import json
import math
from collections import Counter
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from rootcause.alerts.case import AlertCase, told
from rootcause.alerts.features import plain_table, surprises
from rootcause.alerts.history import History
from rootcause.alerts.listwise import listwise_probabilities

Floats = NDArray[np.float64]
MODEL = Path(__file__).resolve().parent.parent / "models" / "alerts.json"


class AlertRanker(Protocol):
    """Scores the instances of one case; `history` is what was told in the other incidents of its system."""

    name: str

    def rank(self, case: AlertCase, history: History) -> Floats: ...


@lru_cache(maxsize=4)
def load_members(path: Path = MODEL) -> tuple[tuple[str, Floats], ...]:
    """(system that it was fitted on, weights) of each member. Raises OSError where there is no model."""
    card: dict[str, Any] = json.loads(path.read_text())
    return tuple((str(m["trained_on"]), np.asarray(m["weights"], dtype=np.float64)) for m in card["members"])


class ZeroShotAlerts:
    """Linear over surprises, one member per system whose causes were known; a member never ranks a case of the
    system that it was fitted on. Mean of the log probabilities. Cost: 1 ms for 20 instances."""

    name = "zero_shot"

    def __init__(self, path: Path = MODEL) -> None:
        self._path = path

    def rank(self, case: AlertCase, history: History) -> Floats:
        table = plain_table(case, told(case, history.served), history)
        weights = [w for system, w in load_members(self._path) if system != case.system]
        if not weights:
            return Surprise().rank(case, history)
        log_p = np.mean([np.log(listwise_probabilities(table, w) + 1e-12) for w in weights], axis=0)
        p: Floats = np.exp(log_p - log_p.max())
        p /= p.sum()
        return p


class Surprise:
    """The instance whose alerts are the least usual, all kinds alike: no weights."""

    name = "surprise"

    def rank(self, case: AlertCase, history: History) -> Floats:
        total: Floats = surprises(case, told(case, history.served), history)[1].sum(axis=1)
        return total


class Rarity:
    """The instance whose kinds of alerts the fewest others of the same incident have; knows no other incident."""

    name = "rarity"

    def rank(self, case: AlertCase, history: History) -> Floats:
        kinds = told(case, {}).kinds
        having = Counter(k for i in case.instances for k in kinds.get(i, ()))
        rarity = {k: math.log((len(case.instances) + 1) / n) for k, n in having.items()}
        return np.array([sum(rarity[k] for k in kinds.get(i, ())) for i in case.instances])


class Counted:
    """The instance with the most alerts, of one modality or of all."""

    def __init__(self, modality: str = "") -> None:
        self._modality = modality
        self.name = f"most_{modality or 'all'}_alerts"

    def rank(self, case: AlertCase, history: History) -> Floats:
        count = Counter(a.instance for a in case.alerts if self._modality in ("", a.modality))
        return np.array([float(count[i]) for i in case.instances])


class FirstAlert:
    """The instance whose alert was recorded first."""

    name = "first_alert"

    def rank(self, case: AlertCase, history: History) -> Floats:
        first: dict[str, int] = {}
        for place, alert in enumerate(case.alerts):
            first.setdefault(alert.instance, place)
        return np.array([-float(first.get(i, len(case.alerts))) for i in case.instances])


ALERT_RANKERS: tuple[AlertRanker, ...] = (ZeroShotAlerts(), Surprise(), Rarity(), Counted("metric"), Counted(), FirstAlert())
