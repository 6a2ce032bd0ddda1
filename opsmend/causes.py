"""What a person says the cause of an incident was, with the window that it can be seen in.

The window is kept with the word: telemetry is thrown away after a while, and what somebody took the trouble to find out
is to be learned from for longer than that (`opsmend train rootcause --fine-tune`).
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping, Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from detect.types import Incident, Observations, Signal
from ingest.types import Change
from rootcause.earlier import usual_rows
from rootcause.instances import instance_of
from rootcause.placements import GROUND
from rootcause.types import CaseWindow, ServiceGraph, Suspect
from rootcause.window import case_window

BEFORE_SECONDS, AFTER_SECONDS = 300.0, 300.0
"""Of the first sign: rows from so long before it up to so long after it, or to the end of the incident."""
BACK_SECONDS = 900.0
"""How far back usual rows are looked for where other incidents lie between."""


class Culprit(msgspec.Struct, frozen=True):
    """A service; with `peer` the calls from it to `peer`, and neither end; with `instance` that one of it; a host or volume
    where `kind` says so."""

    service: str
    peer: str = ""
    instance: str = ""
    kind: str = ""  # host, volume; "": a service, or a call

    @property
    def is_ground(self) -> bool:
        """A host or volume: no candidate of the ranker."""
        return self.kind in GROUND


class ConfirmedCause(msgspec.Struct, frozen=True):
    """What was at fault: the first culprit, and in `also` those that were at fault at the same time. With no service
    nothing was wrong. The newest word counts."""

    incident_id: str
    service: str
    peer: str
    by: str
    at_ns: int
    instance: str = ""
    kind: str = ""
    also: tuple[Culprit, ...] = ()

    @classmethod
    def of(cls, incident_id: str, culprits: Sequence[Culprit], by: str, at_ns: int) -> ConfirmedCause:
        """`culprits`: none where nothing was wrong; who is named twice counts once."""
        first, *also = dict.fromkeys(culprits) or (Culprit(""),)
        return cls(incident_id, first.service, first.peer, by, at_ns, first.instance, first.kind, tuple(also))

    @property
    def culprits(self) -> tuple[Culprit, ...]:
        if not self.service:
            return ()
        return Culprit(self.service, self.peer, self.instance, self.kind), *self.also


def span_ns(incident: Incident, now_ns: int) -> tuple[int, int]:
    """First and last time that may belong to the window: usual rows are from further back where incidents lie between."""
    end = incident.first_signal_ns + int(AFTER_SECONDS * 1e9)
    ends = (end, now_ns, incident.closed_ns) if incident.closed_ns else (end, now_ns)
    return incident.first_signal_ns - int(BACK_SECONDS * 1e9), min(ends)


def told_apart(culprits: Iterable[Culprit], graph: ServiceGraph, diagnosed: Iterable[Suspect]) -> tuple[Culprit, ...]:
    """The same with hosts and volumes marked as such: by the graph, or by a diagnosis where the graph has forgotten them."""
    kinds = {s.service: s.kind for s in diagnosed if s.kind}
    kinds |= {thing: graph.kind_of(thing) for _, thing in graph.rests_on}
    return tuple(msgspec.structs.replace(c, kind=kinds[c.service]) if kinds.get(c.service) in GROUND else c for c in culprits)


def window_of(incident: Incident, graph: ServiceGraph, seen: Observations, changes: tuple[Change, ...],
              cause: ConfirmedCause, diagnosed: Iterable[Suspect] = (), others: Iterable[Incident] = ()) -> CaseWindow:
    """`seen` of `span_ns`, without the rows of `others` that were over before it. Raises ValueError, in words for people, where
    nothing could be learned from it, or where what is named was not seen then: by the telemetry, the graph as it is, or a
    diagnosis of the incident (`diagnosed`)."""
    usual = usual_rows(incident, seen, others, BEFORE_SECONDS)
    window = case_window(incident, graph, usual.seen, changes, baseline_seconds=usual.baseline_seconds)
    if not 0 < window.baseline_rows < len(window.ts_ns):
        raise ValueError("its telemetry is gone already, or there is none from before it")
    there = {s.service: set(s.instances) for s in diagnosed}
    calls = edges_of(window)
    for culprit in cause.culprits:
        service, peer, instance = culprit.service, culprit.peer, culprit.instance
        if culprit.is_ground:
            if peer or instance:
                raise ValueError(f"{service} is a {culprit.kind}: it calls nobody and has no instances")
            continue
        for name in (service, peer):
            if name and name not in window.services:
                raise ValueError(f"no service {name} was seen then, and no host or volume of this name")
        if peer and (service, peer) not in calls:
            raise ValueError(f"no calls from {service} to {peer} were seen then")
        if peer and instance:
            raise ValueError("an instance is of a service, not of calls")
        if instance and instance not in _instances(service, graph, seen) | there.get(service, set()):
            raise ValueError(f"no instance {instance} of {service} was seen then")
    return window


def _instances(service: str, graph: ServiceGraph, seen: Observations) -> set[str]:
    return set(graph.instances.get(service, ())) | {instance_of(key) for key in seen.series if key.service == service}


def edges_of(window: CaseWindow) -> list[tuple[str, str]]:
    """(caller, callee) by name, in the order of `window.edges`."""
    return [(window.services[a], window.services[b]) for a, b in window.edges.tolist()]


def targets_of(cause: ConfirmedCause, window: CaseWindow) -> tuple[int, ...]:
    """The candidates that it names: a service, or that of an instance, by its index, a call by n + its row; none where
    nothing was wrong. Hosts and volumes are left out: the ranker has no candidate for them. Raises ValueError where one
    is not in the window."""
    found = [len(window.services) + edges_of(window).index((c.service, c.peer)) if c.peer else window.services.index(c.service)
             for c in cause.culprits if not c.is_ground]
    return tuple(dict.fromkeys(found))


class _Stored(msgspec.Struct, frozen=True):
    ts_ns: bytes
    services: tuple[str, ...]
    node: dict[str, bytes]
    edges: bytes
    edge: dict[str, bytes]
    baseline_rows: int
    changes: tuple[Change, ...]
    signals: tuple[Signal, ...]


def packed(window: CaseWindow) -> bytes:
    """For the store; a window of 600 rows and ten services is some 200 kB."""
    stored = _Stored(window.ts_ns.astype("<i8").tobytes(), window.services, _tables(window.node_metrics),
                     window.edges.astype("<i4").tobytes(), _tables(window.edge_metrics), window.baseline_rows,
                     window.changes, window.signals)
    return zlib.compress(msgspec.msgpack.encode(stored), 6)


def unpacked(body: bytes) -> CaseWindow:
    """The inverse of `packed`. Raises zlib.error, msgspec.MsgspecError or ValueError where it is none."""
    s = msgspec.msgpack.decode(zlib.decompress(body), type=_Stored)
    ts_ns = np.frombuffer(s.ts_ns, "<i8").astype(np.int64)
    edges = np.frombuffer(s.edges, "<i4").astype(np.int32).reshape(-1, 2)
    if not 0 < s.baseline_rows < len(ts_ns):
        raise ValueError(f"{s.baseline_rows} rows of {len(ts_ns)} are from before")
    if edges.size and not 0 <= edges.min() <= edges.max() < len(s.services):
        raise ValueError(f"a call of a service that is none of the {len(s.services)}")
    return CaseWindow(ts_ns, s.services, _tables_back(s.node, len(ts_ns), len(s.services)), edges,
                      _tables_back(s.edge, len(ts_ns), len(edges)), s.baseline_rows, s.changes, s.signals)


def _tables(metrics: Mapping[str, NDArray[np.float64]]) -> dict[str, bytes]:
    """Those in which something is known."""
    return {name: table.astype("<f8").tobytes() for name, table in metrics.items() if np.isfinite(table).any()}


def _tables_back(stored: dict[str, bytes], rows: int, width: int) -> dict[str, NDArray[np.float64]]:
    return {name: np.frombuffer(raw, "<f8").astype(np.float64).reshape(rows, width) for name, raw in stored.items()}
