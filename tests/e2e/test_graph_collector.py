"""The service graph from the real OpenTelemetry SDK and Collector: spans with resources over OTLP; kube-state-metrics and
service-graph metrics scraped by its Prometheus receiver and sent on by remote-write."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from processes_under_test import otelcol, running, wait
from small_http import Answer, Asked

from detect.stage import Detection, DetectionConfig
from ingest.decode import Decoder
from ingest.types import Record
from opsmend.lab.processes import free_port
from rootcause.graph import GraphBuilder
from rootcause.types import ServiceGraph

__all__ = ["otelcol"]

POD = 'namespace="shop",pod="db-0"'
CALL = 'client="batch",server="cart",connection_type=""'
SCRAPED = f"""
kube_pod_info{{{POD},node="node-7",host_ip="10.0.0.7"}} 1
kube_pod_owner{{{POD},owner_kind="StatefulSet",owner_name="db",owner_is_controller="true"}} 1
kube_pod_spec_volumes_persistentvolumeclaims_info{{{POD},volume="data",persistentvolumeclaim="data-db-0"}} 1
db_up{{service="db"}} 1
# TYPE traces_service_graph_request_total counter
traces_service_graph_request_total{{{CALL}}} %(count)d
# TYPE traces_service_graph_request_failed_total counter
traces_service_graph_request_failed_total{{{CALL}}} %(failed)d
# TYPE traces_service_graph_request_client_seconds histogram
traces_service_graph_request_client_seconds_bucket{{{CALL},le="0.1"}} %(count)d
traces_service_graph_request_client_seconds_bucket{{{CALL},le="+Inf"}} %(count)d
traces_service_graph_request_client_seconds_sum{{{CALL}}} %(client)f
traces_service_graph_request_client_seconds_count{{{CALL}}} %(count)d
# TYPE traces_service_graph_request_server_seconds histogram
traces_service_graph_request_server_seconds_bucket{{{CALL},le="0.1"}} %(count)d
traces_service_graph_request_server_seconds_bucket{{{CALL},le="+Inf"}} %(count)d
traces_service_graph_request_server_seconds_sum{{{CALL}}} %(server)f
traces_service_graph_request_server_seconds_count{{{CALL}}} %(count)d
"""


SHOPS = """
# TYPE shop_requests_total counter
shop_requests_total{service="cart",code="200"} 5
shop_requests_total{app="web",code="200"} 6
shop_requests_total{service_name="mail",code="200"} 7
shop_requests_total{code="200"} 8
# TYPE shop_seconds histogram
shop_seconds_bucket{service="cart",le="0.1"} 4
shop_seconds_bucket{service="cart",le="+Inf"} 5
shop_seconds_sum{service="cart"} 0.5
shop_seconds_count{service="cart"} 5
"""
"""What one job scrapes of several services: a gateway, an exporter, a federation."""


class Sink:
    """Takes what is sent, and is scraped."""

    def __init__(self, scraped: str = "") -> None:
        self._scraped = scraped
        self.taken: list[tuple[str, bytes]] = []
        self.scrapes = 0
        self.address = ""

    def answer(self, asked: Asked) -> Answer:
        if asked.method == "POST":
            self.taken.append((asked.path, asked.body))
            return Answer()
        self.scrapes += 1
        n = 100 * self.scrapes
        values = {"count": n, "failed": n // 10, "client": n * 0.02, "server": n * 0.012}
        return Answer((self._scraped or SCRAPED % values).encode(), headers={"content-type": "text/plain; version=0.0.4"})

    def records(self, path: str) -> list[Record]:
        now = int(time.time() * 1000)
        return [Record("t", 0, n, now, body) for n, (at, body) in enumerate(self.taken) if at == path]


@pytest.fixture
def listening(serve_http: Callable[..., str]) -> Callable[[Sink], Sink]:
    def listen(sink: Sink) -> Sink:
        sink.address = serve_http(sink.answer).removeprefix("http://")
        return sink

    return listen


def send_spans(url: str) -> None:
    tracers, providers = {}, []
    for service, host in (("web", "node-1"), ("cart", "node-2")):
        provider = TracerProvider(resource=Resource.create({
            "service.name": service, "service.instance.id": f"{service}-0", "k8s.pod.name": f"{service}-5f-x",
            "k8s.namespace.name": "shop", "k8s.node.name": host}))
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(f"{url}/v1/traces")))
        tracers[service] = provider.get_tracer("shop")
        providers.append(provider)
    kind = trace.SpanKind
    for _ in range(30):
        with (tracers["web"].start_as_current_span("GET /", kind=kind.SERVER),
              tracers["web"].start_as_current_span("GET", kind=kind.CLIENT, attributes={"server.address": "10.1.2.3"}),
              tracers["cart"].start_as_current_span("GET /cart", kind=kind.SERVER)):
            for name, attributes in {
                    "HGET": {"db.system.name": "redis", "server.address": "sessions"},
                    "SELECT": {"db.system": "postgresql", "net.peer.name": "db"},
                    "POST": {"server.address": "api.bank.example"}}.items():
                with tracers["cart"].start_as_current_span(name, kind=kind.CLIENT, attributes=attributes):
                    pass
            with tracers["cart"].start_as_current_span("send", kind=kind.PRODUCER, attributes={
                    "messaging.system": "kafka", "messaging.destination.name": "orders"}):
                pass
    for provider in providers:
        provider.shutdown()


@pytest.mark.timeout(120)
def test_what_one_job_scrapes_is_of_the_services_that_its_labels_name(
        tmp_path: Path, otelcol: Path, listening: Callable[[Sink], Sink]) -> None:
    """And of the same ones by either way out of the collector."""
    sink = listening(Sink(SHOPS))
    scrape = {"job_name": "gateway", "scrape_interval": "1s", "static_configs": [{"targets": [sink.address]}]}
    (tmp_path / "collector.yaml").write_text(json.dumps({
        "receivers": {"prometheus": {"config": {"scrape_configs": [scrape]}}},
        "exporters": {"otlp_http/proto": {"endpoint": f"http://{sink.address}"},
                      "otlp_http/json": {"metrics_endpoint": f"http://{sink.address}/json", "encoding": "json"},
                      "prometheus_remote_write": {"endpoint": f"http://{sink.address}/api/v1/write"}},
        "service": {"telemetry": {"metrics": {"level": "none"}}, "pipelines": {"metrics": {
            "receivers": ["prometheus"], "exporters": ["prometheus_remote_write", "otlp_http/proto", "otlp_http/json"]}}}}))
    ways = ("/api/v1/write", "/v1/metrics", "/json")
    with running([str(otelcol), "--config", str(tmp_path / "collector.yaml")], tmp_path / "collector.log") as collector:
        wait(lambda: all(len(sink.records(way)) >= 2 for way in ways), 60, collector.said)
    for way in ways:
        batch = Decoder().decode(sink.records(way))
        assert not batch.dead_letters
        newest = {(key.service, key.name): value for key, value in zip(
            (batch.metrics.series_table[n] for n in batch.metrics.series), batch.metrics.value.tolist(), strict=True)}
        found = {service: value for (service, name), value in newest.items() if name == "shop_requests_total"}
        assert found == {"cart": 5.0, "web": 6.0, "mail": 7.0, "gateway": 8.0}, way
        assert {service for service, name in newest if name.startswith("shop_seconds")} == {"cart"}, way
        assert ("gateway", "up") in newest, "what is said of the scrape itself is the job's"


@pytest.mark.timeout(120)
def test_what_the_sdk_and_the_collector_send_becomes_the_graph(
        tmp_path: Path, otelcol: Path, listening: Callable[[Sink], Sink]) -> None:
    sink = listening(Sink())
    receives = f"127.0.0.1:{free_port()}"
    scrape = {"job_name": "kube-state-metrics", "scrape_interval": "1s", "static_configs": [{"targets": [sink.address]}]}
    (tmp_path / "collector.yaml").write_text(json.dumps({
        "receivers": {"otlp": {"protocols": {"http": {"endpoint": receives}}},
                      "prometheus": {"config": {"scrape_configs": [scrape]}}},
        "exporters": {"otlp_http": {"endpoint": f"http://{sink.address}", "compression": "gzip"},
                      "prometheus_remote_write": {"endpoint": f"http://{sink.address}/api/v1/write"}},
        "service": {"telemetry": {"metrics": {"level": "none"}}, "pipelines": {
            "traces": {"receivers": ["otlp"], "exporters": ["otlp_http"]},
            "metrics": {"receivers": ["prometheus"], "exporters": ["prometheus_remote_write", "otlp_http"]}}}}))
    with running([str(otelcol), "--config", str(tmp_path / "collector.yaml")], tmp_path / "collector.log") as collector:
        wait(lambda: "Everything is ready" in collector.said(), 30, collector.said)
        send_spans(f"http://{receives}")
        wait(lambda: len(sink.records("/api/v1/write")) >= 4 and len(sink.records("/v1/metrics")) >= 4
             and sink.records("/v1/traces"), 60, collector.said)

    def graph_of(*paths: str) -> ServiceGraph:
        batch = Decoder().decode([record for path in paths for record in sink.records(path)])
        assert not batch.dead_letters
        return GraphBuilder().step(batch)

    whole = graph_of("/v1/traces", "/api/v1/write")
    assert whole.edges == {("web", "cart"), ("batch", "cart"), ("cart", "sessions"), ("cart", "db"), ("cart", "orders"),
                           ("cart", "api.bank.example")}
    assert whole.kinds == {"sessions": "cache", "db": "database", "orders": "queue", "api.bank.example": "external",
                           "node-1": "host", "node-2": "host", "node-7": "host", "shop/data-db-0": "volume"}
    assert whole.rests_on == {("web", "node-1"), ("cart", "node-2"), ("db", "node-7"), ("db", "shop/data-db-0")}
    assert whole.instances == {"cart": {"cart-0": "node-2"}, "db": {"db-0": "node-7"}, "web": {"web-0": "node-1"}}
    assert graph_of("/v1/traces", "/v1/metrics").rests_on == whole.rests_on
    for path in ("/api/v1/write", "/v1/metrics"):
        assert graph_of(path).edges == {("batch", "cart")}
        detection = Detection(DetectionConfig(bucket_seconds=1.0, allowed_lateness_seconds=1.0))
        batch = Decoder().decode(sink.records(path))
        seen = [detection.step(batch, calls=frozenset()).observations, detection.flush(calls=frozenset()).observations]
        told = {(k.service, k.peer, k.name): round(float(v), 4) for found in seen for row in found.values
                for k, v in zip(found.series, row.tolist(), strict=True) if v == v}
        assert told["batch", "cart", "client.error_ratio"] == 0.1
        assert told["batch", "cart", "client.network_seconds"] == 0.008
        assert told["cart", "", "http.server.error_ratio"] == 0.1


@pytest.mark.timeout(120)
def test_calls_and_failures_are_those_that_the_collector_counts_in_the_same_spans(
        tmp_path: Path, otelcol: Path, listening: Callable[[Sink], Sink]) -> None:
    """Its own connector (`span_metrics`; `servicegraph` is not built into this one) beside our graph and derivation."""
    sink, receives = listening(Sink()), f"127.0.0.1:{free_port()}"
    (tmp_path / "collector.yaml").write_text(json.dumps({
        "receivers": {"otlp": {"protocols": {"http": {"endpoint": receives}}}},
        "connectors": {"span_metrics": {"metrics_flush_interval": "1s", "dimensions": [{"name": "peer.service"}]}},
        "exporters": {"otlp_http": {"endpoint": f"http://{sink.address}"}},
        "service": {"telemetry": {"metrics": {"level": "none"}}, "pipelines": {
            "traces": {"receivers": ["otlp"], "exporters": ["otlp_http", "span_metrics"]},
            "metrics": {"receivers": ["span_metrics"], "exporters": ["otlp_http"]}}}}))
    tracers, providers = {}, []
    for service in ("web", "cart"):
        provider = TracerProvider(resource=Resource.create({"service.name": service}))
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(f"http://{receives}/v1/traces")))
        tracers[service] = provider.get_tracer("shop")
        providers.append(provider)
    kind, failed = trace.SpanKind, trace.Status(trace.StatusCode.ERROR)
    with running([str(otelcol), "--config", str(tmp_path / "collector.yaml")], tmp_path / "collector.log") as collector:
        wait(lambda: "Everything is ready" in collector.said(), 30, collector.said)
        for n in range(40):
            with (tracers["web"].start_as_current_span("GET /", kind=kind.SERVER),
                  tracers["web"].start_as_current_span("GET", kind=kind.CLIENT, attributes={"peer.service": "cart"}) as asks,
                  tracers["cart"].start_as_current_span("GET /cart", kind=kind.SERVER) as answers):
                if n % 5 == 0:
                    asks.set_status(failed)
                    answers.set_status(failed)
        for provider in providers:
            provider.shutdown()
        wait(lambda: sink.records("/v1/traces") and len(sink.records("/v1/metrics")) >= 3, 60, collector.said)
    counted: dict[tuple[str, str, str], float] = {}
    told = Decoder().decode(sink.records("/v1/metrics")).metrics
    for at, value in zip(told.series.tolist(), told.value.tolist(), strict=True):
        key = told.series_table[at]
        if key.name == "traces.span.metrics.calls":
            labels = dict(key.labels)
            counted[key.service, labels["span.kind"], labels["status.code"]] = value  # cumulative: the last one counts
    assert counted["cart", "SPAN_KIND_SERVER", "STATUS_CODE_ERROR"] == 8, counted
    assert counted["cart", "SPAN_KIND_SERVER", "STATUS_CODE_UNSET"] == 32, counted
    spans = Decoder().decode(sink.records("/v1/traces"))
    assert GraphBuilder().step(spans).edges == {("web", "cart")}
    detection = Detection(DetectionConfig(bucket_seconds=60.0, allowed_lateness_seconds=1.0))
    ours: dict[tuple[str, str, str], list[float]] = {}
    for seen in (detection.step(spans, calls=frozenset()).observations, detection.flush(calls=frozenset()).observations):
        for at, found in enumerate(seen.series):
            known = [v for v in seen.values[:, at].tolist() if v == v]
            ours.setdefault((found.service, found.peer, found.name), []).extend(known)
    ends = (("cart", "", "http.server", "SPAN_KIND_SERVER"), ("web", "cart", "client", "SPAN_KIND_CLIENT"))
    for service, peer, prefix, said in ends:
        theirs = [counted[service, said, f"STATUS_CODE_{code}"] for code in ("UNSET", "ERROR")]
        rates, errors = (
            [v for (a, b, name), v in ours.items() if (a, b, name) == (service, peer, f"{prefix}.{what}")]
            for what in ("requests_per_second", "error_ratio"))
        assert len(rates) == len(errors) == 1, sorted(ours)
        asked = [60 * rate for rate in rates[0] if rate > 0]
        assert sum(asked) == pytest.approx(sum(theirs)), (service, peer)
        assert sum(n * share for n, share in zip(asked, errors[0], strict=True)) == pytest.approx(theirs[1]), (service, peer)
