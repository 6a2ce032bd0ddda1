"""Windows made out of recorded ones: nothing wrong, nothing wrong but a deploy, and two faults at once."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ingest.types import Change
from opsmend.evaluate.rca_cases import RecordedCase
from rootcause.column_statistics import quantiles
from rootcause.types import CaseWindow

Floats = NDArray[np.float64]
CALM_PER_CASE = 4
_USUAL_ROWS = 30
_SHARES = ("errors", "saturation", "up", "responsive")
_RANGE = (0.01, 0.5, 0.99)
"""Of a column's usual rows: between the outer two a cell is as usual."""
_BY_CHANCE = 0.02
"""So many missing cells are no chance."""


def calm_windows(case: RecordedCase) -> Iterator[CaseWindow]:
    """The same system when nothing was wrong: at most four stretches of usual rows, as long as the fault's, spread
    over the later two thirds of the usual rows; those before it are its usual state, at least 30."""
    window = case.window
    size = len(window.ts_ns) - window.baseline_rows
    # The rows just before a fault may belong to the one before it.
    last = window.baseline_rows - min(_USUAL_ROWS, window.baseline_rows // 10)
    first = max(_USUAL_ROWS + size, window.baseline_rows // 3)
    for k in range(CALM_PER_CASE):
        if last - first < CALM_PER_CASE:
            return
        slot = (last - first) // CALM_PER_CASE
        end = first + k * slot + zlib.crc32(f"{case.name} {k}".encode()) % slot
        yield window.of_rows(slice(end), end - size)


def with_deploy(calm: CaseWindow, key: str) -> CaseWindow:
    """The same, and an arbitrary service has a new release just before the window."""
    service = calm.services[zlib.crc32(key.encode()) % len(calm.services)]
    at = int(calm.ts_ns[calm.baseline_rows]) - int(min(calm.step_seconds / 2, 30.0) * 1e9)
    return replace(calm, changes=(*calm.changes, Change(at, service, "rollout", "v2", "v1", "deployer")))


def pairs(cases: Sequence[RecordedCase]) -> Iterator[tuple[RecordedCase, RecordedCase]]:
    """Each case with the next of the same system whose root is another, in the order of their names."""
    for i, one in enumerate(cases):
        for other in (*cases[i + 1:], *cases[:i]):
            if other.system == one.system and other.root != one.root and other.window.services == one.window.services:
                yield one, other
                break


def overlaid(one: RecordedCase, other: RecordedCase) -> CaseWindow | None:
    """`one` with what `other` changed against its own usual rows put on top, row by row from the onset on (`_both`).
    Calls that only one of them has are left out; None where they share no indicator."""
    a, b = one.window, other.window
    size = min(len(a.ts_ns) - a.baseline_rows, len(b.ts_ns) - b.baseline_rows)
    end = a.baseline_rows + size
    if size == 0 or not set(a.node_metrics) & set(b.node_metrics):
        return None
    pairs_a = {tuple(e): k for k, e in enumerate(a.edges.tolist())}
    pairs_b = {tuple(e): k for k, e in enumerate(b.edges.tolist())}
    shared = sorted(set(pairs_a) & set(pairs_b))
    ia, ib = [pairs_a[e] for e in shared], [pairs_b[e] for e in shared]
    node = {k: _both(a.node_metrics[k], b.node_metrics[k], k, a, b, size) for k in a.node_metrics if k in b.node_metrics}
    edge = {k: _both(a.edge_metrics[k][:, ia], b.edge_metrics[k][:, ib], k, a, b, size)
            for k in a.edge_metrics if k in b.edge_metrics}
    edges = np.array(shared, dtype=np.int32).reshape(-1, 2)
    return replace(a, ts_ns=a.ts_ns[:end], node_metrics=node, edges=edges, edge_metrics=edge)


def _both(a: Floats, b: Floats, name: str, one: CaseWindow, other: CaseWindow, size: int) -> Floats:
    """[t, k] the rows of `a` up to its first `size` of the fault, with those of `b` joined, cell by cell.

    Within the usual range of its column a cell holds nothing but the chance of that row, and chance does not double
    because two things are wrong: the cell of the other counts. Where both are outside of it, waiting adds up, failures
    are those of independent chances, and traffic is the product of what is left. A cell without a value means something
    only where so many of them would hardly be missing by chance.
    """
    out = a[:one.baseline_rows + size].copy()
    now, then = out[one.baseline_rows:], b[other.baseline_rows:other.baseline_rows + size]
    (low_a, usual_a, high_a), _ = quantiles(np.ascontiguousarray(a[:one.baseline_rows].T), _RANGE)
    (low_b, usual_b, high_b), count = quantiles(np.ascontiguousarray(b[:other.baseline_rows].T), _RANGE)
    is_odd, was_odd = (now < low_a) | (now > high_a), (then < low_b) | (then > high_b)
    moved = then - usual_b
    together, alone = now + moved, usual_a + moved
    if name == "errors":
        together = np.where(moved > 0, 1 - (1 - now) * (1 - np.minimum(moved, 1.0)), together)
    elif name == "traffic":
        left = np.where(usual_b > 0, then / np.where(usual_b > 0, usual_b, 1.0), np.nan)
        together = np.where(np.isfinite(left), now * left, together)
        alone = np.where(np.isfinite(left) & (usual_a > 0), usual_a * left, alone)
    joined = np.where(was_odd, np.where(is_odd, together, alone), now)
    missing = np.isnan(then)
    by_chance = (1 - count / max(1, other.baseline_rows)) ** missing.sum(axis=0)
    joined = np.where(missing & (by_chance < _BY_CHANCE), np.nan, np.where(np.isnan(now) & was_odd, then, joined))
    out[one.baseline_rows:] = np.clip(joined, 0.0, 1.0 if name in _SHARES else np.inf)
    return out
