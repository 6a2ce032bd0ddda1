"""Is it the machine, or the volume, beneath them? Several services on one that got slow or fail for no reason in their
own calls, and hardly any elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from detect.types import Evidence
from rootcause.instances import UnusualInstance
from rootcause.reasons import Reasons
from rootcause.robust import node_changes
from rootcause.types import CaseWindow, ServiceGraph

_LEAST: Final = 2
"""Services that it takes."""
_SHARE: Final = 1 / 3
"""Of those on the machine."""
_CHANCE: Final = 0.1
"""That so many would happen to be there."""
PROBABILITY: Final = 0.8
"""Of the machine, where one is found: what `bench/rootcause_machines.py` gives if one fault in five is a machine's."""
_FELT: Final = ("errors", "latency")
_UNUSUAL: Final = 4.0
_SAME_ROWS: Final = 1
"""A callee that moved no later than this after its caller may be why."""


@dataclass(frozen=True)
class Machine:
    """A host or volume, the services on it that moved by themselves, and how many did elsewhere."""

    name: str
    services: tuple[str, ...]
    on_it: int
    elsewhere: int
    others: int
    chance: float

    def evidence(self, kind: str) -> Evidence:
        return Evidence(f"{len(self.services)} of {self.on_it} services on {kind} {self.name[:60]} fail or are slow and "
                        f"none of their callees was before, {self.elsewhere} of {self.others} elsewhere",
                        len(self.services) / self.on_it, self.elsewhere / max(1, self.others))


def shaken_machine(case: CaseWindow, graph: ServiceGraph, reasons: Reasons,
                   unusual: Mapping[str, tuple[UnusualInstance, ...]]) -> Machine | None:
    """The one that explains most, or None. `unusual`: service -> its instances that changed while others did not.

    Counted are services that moved by themselves: none of their callees was there before them. A service whose instances
    run on several machines counts for one of them where its unusual instances all run there. The chance is that of so
    many pointing there if each pointed anywhere. Cost: as `Reasons`, for the services that are unusual alone.
    Fails where few services are on a machine, where most rest on one, and where a machine slows one service only: then
    nothing tells the two apart.
    """
    resting: dict[str, set[str]] = {}
    for service, thing in graph.rests_on:
        resting.setdefault(service, set()).add(thing)
    heard = {case.services[i] for i in np.flatnonzero(_heard(case)).tolist()} & resting.keys()
    things: dict[str, set[str]] = {}
    for service in heard:
        for thing in resting[service]:
            things.setdefault(thing, set()).add(service)
    if len(things) < 2:
        return None
    first = _first_rows(case, reasons)
    alone = {case.services[i] for i, row in first.items() if not any(
        first.get(j, row + _SAME_ROWS + 1) <= row + _SAME_ROWS
        for j in case.edges[case.edges[:, 0] == i, 1].tolist())} & heard
    troubled = alone | {s for s in heard if unusual.get(s)}
    pinned = {s for s in heard if len(_hosts(s, graph)) < 2}
    best: Machine | None = None
    for thing, here in sorted(things.items()):
        struck = {s for s in here if _points(s, thing, resting[s], s in alone, graph, unusual.get(s, ()))}
        if len(struck) < _LEAST or len(struck) < _SHARE * len(here):
            continue
        by_chance = len(here & pinned) / max(1, len(pinned))
        chance = _tail(len(struck), [by_chance if s in pinned else (thing in resting[s]) / len(_hosts(s, graph))
                                     for s in sorted(troubled | struck)])
        if chance <= _CHANCE and (best is None or chance < best.chance):
            best = Machine(thing, tuple(sorted(struck)), len(here), len(troubled - struck - here), len(heard - here), chance)
    return best


def _hosts(service: str, graph: ServiceGraph) -> set[str]:
    return {host for host in graph.instances.get(service, {}).values() if host}


def _points(service: str, thing: str, on: set[str], is_alone: bool, graph: ServiceGraph,
            unusual: tuple[UnusualInstance, ...]) -> bool:
    """Whether the service speaks for the machine or volume."""
    placed, hosts = graph.instances.get(service, {}), _hosts(service, graph)
    if thing not in hosts or len(hosts) < 2:
        return is_alone and (thing in hosts or len(on) == 1 or graph.kind_of(thing) == "volume")
    return bool(unusual) and all(placed.get(u.instance) == thing for u in unusual)


def _heard(case: CaseWindow) -> NDArray[np.bool_]:
    nodes, n = node_changes(case), len(case.services)
    heard = np.zeros(n, bool)
    for name in _FELT:
        if name in nodes:
            heard |= nodes[name].has
    return heard


def _first_rows(case: CaseWindow, reasons: Reasons) -> dict[int, int]:
    """Service -> first row in which it failed or was slow."""
    nodes, n = node_changes(case), len(case.services)
    loud = np.zeros(n, bool)
    for name in _FELT:
        if name in nodes:
            loud |= nodes[name].z > _UNUSUAL
    return {i: row for i in np.flatnonzero(loud).tolist() if (row := reasons.felt_row(i)) is not None}


def _tail(hits: int, chances: Sequence[float]) -> float:
    """Probability that `hits` or more come true of what each does with its own chance.

    >>> round(_tail(3, [0.25, 0.25, 0.25, 0.5]), 4)
    0.0859
    """
    known = np.zeros(len(chances) + 1)
    known[0] = 1.0
    for p in chances:
        known[1:] = known[1:] * (1 - p) + known[:-1] * p
        known[0] *= 1 - p
    return float(known[hits:].sum())
