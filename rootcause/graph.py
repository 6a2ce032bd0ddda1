"""The service graph: from spans, from metric labels, from where telemetry says it comes from, and from the configuration."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

import msgspec
import numpy as np

from ingest.types import PEER_KINDS, Batch, CallWait, SeriesKey, TraceBatch
from rootcause.last_seen import LastSeen
from rootcause.owners import FACTS, without_facts
from rootcause.placements import HOST, VOLUME, Placements
from rootcause.pods import of_pods, with_keys
from rootcause.span_join import Call, SpanJoin
from rootcause.types import ServiceGraph

_SKEW_NS: Final = 300 * 10**9
_ENOUGH: Final = 20
"""Rows in a row beyond the skew before time is believed to have jumped."""
_TIDY_NS: Final = 10**9
_STORE_NS: Final = 30 * 10**9
"""So far behind may the stored times at which things were last seen be."""
_KIND_ORDER: Final = ("database", "cache", "queue", "external", "address")
"""Of several things that are said of one name the first counts."""
_SERVICE_GRAPH: Final = "traces_service_graph_request"
_CONNECTIONS: Final = {"database": "database", "virtual_node": "address"}
"""What service-graph metrics say of the server."""
_CLUSTER: Final = (".svc.cluster.local", ".svc")


@dataclass(frozen=True)
class GraphConfig:
    """What is known beforehand, and how long the rest is believed."""

    edges: tuple[Call, ...] = ()
    """(caller, callee) pairs that hold whatever telemetry says."""
    external: tuple[str, ...] = ()
    """Services that are not ours to repair."""
    kinds: Mapping[str, str] = field(default_factory=dict)
    """Name -> service, database, cache, queue, host or volume, whatever telemetry says."""
    rests_on: tuple[tuple[str, str], ...] = ()
    """(service, host or volume) pairs that hold whatever telemetry says."""
    forget_seconds: float = 3600.0
    """An edge not seen for this long is forgotten."""
    forget_instance_seconds: float = 600.0
    """So is an instance: after a roll-out others take over, perhaps elsewhere."""
    max_edges: int = 20_000
    max_services: int = 20_000
    max_instances: int = 50_000
    max_spans: int = 50_000
    """Spans held back until their parent or child shows up."""


@dataclass(frozen=True)
class Sightings:
    """What one builder has seen by when, for another to `learn`."""

    services: Mapping[str, int]
    edges: Mapping[Call, int]
    kinds: Mapping[tuple[str, str], int]
    rests_on: Mapping[tuple[str, str, str], int]  # (service, what it rests on, host or volume)
    instances: Mapping[tuple[str, str, str], int]  # (service, instance, the host that it runs on or "")


class GraphBuilder:
    """`step(batch)` gives the graph as of now. Deterministic; event time alone.

    Cost: about 1.5 us a span, some us per series of a batch. Fails where a service has one name in its own telemetry and
    another in its callers', and no span of it answers one of theirs.
    """

    def __init__(self, config: GraphConfig | None = None) -> None:
        self._c = config or GraphConfig()
        self._services: LastSeen[str] = LastSeen(self._c.max_services)
        self._edges: LastSeen[Call] = LastSeen(self._c.max_edges)
        self._kinds: LastSeen[tuple[str, str]] = LastSeen(self._c.max_services)
        self._rests: LastSeen[tuple[str, str, str]] = LastSeen(self._c.max_edges)  # as somebody else told it
        self._names: LastSeen[Call] = LastSeen(self._c.max_services)  # (called by this name, service)
        self._placements = Placements(self._c.max_instances)
        self._join = SpanJoin(self._c.max_spans)
        self._now_ns = self._tidied_ns = self._far = 0
        self._graph: ServiceGraph | None = None
        self._stored: tuple[ServiceGraph | None, int] = (None, 0)  # what `changed` gave last, and when
        self._alias: dict[str, str] = {}
        self._waits: tuple[CallWait, ...] = ()
        self._of_pods: dict[int, SeriesKey] = {}

    def step(self, batch: Batch) -> ServiceGraph:
        """Take in what a batch shows."""
        self._advance(batch)
        now = self._now_ns
        self._waits = ()
        self._placements.step(batch, now)
        if len(batch.logs):
            vocab = batch.logs.vocab
            self._services.see((vocab[n] for n in np.unique(batch.logs.service).tolist() if n >= 0), now)
        if len(batch.traces):
            self._traces(batch.traces, now)
        self._metrics(batch, now)
        return self._settled()

    def learn(self, services: Iterable[str], edges: Iterable[Call], seen_ns: int, *,
              kinds: Iterable[tuple[str, str]] = (), rests_on: Iterable[tuple[str, str, str]] = (),
              instances: Iterable[tuple[str, str, str]] = ()) -> ServiceGraph:
        """Take in what another builder has seen by then."""
        self._now_ns = max(self._now_ns, seen_ns)
        self._services.see_by(services, seen_ns)
        self._edges.see_by(edges, seen_ns)
        self._kinds.see_by(kinds, seen_ns)
        self._rests.see_by(rests_on, seen_ns)
        self._placements.learn(instances, seen_ns)
        return self._settled()

    def sightings(self) -> Sightings:
        """For another builder to `learn`."""
        return Sightings(self._services.at, self._edges.at, self._kinds.at, self._placements.rests_on(self._services),
                         self._placements.seen(self._services))

    def graph(self) -> ServiceGraph:
        """As of the last step, or of the snapshot that was restored."""
        if self._graph is None:
            self._graph = self._build()
        return self._graph

    def resolved(self, batch: Batch) -> Batch:
        """The batch of the last step as detection gets it: whom its spans call goes by the names that the called services
        have themselves, so far as they are known, what calls waited for on the way is added, and rows that are 1 whatever
        happens (`FACTS`) are left out, as nothing in them is to be judged. What others tell of a pod goes by its service."""
        if self._waits:
            batch = replace(batch, waits=self._waits)
        if self._of_pods:
            batch = replace(batch, metrics=with_keys(batch.metrics, self._of_pods))
        if any(key.name in FACTS for key in batch.metrics.series_table):
            batch = replace(batch, metrics=without_facts(batch.metrics))
        traces = batch.traces
        others = [(n, self._alias[name]) for n, name in enumerate(traces.vocab) if name in self._alias] if len(traces) else []
        if not others:
            return batch
        vocab = list(traces.vocab)
        number = {name: n for n, name in enumerate(vocab)}
        to = np.arange(-1, len(vocab), dtype=np.int32)  # [-1, 0, 1, ...] so that to[peer + 1] is peer
        for n, service in others:
            if service not in number:
                number[service] = len(vocab)
                vocab.append(service)
            to[n + 1] = number[service]
        peer = to[traces.peer + 1]
        peer = np.where(peer == traces.service, np.int32(-1), peer)
        return replace(batch, traces=replace(traces, peer=peer, vocab=tuple(vocab)))

    def _advance(self, batch: Batch) -> None:
        """Move event time on. A broken clock must not make everything look an hour old: rows more than five minutes
        ahead do not move it, unless twenty in a row are."""
        times = np.concatenate([batch.metrics.ts_ns, batch.logs.ts_ns, batch.traces.ts_ns])
        if not len(times):
            return
        near = times[times <= (self._now_ns or int(np.median(times))) + _SKEW_NS]
        if len(near):
            self._far = 0
            self._now_ns = max(self._now_ns, int(near.max()))
            return
        self._far += len(times)
        if self._far >= _ENOUGH:
            self._far = 0
            self._now_ns = int(np.median(times))

    def _metrics(self, batch: Batch, now: int) -> None:
        table = batch.metrics.series_table
        self._of_pods = of_pods(batch.metrics, self._placements, self._services.at, self._edges.at)
        # Who tells of Kubernetes' objects is no part of what it tells of.
        others = {key.service for at, key in enumerate(table) if key.name not in FACTS and at not in self._of_pods}
        self._services.see(others, now)
        calls = [key for key in table if key.peer and key.peer != key.service]
        self._edges.see({(key.service, key.peer) for key in calls}, now)
        self._kinds.see({(key.peer, _CONNECTIONS[of]) for key in calls if key.name.startswith(_SERVICE_GRAPH)
                         for name, of in key.labels if name == "connection_type" and of in _CONNECTIONS}, now)

    def _traces(self, traces: TraceBatch, now: int) -> None:
        vocab = traces.vocab
        width, most = len(PEER_KINDS), len(vocab) + 1
        rows = (traces.service.astype(np.int64) * most + traces.peer + 1) * width + traces.peer_kind
        services, edges, kinds = set(), set(), set()
        for row in np.unique(rows).tolist():
            pair, of = divmod(row, width)
            service, peer = pair // most, pair % most - 1
            if service < 0:
                continue
            services.add(vocab[service])
            if peer >= 0 and peer != service:
                edges.add((vocab[service], vocab[peer]))
                if of:
                    kinds.add((vocab[peer], PEER_KINDS[of]))
        joined = self._join.step(traces)
        self._services.see(services, now)
        self._edges.see(edges | joined.calls, now)
        self._kinds.see(kinds, now)
        self._names.see(joined.names, now)
        waited = {**joined.waits, **{(service, ""): own for service, own in joined.own.items()}}
        self._waits = tuple(CallWait(ts_ns, caller, callee, micros / 1e6, calls)
                            for (caller, callee), (ts_ns, micros, calls) in sorted(waited.items()))

    def _settled(self) -> ServiceGraph:
        if abs(self._now_ns - self._tidied_ns) >= _TIDY_NS or any(table.is_full for table in self._tables()):
            self._tidied_ns = self._now_ns
            limit = self._now_ns - int(self._c.forget_seconds * 1e9)
            for table in self._tables():
                table.forget(limit)
            self._placements.forget(self._now_ns - int(self._c.forget_instance_seconds * 1e9))
        changed = [self._placements.settle(), *(table.settle() for table in self._tables())]
        if self._graph is None or any(changed):
            self._graph = self._build()
        return self._graph

    def _tables(self) -> tuple[LastSeen[Any], ...]:
        return self._services, self._edges, self._kinds, self._rests, self._names

    def _build(self) -> ServiceGraph:
        self._alias = self._aliases()
        alias = self._alias.get
        seen = {(alias(a, a), alias(b, b)) for a, b in self._edges.at}
        edges = frozenset(edge for edge in seen if edge[0] != edge[1]) | frozenset(self._c.edges)
        names = set(self._services.at) | {s for edge in edges for s in edge}
        rests_on = set(self._c.rests_on)
        kinds: dict[str, str] = {}
        for service, thing, kind in (*self._placements.rests_on(names), *self._rests.at):
            if service in names and thing not in names:
                rests_on.add((service, thing))
                kinds[thing] = kind
        for name, kind in sorted(self._kinds.at, key=lambda pair: -_KIND_ORDER.index(pair[1])):
            if name not in names or name in self._alias:
                continue
            if kind not in ("address", "external"):
                kinds[name] = kind
            elif name not in self._services:  # it is called, and tells nothing itself
                kinds[name] = "external"
        for _, thing in self._c.rests_on:
            kinds.setdefault(thing, HOST)
        kinds.update(self._c.kinds)
        names |= {service for service, _ in self._c.rests_on}
        names |= {name for name, kind in self._c.kinds.items() if kind not in (HOST, VOLUME)}
        services = sorted(name for name in names if kinds.get(name) not in (HOST, VOLUME))
        return ServiceGraph(tuple(services), edges, frozenset(self._c.external), kinds, frozenset(rests_on),
                            self._placements.instances(names))

    def _aliases(self) -> dict[str, str]:
        """Name by which somebody is called -> the service it is. Not where the name has telemetry of its own, or
        services of several names answer to it (a gateway)."""
        found: dict[str, set[str]] = {}
        for name, service in self._names.at:
            found.setdefault(name, set()).add(service)
        alias = {name: next(iter(services)) for name, services in found.items() if len(services) == 1}
        for name in {callee for _, callee in self._edges.at} - alias.keys() - found.keys():
            service = self._placements.service_of(name)
            if not service and name.endswith(_CLUSTER):
                first = name.partition(".")[0]
                service = self._placements.service_of(first) or first
            if service in self._services:
                alias[name] = service
        return {name: service for name, service in alias.items() if name not in self._services and name != service}

    def snapshot(self) -> bytes:
        # Spans that wait for their parent are not kept: a restart loses an edge until it is seen again.
        return msgspec.msgpack.encode({
            "services": self._services.at, "now": self._now_ns, "tidied": self._tidied_ns, "far": self._far,
            "placements": self._placements.dump(),
            **{name: [[*key, seen] for key, seen in table.at.items()] for name, table in self._pairs().items()}})

    def changed(self) -> bytes | None:
        """The snapshot, where it is to be stored: something came or went since this gave it last, or that is 30 s of event
        time ago. Else None: a start from the stored one has the same graph, and takes things for seen up to 30 s earlier
        than they were."""
        graph, at_ns = self._stored
        if graph is not None and graph is self._graph and abs(self._now_ns - at_ns) < _STORE_NS:
            return None
        self._stored = (self._graph, self._now_ns)
        return self.snapshot()

    def restore(self, data: bytes) -> None:
        """Go on from `snapshot`, also from one that knew edges and services alone."""
        state = msgspec.msgpack.decode(data)
        self._services.at, self._now_ns = state["services"], state["now"]
        self._tidied_ns, self._far = state.get("tidied", 0), state.get("far", 0)
        for name, table in self._pairs().items():
            table.at = {tuple(key): seen for *key, seen in state.get(name, ())}
        self._placements.load(state.get("placements", {}))
        self._graph, self._stored = None, (None, 0)

    def _pairs(self) -> dict[str, LastSeen[Any]]:
        return {"edges": self._edges, "kinds": self._kinds, "rests_on": self._rests, "names": self._names}


def graph_hash(graph: ServiceGraph) -> str:
    """Equal graphs, equal hash; 12 hexadecimal digits. Instances, which come and go with every roll-out, are left out."""
    body = msgspec.json.encode([graph.services, sorted(graph.edges), sorted(graph.kinds.items()), sorted(graph.rests_on),
                                sorted(graph.external)])
    return hashlib.sha256(body).hexdigest()[:12]
