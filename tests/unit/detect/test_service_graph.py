"""Service-graph metrics, as Tempo and the collector's connector make them: calls, kinds, and what calls are judged by."""

from __future__ import annotations

import json
from collections.abc import Iterable

import numpy as np
import pytest

from detect.stage import Detection, DetectionConfig
from detect.types import Observations
from ingest.decode import Decoder
from ingest.types import Batch, Record, SeriesKey
from rootcause.graph import GraphBuilder
from rootcause.window import channel_of

T0 = 1_790_000_000
PREFIX = "traces_service_graph_request"
Sample = tuple[int, str, dict[str, str], float]


def samples(seconds: int, client: str, server: str, *, rate: float = 20.0, failed: float = 0.0, kind: str = "",
            here: float = 0.020, there: float = 0.012) -> Iterable[Sample]:
    """Counters and histograms of one pair, scraped every ten seconds. As Tempo and the connector do, both histograms are
    written whatever the pair: who sent no span has 0 s, a database what its client measured."""
    if kind == "virtual_node":
        here, there = (0.0, there) if client == "user" else (here, 0.0)
    elif kind == "database":
        there = here
    labels = {"client": client, "server": server, "job": "tempo", "instance": "tempo-0"} | (
        {"connection_type": kind} if kind else {})
    for t in range(0, seconds, 10):
        n = rate * (t + 10)
        yield t, f"{PREFIX}_total", labels, n
        yield t, f"{PREFIX}_failed_total", labels, n * failed
        for side, mean in (("client", here), ("server", there)):
            yield t, f"{PREFIX}_{side}_seconds_count", labels, n
            yield t, f"{PREFIX}_{side}_seconds_sum", labels, n * mean
            for le, share in (("0.01", 0.2 if mean else 1.0), ("0.1", 1.0), ("+Inf", 1.0)):
                yield t, f"{PREFIX}_{side}_seconds_bucket", labels | {"le": le}, n * share


def over_prometheus(rows: Iterable[Sample]) -> Batch:
    lines = [json.dumps({"labels": {"__name__": name, **labels}, "timestamp": f"{T0 + t}", "value": str(value)})
             for t, name, labels, value in sorted(rows, key=lambda row: row[0])]
    return Decoder().decode([Record("metrics", 0, n, T0 * 1000, line.encode()) for n, line in enumerate(lines)])


def over_otlp(rows: Iterable[Sample]) -> Batch:
    values = []
    for t, name, labels, value in sorted(rows, key=lambda row: row[0]):
        if name.endswith("_total"):
            own = [{"key": k, "value": {"stringValue": v}} for k, v in labels.items() if k not in ("job", "instance")]
            point = {"timeUnixNano": str((T0 + t) * 10**9), "asDouble": value, "attributes": own}
            values.append({"resourceMetrics": [{
                "resource": {"attributes": [{"key": "service.name", "value": {"stringValue": "collector"}}]},
                "scopeMetrics": [{"metrics": [{"name": name, "sum": {
                    "dataPoints": [point], "isMonotonic": True, "aggregationTemporality": 2}}]}]}]})
    return Decoder().decode([Record("metrics", 0, n, T0 * 1000, json.dumps(v).encode()) for n, v in enumerate(values)])


def seen(batch: Batch) -> Observations:
    """What the buckets show that are closed when the input ends."""
    detection = Detection(DetectionConfig(bucket_seconds=10.0, allowed_lateness_seconds=5.0))
    return detection.step(batch, calls=frozenset()).observations


def value(found: Observations, service: str, name: str, peer: str = "") -> float:
    at = [n for n, k in enumerate(found.series) if (k.service, k.name, k.peer) == (service, name, peer)]
    assert len(at) == 1, (service, name, peer, list(found.series))
    return float(np.nanmedian(found.values[:, at[0]]))


def shop() -> list[Sample]:
    return [*samples(120, "web", "cart", failed=0.1), *samples(120, "batch", "cart", rate=60.0, failed=0.02),
            *samples(120, "cart", "postgresql", kind="database"),
            *samples(120, "cart", "bank.example.com", kind="virtual_node"), *samples(120, "user", "web", kind="virtual_node")]


def test_pairs_are_calls_and_the_other_side_has_a_kind() -> None:
    batch = over_prometheus(shop())
    assert not batch.dead_letters
    graph = GraphBuilder().step(batch)
    assert graph.edges == {("web", "cart"), ("batch", "cart"), ("cart", "postgresql"), ("cart", "bank.example.com")}
    assert graph.kinds == {"postgresql": "database", "bank.example.com": "external"}
    assert set(graph.services) == {"web", "batch", "cart", "postgresql", "bank.example.com"}, "neither tempo nor user"


def test_calls_have_rate_failures_latency_and_time_on_the_way() -> None:
    found = seen(over_prometheus(shop()))
    assert value(found, "web", "client.requests_per_second", "cart") == pytest.approx(20.0)
    assert value(found, "web", "client.error_ratio", "cart") == pytest.approx(0.1)
    assert value(found, "web", "client.network_seconds", "cart") == pytest.approx(0.008)
    assert 0.05 < value(found, "web", "client.latency_p95_seconds", "cart") < 0.1
    assert value(found, "cart", "client.error_ratio", "postgresql") == 0.0
    assert not [k for k, column in zip(found.series, found.values.T, strict=True)
                if k.name.startswith("traces_") and np.isfinite(column).any()], "the counters themselves say nothing more"


def told(found: Observations, service: str, peer: str = "") -> set[str]:
    return {k.name for k, column in zip(found.series, found.values.T, strict=True)
            if (k.service, k.peer) == (service, peer) and np.isfinite(column).any()}


@pytest.mark.parametrize("server", ["postgresql", "bank.example.com"])
def test_what_no_server_measured_is_neither_its_latency_nor_time_on_the_way(server: str) -> None:
    found = seen(over_prometheus(shop()))
    assert told(found, "cart", server) == {"client.requests_per_second", "client.error_ratio", "client.latency_p95_seconds"}
    assert told(found, server) == {"http.server.requests_per_second", "http.server.error_ratio"}
    assert value(found, "cart", "client.latency_p95_seconds", server) > 0.05, "as the caller measures it"


def test_whoever_asks_from_outside_measures_nothing() -> None:
    found = seen(over_prometheus(samples(120, "user", "web", kind="virtual_node")))
    assert 0.05 < value(found, "web", "http.server.latency_p95_seconds") < 0.1, "the server did"


def test_sending_does_not_wait_for_the_work_on_what_was_sent() -> None:
    found = seen(over_prometheus(samples(120, "cart", "mailer", kind="messaging_system", here=0.020, there=0.002)))
    assert told(found, "cart", "mailer") == {"client.requests_per_second", "client.error_ratio", "client.latency_p95_seconds"}
    assert "http.server.latency_p95_seconds" in told(found, "mailer")


def test_a_service_is_judged_by_all_its_callers_together() -> None:
    found = seen(over_prometheus(shop()))
    assert value(found, "cart", "http.server.requests_per_second") == pytest.approx(80.0)
    assert value(found, "cart", "http.server.error_ratio") == pytest.approx((2.0 + 1.2) / 80)
    assert value(found, "web", "http.server.requests_per_second") == pytest.approx(20.0), "from outside"


def test_what_a_service_reports_itself_counts() -> None:
    own = [(t, "http_server_requests_per_second", {"service": "cart"}, 5.0) for t in range(0, 120, 10)]
    found = seen(over_prometheus([*shop(), *own]))
    assert not [k for k in found.series if k.service == "cart" and k.name == "http.server.requests_per_second"]


def test_the_connector_sends_the_same_over_otlp() -> None:
    batch = over_otlp(shop())
    assert not batch.dead_letters
    assert ("web", "cart") in GraphBuilder().step(batch).edges
    found = seen(batch)
    assert value(found, "web", "client.error_ratio", "cart") == pytest.approx(0.1)


def test_time_on_the_way_is_a_channel_of_calls() -> None:
    assert channel_of(SeriesKey("web", "client.network_seconds", peer="cart")) == "network"
