"""The service graph on paper: callers left of callees, nobody on top of another, whatever the calls are."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from opsmend.dashboard.layout import place
from rootcause.types import ServiceGraph

NAMES = [f"s{n}" for n in range(12)]


def test_callers_stand_left_of_their_callees() -> None:
    graph = ServiceGraph(("cart", "front", "orders", "redis"), frozenset({
        ("front", "orders"), ("orders", "cart"), ("cart", "redis")}))
    x = {n["name"]: n["x"] for n in place(graph, {})["nodes"]}
    assert x["front"] < x["orders"] < x["cart"] < x["redis"]


def test_a_service_without_calls_is_there_too_and_external_ones_are_marked() -> None:
    graph = ServiceGraph(("a", "b", "bank", "lonely"), frozenset({("a", "b"), ("b", "bank")}), frozenset({"bank"}))
    nodes = {n["name"]: n for n in place(graph, {"a": "critical"})["nodes"]}
    assert set(nodes) == {"a", "b", "bank", "lonely"}
    assert nodes["a"]["state"] == "critical"
    assert nodes["lonely"]["state"] == "unknown"
    assert [n for n, node in nodes.items() if node["is_external"]] == ["bank"]


@settings(max_examples=150, deadline=None)
@given(st.sets(st.tuples(st.sampled_from(NAMES), st.sampled_from(NAMES)), max_size=30))
def test_any_graph_cycles_included_is_placed_without_overlap(edges: set[tuple[str, str]]) -> None:
    graph = ServiceGraph(tuple(NAMES), frozenset(edges))
    drawn = place(graph, {})
    spots = [(n["x"], n["y"]) for n in drawn["nodes"]]
    assert len(spots) == len(set(spots)) == len(NAMES)
    assert all(0 <= x <= drawn["width"] and 0 <= y <= drawn["height"] for x, y in spots)
    assert {(line["a"], line["b"]) for line in drawn["lines"]} == {(a, b) for a, b in edges if a != b}


def test_nothing_to_draw_is_no_error() -> None:
    assert place(ServiceGraph((), frozenset()), {})["nodes"] == []
