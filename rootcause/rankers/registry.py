"""The rankers. A new one is a file and a line here."""

from __future__ import annotations

from collections.abc import Callable

from rootcause.rankers.baselines import (
    LastChange,
    MaxRobustZ,
    NearestToAlert,
    NSigma,
    PersonalisedPageRank,
    Random,
    Regression,
)
from rootcause.rankers.gnn import GnnRanker
from rootcause.types import Ranker

RANKERS: dict[str, Callable[[], Ranker]] = {
    r.name: r for r in (GnnRanker, MaxRobustZ, NSigma, Regression, PersonalisedPageRank, NearestToAlert,
                           LastChange, Random)}
