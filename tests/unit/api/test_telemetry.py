"""Telemetry over HTTP against a real service: what is taken, what is refused, and what happens when it is full."""

from __future__ import annotations

import asyncio
import gzip
import json
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import cramjam
import httpx
import pytest
import zstandard
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest, ExportLogsServiceResponse
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from ingest.errors import TransportError
from opsmend.api.app import create_app
from opsmend.api.port_memory import MemoryPort
from opsmend.api.security import ApiConfig
from opsmend.config import Settings
from opsmend.intake import Intake
from opsmend.service import Service

PROTOBUF = "application/x-protobuf"
STATUS_UNAVAILABLE = b"\x08\x0e"  # google.rpc.Status{code: 14}
NOW = time.time_ns()


def otlp_logs(n: int) -> bytes:
    request = ExportLogsServiceRequest()
    record = request.resource_logs.add().scope_logs.add().log_records.add()
    record.time_unix_nano = NOW
    record.body.string_value = f"line {n}"
    return request.SerializeToString()


def otlp_metrics(n: int) -> bytes:
    request = ExportMetricsServiceRequest()
    metric = request.resource_metrics.add().scope_metrics.add().metrics.add(name="queue.depth")
    metric.gauge.data_points.add(time_unix_nano=NOW, as_double=n)
    return request.SerializeToString()


def otlp_traces(n: int) -> bytes:
    request = ExportTraceServiceRequest()
    request.resource_spans.add().scope_spans.add().spans.add(
        name="call", trace_id=n.to_bytes(16, "big"), span_id=b"12345678", start_time_unix_nano=NOW,
        end_time_unix_nano=NOW + 10)
    return request.SerializeToString()


def write_request(n: int) -> bytes:
    """Prometheus' WriteRequest by hand: one series `up{job="cart"}` with one sample."""
    def field(number: int, body: bytes) -> bytes:
        return bytes([number << 3 | 2, len(body)]) + body

    label = [field(1, field(1, k) + field(2, v)) for k, v in ((b"__name__", b"up"), (b"job", b"cart"))]
    stamp, out = NOW // 1_000_000, bytearray()
    while stamp > 0x7F:
        out.append(stamp & 0x7F | 0x80)
        stamp >>= 7
    sample = b"\x09" + bytes(6) + bytes([n, 0x3F]) + b"\x10" + bytes(out) + bytes([stamp])
    return bytes(cramjam.snappy.compress_raw(field(1, b"".join(label) + field(2, sample))))


def alert(n: int) -> dict[str, Any]:
    return {"labels": {"alertname": f"Slow{n}", "service": "front"}, "annotations": {}, "startsAt": "2026-09-21T12:00:00Z"}


@dataclass(frozen=True)
class Path:
    """One endpoint: a valid body by number, its headers, the answer to it, and what of it is counted."""

    path: str
    body: Callable[[int], bytes]
    headers: dict[str, str]
    status: int
    counted: str

    def post(self, client: httpx.Client, n: int) -> httpx.Response:
        return client.post(self.path, content=self.body(n), headers=self.headers)


JSON = {"content-type": "application/json"}
PATHS = [
    Path("/v1/logs", otlp_logs, {"content-type": PROTOBUF}, 200, "logs"),
    Path("/v1/metrics", otlp_metrics, {"content-type": PROTOBUF}, 200, "points"),
    Path("/v1/traces", otlp_traces, {"content-type": PROTOBUF}, 200, "spans"),
    Path("/api/v1/write", write_request, {"content-type": PROTOBUF, "content-encoding": "snappy",
                                          "x-prometheus-remote-write-version": "0.1.0"}, 204, "points"),
    Path("/api/v2/alerts", lambda n: json.dumps([alert(n)]).encode(), JSON, 200, "alerts"),
    Path("/hooks/alertmanager", lambda n: json.dumps({
        "version": "4", "groupKey": "g", "status": "firing", "receiver": "us",
        "alerts": [{**alert(n), "status": "firing"}]}).encode(), JSON, 200, "alerts"),
    Path("/hooks/changes", lambda n: json.dumps({"service": "front", "kind": "rollout", "ref": f"v{n}"}).encode(),
         JSON, 200, "changes"),
]


class Running:
    """The service and a client; `totals` waits until all that was taken is counted."""

    def __init__(self, service: Service, url: str) -> None:
        self.service, self.url = service, url
        self.client = httpx.Client(base_url=url, timeout=20)

    def wait(self, check: Callable[[], Any]) -> None:
        deadline = time.monotonic() + 30
        while not check():
            assert time.monotonic() < deadline and self.service.failed is None
            time.sleep(0.05)

    def totals(self, records: int) -> dict[str, int]:
        """When so many records, and no more, are counted."""
        self.wait(lambda: self.service.queries.totals().get("records", 0) >= records)
        found = dict(self.service.queries.totals())
        assert found.get("records", 0) == records
        return found


@pytest.fixture
def running(tmp_path: Any, serve: Callable[[Service], Any]) -> Iterator[Running]:
    service = Service(Settings.model_validate({
        "service": {"data_dir": tmp_path}, "ingest": {"max_waiting_records": 3}, "repair": {"executor": "memory"}}))
    service.start()
    with serve(service) as url:
        found = Running(service, url)
        yield found
        found.client.close()
    service.stop()


def test_while_it_is_full_every_endpoint_says_when_to_come_back_and_stores_nothing(running: Running) -> None:
    client, consumer = running.client, running.service.consumer
    for n, path in enumerate(PATHS):
        answer = path.post(client, n)
        assert answer.status_code == path.status, (path.path, answer.text)
    before = running.totals(len(PATHS))
    assert not before.get("dead")
    consumer.pause()  # from here on nothing is read, as when the store is away
    taken = 0
    while (answer := PATHS[0].post(client, 100 + taken)).status_code == 200:
        taken += 1
        assert taken < 5_000
    assert (answer.status_code, answer.content[:2]) == (503, STATUS_UNAVAILABLE)
    held = sum(consumer.lag().values())
    for path in PATHS:
        answer = path.post(client, 50)
        assert (answer.status_code, int(answer.headers["retry-after"]) > 0) == (503, True), path.path
    refused = client.post("/v1/logs", content=b'{"resourceLogs": []}', headers=JSON)
    assert (refused.status_code, refused.json()["code"]) == (503, 14)
    assert sum(consumer.lag().values()) == held == taken
    consumer.resume()
    running.wait(lambda: PATHS[0].post(client, 50).status_code == 200)
    for path in PATHS[1:]:
        assert path.post(client, 50).status_code == path.status
    after = running.totals(len(PATHS) + taken + len(PATHS))
    for what in ("logs", "points", "spans", "alerts", "changes"):
        grown = len([p for p in PATHS if p.counted == what]) + (taken if what == "logs" else 0)
        assert after[what] - before[what] == grown, what


def test_every_encoding_is_undone_and_senders_hear_what_their_protocol_says(running: Running) -> None:
    client = running.client

    def post(n: int, body: bytes, encoding: str, content_type: str = PROTOBUF) -> httpx.Response:
        return client.post("/v1/logs", content=body, headers={"content-type": content_type, "content-encoding": encoding})

    encoders = {"gzip": gzip.compress, "deflate": zlib.compress, "zstd": zstandard.compress, "identity": bytes}
    for n, (encoding, compress) in enumerate(encoders.items()):
        answer = post(n, compress(otlp_logs(n)), encoding)
        assert (answer.status_code, answer.headers["content-type"]) == (200, PROTOBUF), encoding
        assert not ExportLogsServiceResponse.FromString(answer.content).HasField("partial_success")
    as_json = json.dumps({"resourceLogs": [{"scopeLogs": [{"logRecords": [{"body": {"stringValue": "x"}}]}]}]}).encode()
    answer = post(9, gzip.compress(as_json), "gzip", "application/json; charset=utf-8")
    assert (answer.status_code, answer.json()) == (200, {})
    for body, encoding, status in ((b"broken", "gzip", 400), (gzip.compress(otlp_logs(1))[:-9], "gzip", 400),
                                   (otlp_logs(1), "br", 415), (b"\x0a\x05hello", "", 400), (b"plain text", "", 400),
                                   (gzip.compress(bytes(20 << 20)), "gzip", 413),
                                   (zstandard.compress(bytes(20 << 20)), "zstd", 413)):
        refused = post(0, body, encoding)
        assert (refused.status_code, refused.headers["content-type"]) == (status, PROTOBUF), (body[:10], encoding)
        assert refused.content[:2] == b"\x08\x03"  # INVALID_ARGUMENT
    assert post(0, b"{", "", "application/json").json()["code"] == 3
    assert not running.totals(len(encoders) + 1).get("dead")


@pytest.mark.parametrize(("headers", "body", "status"), [
    ({"content-type": PROTOBUF, "content-encoding": "snappy"}, b"\x05garbage", 400),
    ({"content-type": PROTOBUF + ";proto=io.prometheus.write.v2.Request", "content-encoding": "snappy"}, b"x", 415),
    ({"content-type": PROTOBUF + ";proto=prometheus.WriteRequest", "content-encoding": "snappy"}, write_request(1), 204),
    ({"content-type": PROTOBUF, "content-encoding": "zstd"}, b"x", 415),
    ({"content-type": "application/json", "content-encoding": "snappy"}, b"{}", 415),
], ids=["broken", "version 2", "version 1", "zstd", "json"])
def test_remote_write_of_another_version_or_encoding_is_told_so(
        running: Running, headers: dict[str, str], body: bytes, status: int) -> None:
    assert running.client.post("/api/v1/write", content=body, headers=headers).status_code == status


def test_alerts_that_nobody_could_read_are_refused_with_a_reason(running: Running) -> None:
    for path, body in (("/api/v2/alerts", b'[{"labels": 1}]'), ("/api/v2/alerts", b'{"labels": {}}'),
                       ("/hooks/alertmanager", b'{"text": "a payload template of your own"}'),
                       ("/hooks/alertmanager", b'{"version": "4", "groupKey": "g", "alerts": [{"startsAt": 1}]}')):
        answer = running.client.post(path, content=body, headers=JSON)
        assert (answer.status_code, answer.headers["content-type"]) == (400, "application/problem+json"), body
        assert answer.json()["detail"]
    assert running.client.post("/api/v2/alerts", content=b"[]", headers=JSON).json() == {"accepted": 0}
    time.sleep(0.5)
    running.totals(0)


def test_tenants_and_marks_tell_equal_bodies_apart(running: Running) -> None:
    def post(**headers: str) -> None:
        sent = {k.replace("_", "-"): v for k, v in headers.items()}
        assert running.client.post("/v1/logs", content=otlp_logs(1),
                                   headers={"content-type": PROTOBUF, **sent}).status_code == 200

    for _ in range(2):
        post()
        post(x_scope_orgid="a")
        post(idempotency_key="1")
        post(idempotency_key="2")
    totals = running.totals(8)
    assert (totals["duplicates"], totals["logs"]) == (4, 4)


def test_with_a_token_set_senders_need_it_too() -> None:
    async def statuses() -> list[int]:
        app = create_app(MemoryPort(), config=ApiConfig(token="secret"))
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
            found = []
            for path in PATHS:
                for given in ({}, {"authorization": "Bearer secret"}, {"authorization": "Bearer other"}):
                    answer = await client.post(path.path, content=path.body(1), headers={**path.headers, **given})
                    found.append(answer.status_code)
            return found

    assert asyncio.run(statuses()) == [s for path in PATHS for s in (401, path.status, 401)]


def test_other_methods_are_not_answered_as_if_they_stored_something() -> None:
    async def statuses() -> set[int]:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(create_app(MemoryPort())),
                                     base_url="http://localhost") as client:
            return {(await client.request(method, path.path)).status_code
                    for path in PATHS for method in ("HEAD", "OPTIONS", "GET")}

    assert asyncio.run(statuses()) == {405}


async def test_bodies_that_come_too_slowly_or_together_are_too_much_are_refused() -> None:
    app = create_app(MemoryPort(), config=ApiConfig(max_body_bytes=4096, max_upload_bytes=6000, upload_seconds=0.3))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
        async def post(size: int, pause: float) -> tuple[int, bool]:
            async def body() -> Any:
                yield b" " * size
                await asyncio.sleep(pause)

            answer = await client.post("/hooks/changes", content=body(), headers=JSON)
            return answer.status_code, "retry-after" in answer.headers

        assert await post(10, 5) == (408, False)
        assert await post(5000, 0) == (413, False)
        answers = await asyncio.gather(*(post(2500, 0.1) for _ in range(5)))
        assert sorted(answers) == [(200, False)] * 2 + [(503, True)] * 3
        assert await post(4000, 0) == (200, False)  # what was held is free again
    assert app.state.uploads._held == 0


class Away:
    """A transport that takes records and cannot make them durable until it is back."""

    def __init__(self) -> None:
        self.is_away, self.flushes = True, 0
        self.kept: list[bytes] = []
        self.sent: list[bytes] = []

    def send(self, topic: str, value: bytes, **_: object) -> None:
        if value == b"huge":
            raise TransportError("larger than Kafka takes", reason="too_large", is_transient=False)
        self.sent.append(value)

    def flush(self, timeout_seconds: float = 10.0) -> None:
        self.flushes += 1
        time.sleep(0.05)
        if self.is_away:
            raise OSError("disk full") if self.flushes == 2 else TransportError("no right", reason="configuration")
        self.kept += self.sent
        self.sent = []

    def close(self) -> None: ...


def intake_on(producer: Away) -> Intake:
    return Intake(producer, Settings().ingest.topics, lambda: 0, max_waiting=10)


def test_nobody_hears_yes_for_what_was_not_made_durable() -> None:
    away = Away()
    intake = intake_on(away)
    for n in range(5):
        with pytest.raises(TransportError) as caught:
            intake.put("logs", b"%d" % n, {})
        assert caught.value.reason == "transport"  # 503: come back when it is mended
    assert len(away.sent) == 1  # while it is away nothing more is handed to it
    away.is_away = False
    assert intake.put("logs", b"9", {}) == 1
    assert away.kept == [b"0", b"9"]
    with pytest.raises(TransportError, match="larger") as final:
        intake.put("logs", b"huge", {})
    assert final.value.reason == "too_large"  # 413
    assert intake.put("logs", b"10", {}) == 1


def test_requests_at_the_same_time_share_a_flush_and_one_bad_one_harms_no_other() -> None:
    away = Away()
    away.is_away = False
    intake, outcomes = intake_on(away), []
    lock = threading.Lock()

    def put(n: int) -> None:
        try:
            taken = intake.put("logs", b"huge" if n == 7 else b"%d" % n, {})
        except TransportError:
            taken = 0
        with lock:
            outcomes.append((n, taken))

    with ThreadPoolExecutor(40) as pool:
        list(pool.map(put, range(40)))
    assert sorted(outcomes) == [(n, int(n != 7)) for n in range(40)]
    assert sorted(map(int, away.kept)) == [n for n in range(40) if n != 7]
    assert away.flushes < 20


def test_an_unforeseen_error_is_no_yes_for_those_who_wait() -> None:
    class Broken(Away):
        def flush(self, timeout_seconds: float = 10.0) -> None:
            time.sleep(0.1)
            raise ZeroDivisionError

    intake, said = intake_on(Broken()), []

    def put(n: int) -> None:
        try:
            said.append(intake.put("logs", b"%d" % n, {}))
        except (TransportError, ZeroDivisionError) as error:
            said.append(type(error).__name__)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(put, range(8)))
    assert len(said) == 8 and 1 not in said
