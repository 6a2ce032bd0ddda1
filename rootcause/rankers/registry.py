"""The rankers. A new one is a file and a line here."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from rootcause.rankers.baro import Baro, BaroOwnClock
from rootcause.rankers.baselines import (
    LastChange,
    MaxRobustZ,
    NearestToAlert,
    NSigma,
    PersonalisedPageRank,
    Random,
    Regression,
)
from rootcause.rankers.fused import FusedRanker
from rootcause.rankers.gnn import GnnRanker
from rootcause.rankers.mlp import MlpRanker
from rootcause.types import Ranker

RANKERS: dict[str, Callable[[], Ranker]] = {
    r.name: r for r in (FusedRanker, GnnRanker, MaxRobustZ, NSigma, Baro, BaroOwnClock, Regression,
                        PersonalisedPageRank, MlpRanker, NearestToAlert, LastChange, Random)}


def ranker_of(name: str, weights_dir: str = "") -> Ranker:
    """By its name; with weights from elsewhere where it has any. Raises KeyError for an unknown one."""
    if weights_dir and name in (FusedRanker.name, GnnRanker.name):
        return (FusedRanker if name == FusedRanker.name else GnnRanker)(Path(weights_dir))
    return RANKERS[name]()
