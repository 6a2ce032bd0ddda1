"""Made-up faults in made-up systems: what the ranker is trained on. One CaseWindow and its answer per call.

Faults travel as physics has it: failures and waiting go up the calls, diluted by how many requests touch them;
traffic goes down. Around that everything is unreliable: innocent services have anomalies, changes and false
alarms; culprits may be silent; onsets are off by some rows; whole kinds of telemetry are missing; one case in six or so
has no cause at all, and one in ten has two at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from detect.types import Signal
from rootcause.contrast import call_share, call_surprise
from rootcause.robust import Change, edge_changes, node_changes
from rootcause.simulate.faults import FAULTS, Struck, draw_fault, draw_root, strike
from rootcause.simulate.history import strike_before
from rootcause.simulate.physics import Conditions, flow
from rootcause.simulate.sensors import draw_profile, measure
from rootcause.simulate.topology import draw_system
from rootcause.simulate.watchers import draw_changes, names_of, usual_rows, watch
from rootcause.simulate.weather import blip, disturb, settle
from rootcause.types import CaseWindow

_NOVEL = float(np.log1p(1.2))
"""A fifth further from the usual than the usual rows ever were for as long."""

_TWO = 0.4
"""How often a second fault is drawn elsewhere (of a kind without a cause, or without a trace, more often than not)."""

__all__ = ["FAULTS", "Simulated", "simulate"]


@dataclass(frozen=True)
class Simulated:
    """A case and what is wrong in it."""

    case: CaseWindow
    root: int
    """Index of the service (of the called one, where it is a call); -1 for none."""
    fault: str
    profile: str = ""
    targets: tuple[int, ...] = ()
    """All culprits: a service by its index, a call by n + its row in `case.edges`; empty for none."""


def simulate(rng: np.random.Generator) -> Simulated:
    """One case. Cost: some 5 ms. Draws again where a fault leaves no trace at all in what is measured."""
    while True:
        drawn = _draw(rng)
        if drawn is not None:
            return drawn


def _draw(rng: np.random.Generator) -> Simulated | None:
    system = draw_system(rng)
    profile = draw_profile(rng)
    fault = draw_fault(rng)
    where = [(fault, draw_root(fault, system, rng))]
    if where[0][1] >= 0 and rng.random() < _TWO:
        second = draw_fault(rng)
        elsewhere = draw_root(second, system, rng)
        if elsewhere >= 0 and elsewhere != where[0][1]:
            where.append((second, elsewhere))
    root = where[0][1]
    roots = [at for _, at in where if at >= 0]
    step = {"full": 1.0, "spans": 300.0, "pods": 60.0}.get(profile.name, float(rng.choice([1.0, 10.0, 60.0])))
    if profile.name == "spans" and rng.random() < 0.4:
        step = float(rng.choice([10.0, 60.0]))
    if step == 60.0 and rng.random() < 0.2:
        step = 300.0
    if step >= 300 and rng.random() < 0.6:  # few requests in a row
        system = replace(system, entry=system.entry * float(np.exp(rng.uniform(np.log(0.003), 0))))
    base, after = usual_rows(step, rng)
    if rng.random() < 0.25:  # somebody has just begun to watch
        base = min(base, int(np.exp(rng.uniform(np.log(4), np.log(60)))))
    early, late = (0, 3) if step >= 300 else (-1, 2) if after < 8 else (-3, 3)
    onset = base + int(rng.integers(early, late))
    given = Conditions.usual(system, base + after)
    settle(system, given, base, step, rng)
    earlier = strike_before(system, given, base, step, rng) if base >= 8 and rng.random() < 0.2 else []
    disturb(fault, roots, system, given, base, step, rng)
    changes, rolled = draw_changes(fault, root, system, onset, step, rng)
    rolling = [(service, blip(service, given, row, step, rng)) for service, row in rolled if 0 < row < base + after]
    calm = flow(system, given)
    struck = [Struck(kind, at, strike(kind, at, system, given, max(1, onset), step, rng)) for kind, at in where if at >= 0]
    found = flow(system, given) if struck else calm
    node, edge = measure(system, given, found, [*struck, *earlier], rolling, base, step, profile, rng)
    signals: tuple[Signal, ...] = ()
    if rng.random() < (0.85 if profile.name == "full" else 0.4):
        signals = watch(system, node, edge, struck, base, onset, step, rng)
    ts_ns = (np.arange(base + after) * int(step * 1e9)).astype(np.int64)
    case = CaseWindow(ts_ns, names_of(system.n), node, system.edges, edge, base, tuple(changes), signals)
    if roots and not all(_leaves_a_trace(case, roots)):
        return None
    targets = tuple(system.n + s.marks.call if s.marks.call >= 0 else s.root for s in struck)
    return Simulated(case, root, fault, profile.name, targets)


def _leaves_a_trace(case: CaseWindow, roots: list[int]) -> Iterator[bool]:
    """Whether anything near each root moved to where it had not been: what nobody could find teaches nothing."""
    edges = case.edges
    nodes, calls = node_changes(case), edge_changes(case)
    lack = call_surprise(case, nodes, call_share(case, nodes, calls))[2]
    for root in roots:
        near = np.zeros(len(case.services), bool)
        lines = (edges == root).any(axis=1)
        near[root] = True
        near[edges[lines].ravel()] = True
        yield bool(lack[root] < -5) or any(_is_new(change, where) for changes, where in ((nodes, near), (calls, lines))
                                           for change in changes.values())


def _is_new(change: Change, where: NDArray[np.bool_]) -> bool:
    unseen = (np.abs(change.z[where]) > 4) & (np.abs(change.novel[where]) > _NOVEL)
    return bool((unseen | (np.abs(change.lost[where]) > 4)).any())
