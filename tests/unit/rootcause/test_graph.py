"""The service graph: directed; from spans, from labels, from the configuration; bounded and forgetful."""

from __future__ import annotations

import json

import msgspec
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


def test_a_span_says_what_it_calls_and_a_called_address_without_telemetry_is_external() -> None:
    called = {"sessions": "cache", "pg-1": "database", "api.bank.com": "address", "orders": "address"}
    rows = [span("cart", peer, peer=peer) | {"peer_kind": kind} for peer, kind in called.items()]
    builder = GraphBuilder()
    graph = builder.step(batch([*rows, metric("orders")]))
    assert graph.kinds == {"sessions": "cache", "pg-1": "database", "api.bank.com": "external"}
    assert [graph.kind_of(s) for s in ("cart", "orders")] == ["service", "service"]
    assert graph.external == frozenset(), "opsmend decides by the configuration alone what is not its to repair"
    told = builder.step(batch([metric("api.bank.com")]))
    assert told.kind_of("api.bank.com") == "service" and told.kind_of("pg-1") == "database"
    assert graph_hash(told) != graph_hash(graph)


def placed(service: str, instance: str, host: str, at: int = T0) -> dict[str, object]:
    return span(service, f"{instance}{at}", at=at) | {"instance": instance, "host": host}


def test_services_rest_on_machines_and_move() -> None:
    builder = GraphBuilder(GraphConfig(forget_instance_seconds=60))
    graph = builder.step(batch([placed("cart", "cart-1", "node-1"), placed("cart", "cart-2", "node-2"),
                                placed("orders", "orders-1", "node-1")]))
    assert graph.rests_on == {("cart", "node-1"), ("cart", "node-2"), ("orders", "node-1")}
    assert graph.kind_of("node-1") == "host" and "node-1" not in graph.services and not graph.edges
    assert graph.instances == {"cart": {"cart-1": "node-1", "cart-2": "node-2"}, "orders": {"orders-1": "node-1"}}
    before = graph_hash(graph)
    graph = builder.step(batch([placed("cart", "cart-2", "node-3", at=T0 + 5)]))  # it was moved
    assert ("cart", "node-3") in graph.rests_on and ("cart", "node-2") not in graph.rests_on
    assert graph_hash(graph) != before
    graph = builder.step(batch([placed("cart", "cart-3", "node-3", at=T0 + 64)]))  # others took over
    assert graph.instances["cart"] == {"cart-2": "node-3", "cart-3": "node-3"} and graph.rests_on == {("cart", "node-3")}


def test_an_instance_that_was_replaced_on_the_same_machine_is_the_same_version_of_the_graph() -> None:
    one = GraphBuilder().step(batch([placed("cart", "cart-7d4-x2", "node-1")]))
    two = GraphBuilder().step(batch([placed("cart", "cart-9f1-k7", "node-1")]))
    assert one.instances != two.instances and graph_hash(one) == graph_hash(two)


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_who_answers_is_the_service_that_was_called_under_another_name(order: tuple[int, int]) -> None:
    rows = [span("web", "a", peer="10.0.0.7") | {"kind": 3, "peer_kind": "address"},
            span("orders", "b", parent="a") | {"kind": 2}]
    builder = GraphBuilder()
    for n in order:
        graph = builder.step(batch([rows[n]]))
    assert graph.edges == {("web", "orders")} and graph.services == ("orders", "web") and not graph.kinds
    later = builder.resolved(batch([rows[0]]))
    assert later.traces.vocab[later.traces.peer[0]] == "orders"
    other = GraphBuilder()
    other.restore(builder.snapshot())
    assert other.graph() == graph


def test_a_gateway_behind_which_several_answer_stays_itself() -> None:
    rows = [span("web", f"{s}1", peer="lb") | {"kind": 3, "peer_kind": "address"} for s in ("orders", "cart")]
    rows += [span(s, f"{s}2", parent=f"{s}1") | {"kind": 2} for s in ("orders", "cart")]
    assert GraphBuilder().step(batch(rows)).edges == {("web", "lb"), ("web", "orders"), ("web", "cart")}


@pytest.mark.parametrize("name", ["orders-1", "orders-1:8080", "orders-1.orders-headless", "orders.shop.svc.cluster.local"])
def test_an_instance_and_a_cluster_name_are_their_service(name: str) -> None:
    rows = [placed("orders", "orders-1", "node-1"), span("web", "a", peer=name) | {"peer_kind": "address"}]
    graph = GraphBuilder().step(batch(rows))
    assert graph.edges == {("web", "orders")} and graph.services == ("orders", "web")


def test_a_broken_clock_does_not_make_the_graph_old() -> None:
    builder = GraphBuilder()
    builder.step(batch([metric("a", "b")]))
    graph = builder.step(batch([metric("a", "b"), metric("c", "d", at=T0 + 10**7)]))
    assert graph.edges == {("a", "b"), ("c", "d")}
    graph = builder.step(batch([metric("e", "f", at=T0 + 10**7)] * 20))  # and time may jump
    assert graph.edges == {("e", "f")}


def test_every_table_is_bounded_and_the_newest_stay() -> None:
    builder = GraphBuilder(GraphConfig(max_edges=10, max_services=10, max_instances=10, max_spans=10))
    for n in range(50):
        graph = builder.step(batch([
            placed(f"s{n}", f"s{n}-1", f"node-{n}", at=T0 + n), span(f"s{n}", f"y{n}", parent=f"lost{n}", at=T0 + n),
            span(f"s{n}", f"x{n}", peer=f"db{n}", at=T0 + n) | {"peer_kind": "database"}]))
    assert len(graph.edges) <= 10 and len(graph.rests_on) <= 10 and len(graph.kinds) <= 20 and len(graph.services) <= 30
    assert ("s49", "db49") in graph.edges and graph.kind_of("db49") == "database" and ("s49", "node-49") in graph.rests_on
    assert len(builder.snapshot()) < 5_000


def test_another_builder_learns_kinds_and_machines() -> None:
    one, other = GraphBuilder(), GraphBuilder()
    graph = one.step(batch([placed("cart", "cart-1", "node-1"), span("cart", "b", peer="pg") | {"peer_kind": "database"}]))
    seen = one.sightings()
    told = other.learn(seen.services, seen.edges, T0 * S, kinds=seen.kinds, rests_on=seen.rests_on, instances=seen.instances)
    assert graph_hash(told) == graph_hash(graph) and told == graph
    assert told.instances == {"cart": {"cart-1": "node-1"}}
    moved = other.learn((), (), (T0 + 5) * S, instances=[("cart", "cart-1", "node-2")])
    assert moved.instances["cart"] == {"cart-1": "node-2"}
    late = other.learn((), (), (T0 + 1) * S, instances=[("cart", "cart-1", "node-1"), ("cart", "cart-2", "")])
    assert late.instances["cart"] == {"cart-1": "node-2", "cart-2": ""}, "who comes late does not move it back"


def test_a_snapshot_of_edges_and_services_alone_is_read() -> None:
    builder = GraphBuilder()
    builder.restore(msgspec.msgpack.encode({"edges": [["a", "b", T0 * S]], "services": {"a": T0 * S}, "now": T0 * S}))
    assert builder.graph().edges == {("a", "b")}


@pytest.mark.parametrize("other", [
    ServiceGraph(("a",), frozenset(), kinds={"a": "database"}),
    ServiceGraph(("a",), frozenset(), rests_on=frozenset({("a", "n")})),
    ServiceGraph(("a",), frozenset(), frozenset({"a"}))])
def test_hash_covers_kinds_places_and_what_is_not_ours(other: ServiceGraph) -> None:
    assert graph_hash(other) != graph_hash(ServiceGraph(("a",), frozenset()))


def test_what_is_configured_holds_whatever_telemetry_says() -> None:
    config = GraphConfig(edges=(("cart", "pg-1"),), kinds={"pg-1": "database", "node-9": "host", "disk": "volume"},
                         rests_on=(("pg-1", "node-8"), ("pg-1", "disk")))
    rows = [metric("cart"), span("web", "a", peer="pg-1") | {"peer_kind": "cache"}]
    graph = GraphBuilder(config).step(batch(rows))
    assert set(graph.services) == {"cart", "pg-1", "web"} and graph.edges == {("cart", "pg-1"), ("web", "pg-1")}
    assert graph.rests_on == {("pg-1", "node-8"), ("pg-1", "disk")}
    assert {n: graph.kind_of(n) for n in ("pg-1", "node-8", "node-9", "disk")} == {
        "pg-1": "database", "node-8": "host", "node-9": "host", "disk": "volume"}
    later = GraphBuilder(config).step(batch([metric("x", at=T0 + 10**6)]))
    assert later.rests_on == graph.rests_on and ("cart", "pg-1") in later.edges, "and it does not age"
