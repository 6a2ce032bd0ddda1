"""A new version beside the old one has no past of its own: that of the old one stands in."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from rootcause.types import CaseWindow

Floats = NDArray[np.float64]
Tables = Mapping[str, Floats]
_VERSION: Final = re.compile(r"[-_.](canary|stable|primary|baseline|new|old|next|blue|green|alpha|beta|rc\d*|v?\d[\w.]*)$",
                             re.IGNORECASE)
_OF_LOAD: Final = ("traffic", "logs", "error_lines")
"""Who gets a tenth of the requests has a tenth of these."""
_WITH_LOAD: Final = ("cpu", "memory")
"""Less than the old one's is due to less load; more is not."""


def without_version(name: str) -> str:
    """>>> [without_version(n) for n in ("cart-canary", "cart-v2", "cart_2.1", "cart", "v2")]
    ['cart', 'cart', 'cart', 'cart', 'v2']
    """
    return _VERSION.sub("", name)


def with_stand_ins(case: CaseWindow) -> CaseWindow:
    """The same, and each service that has values now and none before has for usual those of another version of it, which
    its name tells: the one without a suffix, else the busiest. Calls to and from it have those of the same calls of the other.

    Cost: nothing to speak of where everybody has a past. Fails where versions are told apart by something else than a
    suffix, and where the new one has another task than the old.
    """
    base = case.baseline_rows
    before, now = (_known(case.node_metrics, rows, len(case.services)) for rows in (slice(0, base), slice(base, None)))
    new = np.flatnonzero(~before & now).tolist()
    if not new or not base:
        return case
    stem = [without_version(name) for name in case.services]
    traffic = case.node_metrics.get("traffic")
    load = np.zeros(len(stem)) if traffic is None else np.nan_to_num(_middle(traffic[:base]))
    old_of = {i: max(others)[-1] for i in new if (others := [
        (case.services[j] == stem[i], stem[j] == case.services[i], float(load[j]), j) for j in np.flatnonzero(before).tolist()
        if stem[i] in (case.services[j], stem[j]) or stem[j] == case.services[i]])}
    if not old_of:
        return case
    node = {name: table.copy() for name, table in case.node_metrics.items()}
    for name, table in node.items():
        for i, j in old_of.items():
            _stand_in(table, i, j, base, name)
    edge_at = {(a, b): k for k, (a, b) in enumerate(case.edges.tolist())}
    edge = {name: table.copy() for name, table in case.edge_metrics.items()}
    for (a, b), k in edge_at.items():
        other = edge_at.get((old_of.get(a, a), old_of.get(b, b)), k)
        for name, table in edge.items() if other != k else ():
            _stand_in(table, k, other, base, name)
    return replace(case, node_metrics=node, edge_metrics=edge)


def _known(tables: Tables, rows: slice, n: int) -> NDArray[np.bool_]:
    """[n] who has any value in the rows. A service that is there and idle has a traffic of 0 and has a past."""
    found = np.zeros(n, bool)
    for table in tables.values():
        found |= np.isfinite(table[rows]).any(axis=0)
    return found


def _middle(rows: Floats) -> Floats:
    """[n] medians of what is there; NaN where nothing is."""
    ordered, counts = np.sort(rows, axis=0), np.isfinite(rows).sum(axis=0)
    middle: Floats = ordered[np.maximum(counts - 1, 0) // 2, np.arange(rows.shape[1])]
    return np.where(counts > 0, middle, np.nan)


def _stand_in(table: Floats, i: int, j: int, base: int, name: str) -> None:
    """Usual rows of column `j` for those of column `i`, which has none."""
    if np.isfinite(table[:base, i]).any():
        return
    part = 1.0
    if name in _OF_LOAD or name in _WITH_LOAD:
        usual, now = _middle(table[:base, [j]])[0], _middle(table[base:, [i]])[0]
        part = now / usual if usual > 0 and np.isfinite(now) else 1.0
        if name != "traffic":
            part = min(part, 1.0)
    table[:base, i] = table[:base, j] * part
