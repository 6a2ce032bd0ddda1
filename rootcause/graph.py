"""The service graph: from spans, from (caller, peer) metric labels, and from the configuration."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass

import msgspec

from ingest.types import Batch
from rootcause.types import ServiceGraph


@dataclass(frozen=True)
class GraphConfig:
    """What is known beforehand, and how long the rest is believed."""

    edges: tuple[tuple[str, str], ...] = ()
    """(caller, callee) pairs that hold whatever telemetry says."""
    external: tuple[str, ...] = ()
    """Services that are not ours to repair."""
    forget_seconds: float = 3600.0
    """An edge not seen for this long is forgotten."""
    max_edges: int = 20_000
    max_spans: int = 50_000
    """Spans held back until their parent or child shows up."""


class GraphBuilder:
    """`step(batch)` gives the graph as of now. Deterministic; event time alone."""

    def __init__(self, config: GraphConfig | None = None) -> None:
        self._c = config or GraphConfig()
        self._edges: dict[tuple[str, str], int] = {}
        self._services: dict[str, int] = {}
        self._spans: OrderedDict[str, str] = OrderedDict()  # span id -> service
        self._orphans: OrderedDict[str, list[str]] = OrderedDict()  # parent id -> services of its children
        self._now_ns = 0
        self._graph: ServiceGraph | None = None

    def step(self, batch: Batch) -> ServiceGraph:
        """Take in what a batch shows. Cost: some us per series of a batch and per span."""
        before = (len(self._edges), len(self._services))
        for table in (batch.metrics.ts_ns, batch.logs.ts_ns, batch.traces.ts_ns):
            if len(table):
                self._now_ns = max(self._now_ns, int(table[-1]))
        now = self._now_ns
        for key in batch.metrics.series_table:
            self._services[key.service] = now
            if key.peer and key.peer != key.service:
                self._edges[key.service, key.peer] = now
        for n in sorted(set(batch.logs.service.tolist()) - {-1}) if len(batch.logs) else ():
            self._services[batch.logs.vocab[n]] = now
        self._traces(batch, now)
        forgotten = self._forget()
        if self._graph is None or forgotten or before != (len(self._edges), len(self._services)):
            self._graph = self._build()
        return self._graph

    def learn(self, services: Iterable[str], edges: Iterable[tuple[str, str]], seen_ns: int) -> ServiceGraph:
        """Take in what another builder has seen by then."""
        before = (len(self._edges), len(self._services))
        self._now_ns = max(self._now_ns, seen_ns)
        self._services.update((service, max(seen_ns, self._services.get(service, 0))) for service in services)
        self._edges.update((edge, max(seen_ns, self._edges.get(edge, 0))) for edge in edges)
        if self._forget() or self._graph is None or before != (len(self._edges), len(self._services)):
            self._graph = self._build()
        return self._graph

    def sightings(self) -> tuple[dict[str, int], dict[tuple[str, str], int]]:
        """Services and edges with the time they were last seen, for another builder to `learn`."""
        return self._services, self._edges

    def graph(self) -> ServiceGraph:
        """As of the last step, or of the snapshot that was restored."""
        if self._graph is None:
            self._graph = self._build()
        return self._graph

    def _traces(self, batch: Batch, now: int) -> None:
        traces = batch.traces
        for n in range(len(traces)):
            if traces.service[n] < 0:
                continue
            service = traces.vocab[traces.service[n]]
            self._services[service] = now
            if traces.peer[n] >= 0 and traces.vocab[traces.peer[n]] != service:
                self._edges[service, traces.vocab[traces.peer[n]]] = now
            span, parent = traces.span_id[n], traces.parent_id[n]
            if span:
                self._spans[span] = service
                for child in self._orphans.pop(span, ()):
                    if child != service:
                        self._edges[service, child] = now
            if parent:
                caller = self._spans.get(parent)
                if caller is None:
                    self._orphans.setdefault(parent, []).append(service)
                elif caller != service:
                    self._edges[caller, service] = now
        for held in (self._spans, self._orphans):
            while len(held) > self._c.max_spans:
                held.popitem(last=False)

    def _forget(self) -> bool:
        limit = self._now_ns - int(self._c.forget_seconds * 1e9)
        old = [edge for edge, seen in self._edges.items() if seen < limit]
        gone = [service for service, seen in self._services.items() if seen < limit]
        for edge in old:
            del self._edges[edge]
        for service in gone:
            del self._services[service]
        while len(self._edges) > self._c.max_edges:
            del self._edges[next(iter(self._edges))]
        return bool(old or gone)

    def _build(self) -> ServiceGraph:
        edges = frozenset(self._edges) | frozenset(self._c.edges)
        services = sorted(set(self._services) | {s for edge in edges for s in edge})
        return ServiceGraph(tuple(services), edges, frozenset(self._c.external))

    def snapshot(self) -> bytes:
        # Spans that wait for their parent are not kept: a restart loses an edge until it is seen again.
        return msgspec.msgpack.encode({"edges": [[a, b, n] for (a, b), n in self._edges.items()],
                                       "services": self._services, "now": self._now_ns})

    def restore(self, data: bytes) -> None:
        state = msgspec.msgpack.decode(data)
        self._edges = {(a, b): n for a, b, n in state["edges"]}
        self._services, self._now_ns, self._graph = state["services"], state["now"], None


def graph_hash(graph: ServiceGraph) -> str:
    """Equal graphs, equal hash; 12 hexadecimal digits."""
    body = msgspec.json.encode([graph.services, sorted(graph.edges)])
    return hashlib.sha256(body).hexdigest()[:12]
