"""Windows made out of recorded ones: nothing wrong, nothing wrong but a deploy, and two faults at once."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ingest.types import Change
from opsmend.evaluate.rca_cases import RecordedCase
from rootcause.types import CaseWindow

Floats = NDArray[np.float64]
CALM_PER_CASE = 4
_USUAL_ROWS = 30
_SHARES = ("errors", "saturation", "up", "responsive")


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
    """`one` with what `other` changed against its own usual median added, row by row from the onset on. Calls that
    only one of them has are left out; None where they share no indicator."""
    a, b = one.window, other.window
    size = min(len(a.ts_ns) - a.baseline_rows, len(b.ts_ns) - b.baseline_rows)
    end = a.baseline_rows + size
    if size == 0 or not set(a.node_metrics) & set(b.node_metrics):
        return None
    pairs_a = {tuple(e): k for k, e in enumerate(a.edges.tolist())}
    pairs_b = {tuple(e): k for k, e in enumerate(b.edges.tolist())}
    shared = sorted(set(pairs_a) & set(pairs_b))
    ia, ib = [pairs_a[e] for e in shared], [pairs_b[e] for e in shared]
    node = {k: _added(a.node_metrics[k], b.node_metrics[k], k, a, b, size) for k in a.node_metrics if k in b.node_metrics}
    edge = {k: _added(a.edge_metrics[k][:, ia], b.edge_metrics[k][:, ib], k, a, b, size)
            for k in a.edge_metrics if k in b.edge_metrics}
    edges = np.array(shared, dtype=np.int32).reshape(-1, 2)
    return replace(a, ts_ns=a.ts_ns[:end], node_metrics=node, edges=edges, edge_metrics=edge)


def _added(a: Floats, b: Floats, name: str, one: CaseWindow, other: CaseWindow, size: int) -> Floats:
    out = a[:one.baseline_rows + size].copy()
    now = out[one.baseline_rows:]
    usual = _median(b[:other.baseline_rows])
    moved = b[other.baseline_rows:other.baseline_rows + size] - usual
    both = np.where(np.isfinite(moved), now + moved, now)
    both = np.where(np.isnan(b[other.baseline_rows:other.baseline_rows + size]) & np.isfinite(usual), np.nan, both)
    out[one.baseline_rows:] = np.clip(both, 0.0, 1.0 if name in _SHARES else np.inf)
    return out


def _median(rows: Floats) -> Floats:
    ordered = np.sort(rows, axis=0)
    count = np.isfinite(rows).sum(axis=0)
    return np.asarray(ordered[np.maximum(count - 1, 0) // 2, np.arange(rows.shape[1])])
