"""Several columns of recorded cases that are one indicator, or two of different ends."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from opsmend.evaluate.rca_columns import WAITED
from rootcause.column_statistics import quantiles

Floats = NDArray[np.float64]
_RARE: Final = 0.02
"""Callees that get less than this part of a caller's calls make no difference to what it waits."""


def joined(parts: list[Floats], indicator: str, base: int) -> Floats:
    """[t] the geometric mean, each over its own usual level (of the first `base` rows); of errors the worst."""
    if len(parts) == 1:
        return parts[0]
    stack = np.stack(parts)  # [k, t]
    if indicator == "errors":
        return np.asarray(np.fmax.reduce(stack))
    ratios, levels = [], []
    for part in stack:
        usual = part[:base][np.isfinite(part[:base]) & (part[:base] > 0)]
        if len(usual):
            levels.append(float(np.median(usual)))
            ratios.append(np.log(np.maximum(part, 1e-3 * levels[-1]) / levels[-1]))
    if not ratios:
        return np.asarray(stack[0])
    together = np.stack(ratios)
    counts = np.isfinite(together).sum(axis=0)
    mean = np.nansum(together, axis=0) / np.maximum(counts, 1)
    return np.where(counts > 0, np.median(levels) * np.exp(mean), np.nan)


def take_waits(node: dict[str, Floats], edge: dict[str, Floats], pairs: list[tuple[int, int]], base: int) -> None:
    """`node` without WAITED (seconds that a service waits for a call, whomever it calls), which is joined to its latency.

    Where no call is measured by itself: what it waits beyond what its callees say that they take, weighted by how often it
    calls each, is the time on the way of all its calls alike. One caller does not tell which; several callers do.
    """
    waited = node.pop(WAITED)
    own = node.get("latency", np.full_like(waited, np.nan))
    node["latency"] = np.stack([joined([own[:, i], waited[:, i]], "latency", base) for i in range(own.shape[1])], axis=1)
    if edge.keys() & {"latency", "network"} or not pairs:
        return
    callers, callees = np.array(pairs).T
    asked = np.nan_to_num(quantiles(node["traffic"][:base].T, (0.5,))[0][0]) if "traffic" in node else np.ones(own.shape[1])
    # Nobody counts calls: a service's requests come from its callers as these are asked.
    from_all = np.bincount(callees, weights=asked[callers], minlength=len(asked))
    often = asked[callees] * asked[callers] / np.maximum(from_all[callees], 1e-12)
    way = np.full((len(waited), len(pairs)), np.nan)
    for i in sorted(set(callers.tolist())):
        to = np.flatnonzero(callers == i)
        part = often[to] / max(float(often[to].sum()), 1e-12)
        asks = part >= _RARE
        if asks.any():
            spent = own[:, callees[to[asks]]] @ (part[asks] / part[asks].sum())  # unknown where one of them is
            way[:, to] = (waited[:, i] - spent)[:, None]
    edge["network"] = way
