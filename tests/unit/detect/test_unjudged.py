"""From spans and lines to what root cause alone looks at: fan-out, mixes, time on the way, instances one by one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from detect.stage import Detection, DetectionConfig
from detect.types import Incident, Observations
from ingest.decode import Decoder
from ingest.types import Record
from opsmend.pipeline import Pipeline, PipelineConfig
from rootcause.graph import GraphBuilder, graph_hash
from rootcause.types import Diagnosis, ServiceGraph
from rootcause.window import case_window

T0 = 1_790_000_000
SECONDS = 600
FAULT = 480


def requests(t: int) -> Iterator[dict[str, Any]]:
    """Five requests a second: web calls cart, cart calls its cache twice; from FAULT on cart gives up early on one of its
    two instances, and the network between web and cart is slow."""
    for i in range(5):
        at, bad = (T0 + t) * 10**9 + i * 10**8, t >= FAULT
        broken = bad and i % 2 == 0
        common = {"type": "span", "ts": at, "trace_id": "t"}
        yield common | {"service": "web", "kind": 2, "span_id": f"w{t}.{i}", "name": "GET /", "duration_us": 30_000}
        yield common | {"service": "web", "kind": 3, "span_id": f"c{t}.{i}", "parent_id": f"w{t}.{i}", "peer": "10.0.0.7",
                        "peer_kind": "address", "name": "GET", "duration_us": 12_000 + 40_000 * bad}
        yield common | {"service": "cart", "kind": 2, "span_id": f"s{t}.{i}", "parent_id": f"c{t}.{i}", "name": "GET /cart",
                        "duration_us": 9_000, "instance": f"cart-{i % 2}", "error": broken, "host": f"node-{i % 2}"}
        for n in range(0 if broken else 2):
            yield common | {"service": "cart", "kind": 3, "span_id": f"r{t}.{i}.{n}", "parent_id": f"s{t}.{i}", "peer": "redis",
                            "peer_kind": "cache", "name": "HGET", "duration_us": 800, "instance": f"cart-{i % 2}"}
        yield {"type": "log", "ts": at, "service": "cart", "instance": f"cart-{i % 2}",
               "level": "error" if broken else "info", "message": "no such key" if broken else "cart loaded"}


@pytest.fixture(scope="module")
def shown() -> tuple[ServiceGraph, Observations]:
    decoder, builder = Decoder(), GraphBuilder()
    detection = Detection(DetectionConfig(bucket_seconds=10.0, allowed_lateness_seconds=5.0))
    rows: dict[Any, list[float]] = {}
    times: list[int] = []
    for t in range(0, SECONDS, 5):
        body = "\n".join(json.dumps(row) for s in range(t, t + 5) for row in requests(s)).encode()
        batch = decoder.decode([Record("telemetry", 0, t, T0 * 1000, body)])
        assert not batch.dead_letters
        graph = builder.step(batch)
        seen = detection.step(builder.resolved(batch), calls=graph.edges).observations
        for i, ts_ns in enumerate(seen.ts_ns.tolist()):
            times.append(ts_ns)
            for key, value in zip(seen.series, seen.values[i].tolist(), strict=True):
                column = rows.setdefault(key, [])
                column += [np.nan] * (len(times) - 1 - len(column)) + [value]
    table = np.array([column + [np.nan] * (len(times) - len(column)) for column in rows.values()]).T
    return graph, Observations(np.array(times), tuple(rows), table)


def column(seen: Observations, service: str, name: str, *, peer: str = "", instance: str = "") -> tuple[float, float]:
    """Medians before the fault and of its last minute."""
    at = [n for n, k in enumerate(seen.series) if (k.service, k.name, k.peer, k.instance) == (service, name, peer, instance)]
    assert len(at) == 1, (service, name, sorted({k.name for k in seen.series}))
    seconds = seen.ts_ns / 1e9 - T0
    before = seen.values[(seconds >= 300) & (seconds < FAULT), at[0]]
    return float(np.nanmedian(before)), float(np.nanmedian(seen.values[seconds >= SECONDS - 60, at[0]]))


def test_a_service_that_gives_up_early_makes_fewer_spans_per_request(shown: tuple[ServiceGraph, Observations]) -> None:
    before, now = column(shown[1], "cart", "span.fan_out")
    assert before == pytest.approx(2.0) and now == pytest.approx(0.8, abs=0.1)
    before, now = column(shown[1], "cart", "span.mix")
    assert before < 0.2 and now > 1.0
    before, now = column(shown[1], "web", "span.mix")
    assert before < 0.2 and now < 0.2


def test_its_lines_are_others(shown: tuple[ServiceGraph, Observations]) -> None:
    before, now = column(shown[1], "cart", "log.template_mix")
    assert before < 0.2 and now > 1.5


def test_time_on_the_way_goes_by_the_names_of_the_graph(shown: tuple[ServiceGraph, Observations]) -> None:
    graph, seen = shown
    assert graph.edges == {("web", "cart"), ("cart", "redis")} and graph.kinds["redis"] == "cache"
    before, now = column(seen, "web", "client.network_seconds", peer="cart")
    assert before == pytest.approx(0.003) and now == pytest.approx(0.043)


def test_own_work_is_what_no_child_covers_and_parallel_children_count_once(shown: tuple[ServiceGraph, Observations]) -> None:
    before, now = column(shown[1], "web", "span.self_seconds")
    assert before == pytest.approx(0.018) and now == pytest.approx(0.0), "it waits for all of its time"
    before, now = column(shown[1], "cart", "span.self_seconds")
    assert before == pytest.approx(0.0082) and now == pytest.approx(0.0087, abs=2e-4), "the broken ones ask nobody"


def test_instances_are_shown_one_by_one(shown: tuple[ServiceGraph, Observations]) -> None:
    assert column(shown[1], "cart", "instance.error_ratio", instance="cart-0") == (0.0, 1.0)
    assert column(shown[1], "cart", "instance.error_ratio", instance="cart-1") == (0.0, 0.0)
    assert column(shown[1], "cart", "instance.error_lines_per_second", instance="cart-0") == pytest.approx((0.0, 3.0))
    assert not [k for k in shown[1].series if k.service == "web" and k.name.startswith("instance.")], "it has but one"


def test_the_window_of_an_incident_has_all_channels(shown: tuple[ServiceGraph, Observations]) -> None:
    graph, seen = shown
    first = (T0 + FAULT) * 10**9
    incident = Incident("i", "t", "f", first, first, "open", "warning", "", ("cart",), (), (), first)
    case = case_window(incident, graph, seen, ())
    cart = case.services.index("cart")
    for name in ("templates", "spans", "pattern", "self_time"):
        assert np.isfinite(case.node_metrics[name][:, cart]).sum() > 20, name
    edge = case.edges.tolist().index([case.services.index("web"), cart])
    assert np.isfinite(case.edge_metrics["network"][:, edge]).sum() > 20
    assert "node-0" not in case.services


def test_no_detector_hears_of_it_and_a_restart_changes_nothing() -> None:
    decoder = Decoder()
    config = DetectionConfig(bucket_seconds=10.0, allowed_lateness_seconds=5.0)
    one, other = Detection(config), Detection(config)
    for t in range(0, 120, 5):
        body = "\n".join(json.dumps(row) for s in range(t, t + 5) for row in requests(s)).encode()
        batch = decoder.decode([Record("telemetry", 0, t, T0 * 1000, body)])
        if t == 60:
            other.restore(one.snapshot())
        found = one.step(batch, calls=frozenset()).observations
        if t >= 60:
            again = other.step(batch, calls=frozenset()).observations
            assert again.series == found.series
            np.testing.assert_array_equal(again.values, found.values)
    heard = {key.name for key in one._shard.table.keys}
    assert "http.server.error_ratio" in heard
    assert not [name for name in heard if name.startswith(("instance.", "span.", "client.network", "log.template"))]


def test_the_whole_pipeline_names_the_service_the_instance_and_its_machine() -> None:
    pipeline = Pipeline(PipelineConfig())
    diagnoses: list[Diagnosis] = []
    for t in range(0, SECONDS, 5):
        body = "\n".join(json.dumps(row) for s in range(t, t + 5) for row in requests(s)).encode()
        diagnoses += pipeline.step([Record("telemetry", 0, t, (T0 + t) * 1000, body)]).diagnoses
    first = diagnoses[-1].suspects[0]
    assert not diagnoses[-1].cannot_tell and (first.service, first.instances) == ("cart", ("cart-0",))
    assert "these run on node-0, and no other instance of it does" in [e.text for e in first.evidence]
    assert diagnoses[-1].graph_hash == graph_hash(pipeline.graph)


def test_failures_are_counted_by_level_or_by_word(shown: tuple[ServiceGraph, Observations]) -> None:
    assert column(shown[1], "cart", "log.bad_lines_per_second") == pytest.approx((0.0, 3.0))
    words = [{"type": "log", "ts": (T0 + t) * 10**9, "service": "mail", "message": text} for t in range(60) for text in (
        "connection refused by the relay", "mail sent", "mail sent")]
    body = "\n".join(json.dumps(row) for row in words).encode()
    detection = Detection(DetectionConfig(bucket_seconds=10.0, allowed_lateness_seconds=5.0))
    seen = detection.step(Decoder().decode([Record("t", 0, 0, T0 * 1000, body)]), calls=frozenset()).observations
    told = {k.name: seen.values[0, n] for n, k in enumerate(seen.series) if k.service == "mail"}
    assert (told["log.bad_lines_per_second"], told["log.error_lines_per_second"]) == (1.0, 0.0)


def test_a_name_with_the_separator_in_it_breaks_nothing() -> None:
    """Work without a request, of a service that is called like a call."""
    builder, detection = GraphBuilder(), Detection(DetectionConfig(bucket_seconds=10.0, allowed_lateness_seconds=5.0))
    found: set[str] = set()
    for t in range(0, 60, 5):
        strange = {"type": "span", "ts": (T0 + t) * 10**9, "trace_id": "t", "service": "web\x1fcart", "kind": 1,
                   "span_id": f"x{t}", "duration_us": 900}
        body = "\n".join(json.dumps(row) for row in (strange, *requests(t)))
        batch = Decoder().decode([Record("telemetry", 0, t, T0 * 1000, body.encode())])
        graph = builder.step(batch)
        seen = detection.step(builder.resolved(batch), calls=graph.edges).observations
        found |= {key.peer for key in seen.series if key.name == "client.network_seconds"}
    assert found == {"cart"}
