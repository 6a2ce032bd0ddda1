"""Where services stand: callers left, nothing on top of another, cycles and loners included."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opsmend.dashboard.layout import place
from rootcause.types import ServiceGraph

NAMES = st.sampled_from("abcdefghij")


def test_callers_stand_left_of_what_they_call() -> None:
    edges = {("front", "orders"), ("orders", "payments"), ("front", "search"), ("search", "db"), ("payments", "db")}
    placed = place(ServiceGraph(("db", "front", "orders", "payments", "search"), frozenset(edges)), {"db": "critical"})
    x = {n["name"]: n["x"] for n in placed["nodes"]}
    assert all(x[a] < x[b] for a, b in edges)
    assert {n["name"]: n["state"] for n in placed["nodes"]}["db"] == "critical"


def test_external_services_are_marked_and_loners_are_there() -> None:
    graph = ServiceGraph(("a", "b", "bank", "lonely"), frozenset({("a", "b"), ("b", "bank")}), frozenset({"bank"}))
    nodes = {n["name"]: n for n in place(graph, {"a": "critical"})["nodes"]}
    assert set(nodes) == {"a", "b", "bank", "lonely"} and nodes["lonely"]["state"] == "unknown"
    assert [n for n, node in nodes.items() if node["is_external"]] == ["bank"]


def test_lines_do_not_cross_without_need() -> None:
    placed = place(ServiceGraph(tuple("abcdef"), frozenset({("a", "f"), ("b", "e"), ("c", "d")})), {})
    y = {n["name"]: n["y"] for n in placed["nodes"]}
    assert y["a"] == y["f"] and y["b"] == y["e"] and y["c"] == y["d"]


@given(st.sets(st.tuples(NAMES, NAMES), max_size=20), st.sets(NAMES, min_size=1))
def test_any_graph_is_placed_inside_and_apart(edges: set[tuple[str, str]], names: set[str]) -> None:
    placed = place(ServiceGraph(tuple(sorted(names)), frozenset(edges)), {})
    spots = [(n["x"], n["y"]) for n in placed["nodes"]]
    assert sorted(n["name"] for n in placed["nodes"]) == sorted(names)
    assert len(set(spots)) == len(spots), "two services on one spot"
    assert all(0 < x < placed["width"] and 0 < y < placed["height"] for x, y in spots)
    assert all(line["a"] in names and line["b"] in names for line in placed["lines"])


@pytest.mark.parametrize("graph", [ServiceGraph((), frozenset()), ServiceGraph(("a",), frozenset({("a", "a")}))])
def test_small_graphs(graph: ServiceGraph) -> None:
    assert len(place(graph, {})["nodes"]) == len(graph.services)
