"""The service graph: directed; from spans, from labels, from the configuration; bounded and forgetful."""

from __future__ import annotations

import json

import pytest

from ingest.decode import Decoder, DecoderConfig
from ingest.types import Batch, Record
from rootcause.graph import GraphBuilder, GraphConfig, graph_hash
from rootcause.types import ServiceGraph

S = 10**9
T0 = 1_700_000_000


def batch(rows: list[dict[str, object]]) -> Batch:
    body = "\n".join(json.dumps(row) for row in rows).encode()
    return Decoder(DecoderConfig()).decode([Record("telemetry", 0, 0, 0, body)])


def span(service: str, span_id: str, parent: str = "", at: int = T0, peer: str = "") -> dict[str, object]:
    return {"type": "span", "ts": at * S, "service": service, "span_id": span_id, "parent_id": parent, "peer": peer,
            "duration_us": 1000, "trace_id": "t"}


def metric(service: str, peer: str = "", at: int = T0) -> dict[str, object]:
    return {"type": "metric", "ts": at * S, "service": service, "name": "client.error_ratio", "value": 0.0, "peer": peer}


def test_metric_with_a_peer_is_a_call_in_one_direction() -> None:
    graph = GraphBuilder().step(batch([metric("orders", "payments")]))
    assert graph.edges == {("orders", "payments")}
    assert graph.callees("orders") == ("payments",)
    assert graph.callers("payments") == ("orders",)
    assert graph.callees("payments") == ()


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_parent_and_child_span_in_either_order(order: tuple[int, int]) -> None:
    spans = [span("orders", "a"), span("payments", "b", parent="a")]
    builder = GraphBuilder()
    for n in order:
        graph = builder.step(batch([spans[n]]))
    assert graph.edges == {("orders", "payments")}


def test_client_span_names_its_peer() -> None:
    assert GraphBuilder().step(batch([span("orders", "a", peer="bank")])).edges == {("orders", "bank")}


def test_spans_within_a_service_are_no_call() -> None:
    graph = GraphBuilder().step(batch([span("orders", "a"), span("orders", "b", parent="a", peer="orders")]))
    assert graph.edges == frozenset()
    assert graph.services == ("orders",)


def test_configured_edges_and_external_services_hold_without_telemetry() -> None:
    config = GraphConfig(edges=(("checkout", "payments"),), external=("bank",))
    graph = GraphBuilder(config).step(batch([metric("web")]))
    assert ("checkout", "payments") in graph.edges
    assert set(graph.services) == {"checkout", "payments", "web"}
    assert graph.external == {"bank"}


def test_edges_are_forgotten_after_a_while() -> None:
    builder = GraphBuilder(GraphConfig(forget_seconds=60))
    builder.step(batch([metric("a", "b")]))
    graph = builder.step(batch([metric("c", "d", at=T0 + 61)]))
    assert graph.edges == {("c", "d")}
    assert graph.services == ("c",) or graph.services == ("c", "d")


def test_number_of_edges_is_bounded() -> None:
    builder = GraphBuilder(GraphConfig(max_edges=5))
    graph = builder.step(batch([metric("hub", f"s{n}") for n in range(20)]))
    assert len(graph.edges) == 5


def test_restored_builder_goes_on_with_the_same_graph() -> None:
    one = GraphBuilder()
    before = one.step(batch([metric("a", "b"), span("a", "x"), span("c", "y", parent="x")]))
    other = GraphBuilder()
    other.restore(one.snapshot())
    after = other.step(batch([metric("a", "b")]))
    assert after == before
    assert graph_hash(after) == graph_hash(before)


def test_hash_tells_direction_apart() -> None:
    assert graph_hash(ServiceGraph(("a", "b"), frozenset({("a", "b")}))) != graph_hash(
        ServiceGraph(("a", "b"), frozenset({("b", "a")})))
