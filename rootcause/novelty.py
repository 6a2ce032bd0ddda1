"""Is the system as a whole more unusual than it ever was for as long? For "none of these": told to every service of the
networks, and held against what they say."""

from __future__ import annotations

import numpy as np

from rootcause.robust import Change, Floats, node_changes
from rootcause.types import CaseWindow

ALL_TOGETHER = 13
_FELT = ("errors", "latency")
_UNUSUAL, _CAP = 3.0, 4.0
_MOST = 10.0
"""Deviations that count of one column: a thousand are no more news than ten."""


def all_together(case: CaseWindow, nodes: dict[str, Change], calls: dict[str, Change]) -> list[float]:
    """For what is felt (errors, latency) and for everything, for the loudest service and for all: how loud it is, how
    much louder than nine in ten and than all but one of the usual windows as long as now, on a log scale; then how many
    of these there are. Windows of the same system are the measure, so a system that is often loud has to be louder.
    About 0..2."""
    some = next(iter([*nodes.values(), *calls.values()]), None)
    blocks = some.usual.shape[1] if some is not None else 0
    out: list[float] = []
    for names in (_FELT, None):
        loud = np.zeros((len(case.services), blocks + 1))
        for name, change in nodes.items():
            if names is None or name in names:
                loud += _loud(change)
        worst = np.zeros_like(loud)
        for name, change in calls.items():
            if names is None or name in names:
                np.maximum.at(worst, case.edges[:, 1], _loud(change))
        loud += worst
        for level in (loud.max(axis=0, initial=0.0), loud.sum(axis=0)):
            now, usual = float(np.log1p(level[0])), np.sort(np.log1p(level[1:]))
            high = (float(usual[int(0.9 * (blocks - 1))]), float(usual[-2])) if blocks else (now, now)
            out += [now / 3, (now - high[0]) / 2, (now - high[1]) / 2]
    return [*out, float(np.log1p(blocks)) / 4]


def _loud(change: Change) -> Floats:
    """[n, 1 + b] octaves beyond three deviations, at most four: now, and in the usual windows. Of failures also counted
    over all rows: five in five hundred requests of who never fails are little per row, and hardly chance."""
    z = np.concatenate([np.maximum(np.abs(change.z), change.surprise)[:, None],
                        np.maximum(change.usual, change.counted)], axis=1)
    return np.asarray(np.clip(np.log2(np.maximum(z, _UNUSUAL) / _UNUSUAL), 0.0, _CAP))


def against_nothing_wrong(case: CaseWindow) -> float:
    """Log odds against "nothing is wrong" that the system's own past gives, -0.7 or above; 0 with less than four usual windows
    as long as now.

    Two sums over all services, in which many faint signs are a loud one: of squared deviations of failures as counts, and
    of everything else. p is the rank of now among the usual windows in the rarer of both, doubled; its odds are those of
    the calibrator 1 / (2 sqrt(p)) (Vovk and Wang, Annals of Statistics 2021), which are right on average where now is one
    more usual window. A few of these can't say much: with a hundred it is 1.3 at most.
    """
    nodes = node_changes(case)
    failures = [change for name, change in nodes.items() if name == "errors"]
    rest = [change for name, change in nodes.items() if name != "errors"]
    ranks = [_rank([(np.maximum(c.surprise, 0.0), np.maximum(c.counted, 0.0)) for c in failures]),
             _rank([(c.whole, c.usual) for c in rest])]
    known = [rank for rank in ranks if rank is not None]
    if not known:
        return 0.0
    return float(np.log(0.5) - 0.5 * np.log(min(1.0, len(known) * min(known))))


def _rank(columns: list[tuple[Floats, Floats]]) -> float | None:
    """Share of the usual windows, now among them, that are at least as unusual as now; None where there is none. Of each
    indicator the deviations [n] now and [n, b] in usual windows."""
    if not columns or not columns[0][1].shape[1]:
        return None
    both = [np.minimum(np.concatenate([now[:, None], usual], axis=1), _MOST) for now, usual in columns]
    level = np.sum([(one ** 2).sum(axis=0) for one in both], axis=0)
    return float((level >= level[0] * (1 - 1e-9)).mean())
