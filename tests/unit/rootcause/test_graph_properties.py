"""What holds of the service graph whatever telemetry says: bounded, forgetful, the same in any order and after a restart."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ingest.decode import Decoder
from ingest.types import Batch, Record
from rootcause.graph import GraphBuilder, GraphConfig, graph_hash
from rootcause.last_seen import MOST_LETTERS

S, T0 = 10**9, 1_700_000_000
SMALL = GraphConfig(max_edges=12, max_services=8, max_instances=10, max_spans=20)
EVIL = ("<script>alert(1)</script>", "\x00\x1b[31m", '"><img src=x>', "\u202egnp", "../../etc/passwd", "a" * 2000, "\U0001f4a5")
NAMES = st.one_of(st.sampled_from(("web", "cart", "pg", "node-1", "10.0.0.7")), st.text(min_size=1, max_size=8),
                  st.sampled_from(EVIL))
ROWS = st.lists(st.fixed_dictionaries({
    "type": st.just("span"), "ts": st.integers(0, 200).map(lambda s: (T0 + s) * S), "service": NAMES, "peer": NAMES,
    "instance": NAMES, "host": NAMES, "span_id": st.sampled_from("abcdef"), "parent_id": st.sampled_from(("", "a", "b", "z")),
    "kind": st.integers(0, 5), "peer_kind": st.sampled_from(("", "service", "database", "cache", "queue", "address")),
    "duration_us": st.integers(0, 10**6), "trace_id": st.just("t")}), max_size=40)
FAST = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def batch(rows: Sequence[dict[str, Any]]) -> Batch:
    return Decoder().decode([Record("telemetry", 0, 0, 0, "\n".join(map(json.dumps, rows)).encode())])


@FAST
@given(st.lists(ROWS, max_size=6))
def test_it_is_bounded_and_a_builder_that_restarted_goes_on_with_the_same_graph(batches: list[list[dict[str, Any]]]) -> None:
    builder = GraphBuilder(SMALL)
    for rows in batches:
        graph = builder.step(batch(rows))
        assert len(graph.edges) <= 12 and len(graph.services) <= 8 + 2 * 12 and len(graph.rests_on) <= 10
        assert sum(map(len, graph.instances.values())) <= 10 and len(graph.kinds) <= 8 + 10
        assert {s for edge in graph.edges for s in edge} <= set(graph.services), "every end is a service"
        assert not {thing for _, thing in graph.rests_on} & set(graph.services), "what they rest on is none"
        assert all(a != b for a, b in graph.edges)
        assert all(len(name) <= MOST_LETTERS for name in graph.services)
        other = GraphBuilder(SMALL)
        other.restore(builder.snapshot())
        assert other.graph() == graph and graph_hash(other.graph()) == graph_hash(graph)


@FAST
@given(ROWS, st.randoms(use_true_random=False))
def test_neither_the_order_of_rows_nor_how_they_are_cut_into_batches_changes_it(rows: list[dict[str, Any]],
                                                                                 chance: random.Random) -> None:
    rows = [row | {"ts": T0 * S, "instance": "", "host": ""} for row in rows]  # an instance is in the place it named last
    rows = [row | {"span_id": f"{n}{row['span_id']}"} for n, row in enumerate(rows)]
    whole = GraphBuilder().step(batch(rows)) if rows else GraphBuilder().graph()
    shuffled, builder = chance.sample(rows, len(rows)), GraphBuilder()
    for row in shuffled:
        builder.step(batch([row]))
    assert builder.graph() == whole and graph_hash(builder.graph()) == graph_hash(whole)


@FAST
@given(ROWS)
def test_what_is_not_seen_again_is_forgotten(rows: list[dict[str, Any]]) -> None:
    builder = GraphBuilder()
    if rows:
        builder.step(batch(rows))
    late = {"type": "metric", "service": "late", "name": "process.up", "value": 1.0}
    for k in range(0, 4200, 200):
        graph = builder.step(batch([late | {"ts": (T0 + 200 + k) * S}]))
    assert graph.services == ("late",) and not graph.edges and not graph.rests_on and not graph.instances and not graph.kinds


def test_a_flood_of_names_that_somebody_made_up_stays_bounded() -> None:
    """100,000 services, each seen once, and as many children of one parent that never comes."""
    builder = GraphBuilder(GraphConfig(max_edges=2000, max_services=2000, max_instances=3000, max_spans=3000))
    for k in range(20):
        rows = [{"type": "span", "ts": (T0 + k) * S, "service": f"{EVIL[n % 7]}{k}-{n}", "span_id": f"{k}-{n}",
                 "peer": f"p{k}-{n}", "parent_id": "never", "instance": f"i{k}-{n}", "host": f"h{k}-{n}", "kind": 3,
                 "duration_us": 5, "trace_id": "t"} for n in range(5000)]
        graph = builder.step(batch(rows))
    assert len(graph.services) <= 6000 and len(graph.edges) <= 2000 and len(graph.rests_on) <= 3000
    assert all("19-" in name for name in graph.services), "the newest stay"
    assert not any(len(name) > MOST_LETTERS for name in graph.services)
    assert len(builder.snapshot()) < 2_000_000
    join = builder._join
    assert sum(len(children) for table in (join._orphans, join._old_orphans) for children in table.values()) <= 3001
