"""How it spread: the part of the service graph that matters, by probability of being the cause, and the path upwards."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np

from detect.indicators import indicator_of
from detect.types import Incident
from ingest.types import SeriesKey
from opsmend.api.chart_types import CauseGraph, GraphEdge, GraphNode
from opsmend.dashboard.layout import place
from opsmend.dashboard.reading import Reading
from opsmend.dashboard.words import NS, likely, share, span
from rootcause.placements import GROUND
from rootcause.types import Diagnosis, ServiceGraph, Suspect

Call = tuple[str, str]
_SHOWN = 12
_LETTERS = 17
"""In a line under a node."""
_WIDE = 460
"""Pixels from which on the graph has a row of the page for itself: more than four columns."""
_HEAT = (0.5, 0.2, 0.05, 0.01)
"""From these probabilities on a node is drawn in the first, second, ... tone."""
_EDGE = {"traffic": "requests_per_second", "errors": "error_ratio", "latency": "latency_seconds"}


def heat(probability: float | None) -> int:
    """The tone of a probability: 4 is the hottest, 0 is no suspect.

    >>> heat(0.83), heat(0.08), heat(None)
    (4, 2, 0)
    """
    at = next((n for n, least in enumerate(_HEAT) if probability is not None and probability >= least), len(_HEAT))
    return len(_HEAT) - at


@dataclass
class _Seen:
    """What the incident's signals and its diagnosis say of each service and call."""

    onset: dict[str, int] = field(default_factory=dict)
    worst: dict[str, float] = field(default_factory=dict)  # error ratio
    cause: dict[str, float] = field(default_factory=dict)
    call: dict[tuple[str, str], float] = field(default_factory=dict)
    instances: dict[str, tuple[str, ...]] = field(default_factory=dict)
    ground: dict[str, str] = field(default_factory=dict)  # suspects that are a host or volume, as which they were found
    path: tuple[str, ...] = ()

    @classmethod
    def of(cls, incident: Incident, diagnosis: Diagnosis | None) -> _Seen:
        out = cls()
        for s in incident.signals:
            out.onset[s.service] = min(out.onset.get(s.service, s.start_ns), s.start_ns)
            if s.kind == "error_ratio" and not s.peer and s.value is not None:
                out.worst[s.service] = max(out.worst.get(s.service, 0.0), s.value)
        for suspect in diagnosis.suspects if diagnosis else ():
            if suspect.peer:
                out.call[suspect.service, suspect.peer] = suspect.probability
            else:
                out.cause[suspect.service] = suspect.probability
            out.instances[suspect.service] = suspect.instances
            if suspect.kind:
                out.ground[suspect.service] = suspect.kind
        if diagnosis is not None and diagnosis.suspects:
            out.path = diagnosis.suspects[0].path
        return out

    def core(self) -> list[str]:
        """Suspects and the path first, then who has signs."""
        ends = [n for (a, b), p in self.call.items() if p >= _HEAT[2] for n in (a, b)]
        return list(dict.fromkeys([*(s for s, p in self.cause.items() if p >= _HEAT[2]), *ends, *self.path, *self.onset]))

    def shown(self, graph: ServiceGraph) -> list[str]:
        """Those, and their neighbours; at most twelve."""
        core = self.core()
        near = sorted({n for s in core for n in (*graph.callers(s), *graph.callees(s))} - set(core))
        near = list(dict.fromkeys([*sorted({s for s, thing in graph.rests_on if thing in core} - set(core)), *near]))
        return [*core, *near][:_SHOWN]


def cause_graph(reading: Reading, incident: Incident, diagnosis: Diagnosis | None) -> CauseGraph:
    """The graph as the API tells it. Cost: reads the last minute of the calls that are shown."""
    graph, seen = reading.graph, _Seen.of(incident, diagnosis)
    shown = seen.shown(graph)
    states = {s.name: "ok" if s.state in ("critical", "warning") else s.state for s in reading.services}
    hit = "critical" if incident.severity == "critical" else "warning"
    step = {service: n for n, service in enumerate(seen.path)}
    first = _first(diagnosis)
    nodes = tuple(GraphNode(
        name, seen.ground.get(name) or graph.kind_of(name),
        hit if name in seen.onset else states.get(name, "unknown"), seen.cause.get(name),
        name == first, name in graph.external, seen.onset[name] / NS if name in seen.onset else None, step.get(name),
        seen.instances.get(name, ())) for name in sorted(shown))
    pairs = [e for e in sorted(graph.edges) if e[0] in shown and e[1] in shown and e[0] != e[1]]
    measured = _measured(reading, incident, set(pairs))
    on_path = {(above, below) for below, above in pairwise(seen.path)}
    edges = tuple(GraphEdge(a, b, seen.call.get((a, b)), (a, b) in on_path, **measured.get((a, b), _nothing()))
                  for a, b in pairs)
    return CauseGraph(nodes, edges, seen.path if nodes else (), None if diagnosis is None else diagnosis.p_none,
                      diagnosis is not None and diagnosis.cannot_tell, "" if diagnosis is None else diagnosis.graph_hash)


def _first(diagnosis: Diagnosis | None) -> str:
    """The service that is the likely cause; "" where it can't be told, or is a call."""
    first = _likely(diagnosis)
    return first.service if first and not first.peer else ""


def _likely(diagnosis: Diagnosis | None) -> Suspect | None:
    return diagnosis.suspects[0] if diagnosis and diagnosis.suspects and not diagnosis.cannot_tell else None


def _nothing() -> dict[str, float | None]:
    return dict.fromkeys(_EDGE.values())


def _measured(reading: Reading, incident: Incident, pairs: set[Call]) -> dict[Call, dict[str, float | None]]:
    """Call -> requests per second, error ratio, latency: medians of the newest minute; of instances the sum, or the worst."""
    end = reading.now_ns if incident.state == "open" else incident.closed_ns or incident.updated_ns

    def keep(key: SeriesKey) -> bool:
        return (key.service, key.peer) in pairs and indicator_of(key) in _EDGE

    seen = reading.observations(end - 60 * NS, end, keep, ("calls", incident.id))
    found: dict[tuple[str, str], dict[str, float | None]] = {}
    for at, key in enumerate(seen.series):
        values = seen.values[:, at]
        if not np.isfinite(values).any():
            continue
        name, value = _EDGE[indicator_of(key)], float(np.nanmedian(values))
        call = found.setdefault((key.service, key.peer), _nothing())
        before = call[name]
        call[name] = value if before is None else before + value if name == "requests_per_second" else max(before, value)
    return found


def spread(reading: Reading, incident: Incident, diagnosis: Diagnosis | None) -> dict[str, Any]:
    """The same placed for drawing: nodes and lines with what is written beside them, and the path in words."""
    told, seen = cause_graph(reading, incident, diagnosis), _Seen.of(incident, diagnosis)
    rests = {pair for pair in reading.graph.rests_on if {*pair} <= {n.name for n in told.nodes}}
    graph = ServiceGraph(tuple(n.name for n in told.nodes), frozenset((e.caller, e.callee) for e in told.edges) | rests,
                         reading.graph.external)
    placed = place(graph, {n.name: n.state for n in told.nodes}, step_x=112, step_y=68)
    node_of, edge_of = {n.name: n for n in told.nodes}, {(e.caller, e.callee): e for e in told.edges}
    for node in placed["nodes"]:
        n = node_of[node["name"]]
        node |= {"is_suspect": n.is_suspect, "heat": heat(n.probability), "kind": n.kind, "step": n.step,
                 "said": _said(n, seen), "first": seen.onset.get(n.name, 0), "p": n.probability, "instances": n.instances,
                 "label": label(n.name)}
    first = _likely(diagnosis)
    for line in placed["lines"]:
        caller, callee = line["a"], line["b"]
        line |= {"rests": (caller, callee) in rests, "on_path": False, "spread": False, "heat": 0, "after": "", "p": None,
                 "words": "", "is_suspect": False}
        if line["rests"]:
            continue
        edge = edge_of[caller, callee]
        onset = seen.onset
        goes_up = caller in onset and callee in onset and onset[callee] <= onset[caller]
        line |= {"on_path": edge.on_path, "spread": edge.on_path or goes_up, "heat": heat(edge.probability),
                 "p": edge.probability, "words": _call_words(edge),
                 "is_suspect": first is not None and (first.service, first.peer) == (caller, callee)}
        if line["spread"] and caller in onset and callee in onset and onset[caller] > onset[callee]:
            line["after"] = f"+{span((onset[caller] - onset[callee]) / NS)}"
        if edge.probability is not None and edge.probability >= _HEAT[3]:
            line["after"] = f"cause {likely(edge.probability)}"
    drawn = {n.name for n in told.nodes}
    return placed | {"path": told.path, "p_none": told.p_none, "cannot_tell": told.cannot_tell,
                     "first": _first(diagnosis), "hash": told.graph_hash, "is_wide": placed["width"] > _WIDE,
                     "others": [name for name in seen.core() if name not in drawn] if drawn else []}


def label(name: str) -> tuple[str, ...]:
    """What is written under a node: one line, or two that keep both ends of a long name, as these tell it from its like.

    >>> label("payments"), label("shop-checkout-service-eu"), label("com.example.shop.pricing.PricingService")
    (('payments',), ('shop-checkout-', 'service-eu'), ('com.example.shop…', '…PricingService'))
    """
    if len(name) <= _LETTERS:
        return (name,)
    cut = max((at + 1 for at, c in enumerate(name[:_LETTERS]) if c in "-_./: "), default=_LETTERS)
    if len(name) - cut <= _LETTERS:
        return name[:cut], name[cut:]
    head, tail = name[:_LETTERS - 1], name[1 - _LETTERS:]
    joint = next((at for at, c in enumerate(tail) if c in "-_./: "), -1)
    return head + "…", "…" + (tail[joint + 1:] or tail)


def _said(node: GraphNode, seen: _Seen) -> str:
    """What is written under a node: its probability, else how much of what it is asked for fails."""
    if node.probability is not None and node.probability >= _HEAT[3]:
        return f"{node.kind + ', ' if node.kind in GROUND else ''}cause {likely(node.probability)}"
    return f"errors {share(seen.worst[node.name])}" if node.name in seen.worst else ""


def _call_words(edge: GraphEdge) -> str:
    """`41 requests/s, 0.2 % fail, 94 ms`: what is measured of a call."""
    said = []
    if edge.requests_per_second is not None:
        said.append(f"{edge.requests_per_second:.3g} requests/s")
    if edge.error_ratio is not None:
        said.append(f"{share(edge.error_ratio)} fail")
    if edge.latency_seconds is not None:
        said.append(span(edge.latency_seconds) if edge.latency_seconds >= 1 else f"{1000 * edge.latency_seconds:.0f} ms")
    return ", ".join(said)
