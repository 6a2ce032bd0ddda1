"""Is the system as a whole more unusual than it ever was for as long? Told to every service, for "none of these"."""

from __future__ import annotations

import numpy as np

from rootcause.robust import Change, Floats
from rootcause.types import CaseWindow

ALL_TOGETHER = 13
_FELT = ("errors", "latency")
_UNUSUAL, _CAP = 3.0, 4.0


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
