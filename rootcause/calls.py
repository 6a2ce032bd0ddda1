"""Is it neither of the two, but the way between them? Calls from one service to one other, and nothing else."""

from __future__ import annotations

import msgspec
import numpy as np
from numpy.typing import NDArray

from detect.types import Evidence
from rootcause.features import CAUSES
from rootcause.robust import Change, edge_changes, node_changes
from rootcause.types import CaseWindow, Ranking, Suspect

Bools = NDArray[np.bool_]
_STRANGE = 6.0
_CALM = 3.5
_OWN = ("saturation", "lock_wait", "cache_full", "up", "responsive", "memory", "cpu")
"""What a service says of itself that a slow or broken way to it would not change."""


def broken_call(case: CaseWindow) -> int | None:
    """Row of `case.edges` whose calls fail or are slow while both ends are well, or None.

    Both ends: no gauge of their own is strange, the callee's own errors and latency are as ever, as are the calls to it
    from others and the caller's calls to others, and neither was changed. Where the callee says nothing of itself and
    has one caller only, nobody can tell it from the way to it: None.
    """
    if not len(case.edges):
        return None
    nodes, calls = node_changes(case), edge_changes(case)
    a, b = case.edges[:, 0], case.edges[:, 1]
    loud = np.zeros(len(a))
    for name in ("latency", "errors", "network"):
        if name in calls:
            loud = np.maximum(loud, np.maximum(calls[name].z, 0.0))
    sick = _sick(nodes, len(case.services), _OWN) | _changed(case)
    served = _sick(nodes, len(case.services), ("latency", "errors"))
    heard = _heard(nodes, len(case.services))
    best: int | None = None
    for k in np.flatnonzero(loud > _STRANGE).tolist():
        others = ((b == b[k]) | (a == a[k])) & (np.arange(len(a)) != k)
        # Who inherits the trouble of its own callees is slow as well: only what goes around this call counts.
        alone = bool((loud[others] < _CALM).all())
        from_elsewhere = bool(((b == b[k]) & (np.arange(len(a)) != k)).any())
        if alone and not sick[a[k]] and not sick[b[k]] and not served[b[k]] and (heard[b[k]] or from_elsewhere) and (
                best is None or loud[k] > loud[best]):
            best = k
    return best


def with_broken_call(suspects: tuple[Suspect, ...], case: CaseWindow, ranking: Ranking) -> tuple[Suspect, ...]:
    """The first suspect as the call that is broken, where it is one of its ends: by the rule above, else where the
    network gives the calls from one caller more than the service and its other callers together."""
    k = broken_call(case) if suspects else None
    if k is None:
        return _as_the_network_says(suspects, case, ranking)
    caller, callee = (case.services[i] for i in case.edges[k].tolist())
    first = suspects[0]
    if first.service not in (caller, callee):
        return suspects
    said = Evidence(f"calls from {caller} to {callee} fail or are slow, while both are well and all other calls as usual")
    return (msgspec.structs.replace(first, service=caller, peer=callee, evidence=(said, *first.evidence)), *suspects[1:])


def _as_the_network_says(suspects: tuple[Suspect, ...], case: CaseWindow, ranking: Ranking) -> tuple[Suspect, ...]:
    if not suspects or ranking.calls is None or not len(ranking.calls):
        return suspects
    i = case.services.index(suspects[0].service)
    onto = np.where(case.edges[:, 1] == i, ranking.calls, 0.0)
    k = int(np.argmax(onto))
    if onto[k] <= 0.5 * float(ranking.scores[i]):
        return suspects
    caller = case.services[int(case.edges[k, 0])]
    said = Evidence(f"calls to it from {caller} are hit, those from others are not: the way between them", float(onto[k]))
    return (msgspec.structs.replace(suspects[0], service=caller, peer=case.services[i],
                                    evidence=(said, *suspects[0].evidence)), *suspects[1:])


def _sick(nodes: dict[str, Change], n: int, names: tuple[str, ...]) -> Bools:
    out = np.zeros(n, bool)
    for name in names:
        if name in nodes:
            out |= nodes[name].z > _STRANGE
            if name in _OWN:  # who is asked for nothing has no latency to tell, who has no memory is gone
                out |= nodes[name].lost > _STRANGE
    return out


def _heard(nodes: dict[str, Change], n: int) -> Bools:
    """[n] whether the service speaks of itself at all."""
    out = np.zeros(n, bool)
    for name in ("latency", "errors", "responsive", "up"):
        if name in nodes:
            out |= nodes[name].has
    return out


def _changed(case: CaseWindow) -> Bools:
    names = {c.service for c in case.changes if c.kind in CAUSES and c.actor != "opsmend"}
    return np.array([service in names for service in case.services], dtype=bool)
