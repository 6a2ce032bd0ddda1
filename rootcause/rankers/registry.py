"""The rankers. A new one is a file and a line here."""

from __future__ import annotations

from collections.abc import Callable

from rootcause.rankers.baselines import LastChange, MaxRobustZ, NearestToAlert, PersonalisedPageRank, Random
from rootcause.rankers.gnn import GnnRanker
from rootcause.types import Ranker

RANKERS: dict[str, Callable[[], Ranker]] = {
    r.name: r for r in (GnnRanker, MaxRobustZ, NearestToAlert, LastChange, PersonalisedPageRank, Random)}
