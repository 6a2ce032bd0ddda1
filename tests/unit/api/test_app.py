import httpx
import pytest

from detect.types import Incident, Membership, Signal
from ingest.errors import OpsmendError
from opsmend.api.app import create_app
from opsmend.api.port_memory import MemoryPort
from remediate.types import GateResult, Plan

T = 1_780_000_000 * 10**9
HOST = "http://localhost:8420"


@pytest.fixture
def port():
    port = MemoryPort(now_ns=T)
    signal = Signal("s1", "t", "d", "error_ratio", "<script>x</script>", T, T, 0.9, "k", series="<b>e</b>")
    port.put_incident(Incident("i1", "t", "f", T, T, "open", "critical", "<script>alert(1)</script>", ("cart",),
                               (signal,), (Membership("s1", "started it"),), T))
    port.put_plan(Plan("p1", "i1", T, "rb", "h", "abcdef123", "Restart cart", "cart", "process.restart", {}, "rule",
                       1.0, "why", "low", True, gates=(GateResult("mode", False, "a person must approve"),)))
    return port


@pytest.fixture
def client(port):
    return httpx.AsyncClient(transport=httpx.ASGITransport(create_app(port)), base_url=HOST)


@pytest.mark.parametrize("path", ["/", "/incidents", "/incidents/i1", "/map", "/runs", "/policy"])
async def test_pages_escape_telemetry(client, path):
    answer = await client.get(path)
    assert answer.status_code == 200
    assert "<script>alert" not in answer.text and "<script>x" not in answer.text and "<b>e</b>" not in answer.text
    assert "script-src 'self'" in answer.headers["content-security-policy"]


@pytest.mark.parametrize("path", ["incidents", "incidents/i1", "incidents/i1/diagnoses", "plans", "plans/p1", "runs",
                                  "repairs", "breaches", "services", "actions", "trust", "ingest"])
async def test_reads(client, path):
    assert (await client.get(f"/api/v1/{path}")).status_code == 200


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics", "/api/openapi.json", "/static/app.js"])
async def test_service_paths(client, path):
    assert (await client.get(path)).status_code == 200


async def test_errors_are_problems(client):
    for answer, status in ((await client.get("/api/v1/plans/none"), 404), (await client.get("/nowhere"), 404),
                           (await client.put("/healthz"), 403), (await client.delete("/api/v1/plans/p1"), 405),
                           (await client.put("/api/v1/repairs", json={"mode": "yolo"}), 422)):
        assert answer.status_code == status
        assert answer.headers["content-type"] == "application/problem+json"


async def test_approval_binds_the_hash(client, port):
    path = "/api/v1/plans/p1/decision"
    assert (await client.post(path, json={"decision": "approve", "plan_hash": "another"})).status_code == 409
    assert port.plan("p1").state == "proposed"
    answer = await client.post(path, json={"decision": "approve", "plan_hash": "abcdef123", "by": "ana"})
    assert answer.status_code == 200 and port.plan("p1").decided_by == "ana" and port.plan("p1").state == "approved"


async def test_strangers_change_nothing(client, port):
    form = {"decision": "approve", "plan_hash": "abcdef123"}
    for headers in ({}, {"origin": "http://evil.example"}, {"origin": HOST, "host": "evil.example"}):
        assert (await client.post("/plans/p1/decision", data=form, headers=headers)).status_code in (403, 421)
    assert port.plan("p1").state == "proposed"
    assert (await client.post("/plans/p1/decision", data=form, headers={"origin": HOST})).status_code == 303
    assert port.plan("p1").state == "approved"


async def test_etag_and_backpressure(client, port):
    tag = (await client.get("/api/v1/incidents")).headers["etag"]
    assert (await client.get("/api/v1/incidents", headers={"if-none-match": tag})).status_code == 304
    logs = {"resourceLogs": []}
    assert (await client.post("/v1/logs", json=logs)).status_code == 200
    port.is_full = True
    refused = await client.post("/v1/logs", json=logs)
    assert refused.status_code == 503 and refused.headers["retry-after"] == "2"


async def test_a_bug_is_a_problem_that_tells_nothing_of_the_inside(port, monkeypatch):
    monkeypatch.setattr(port, "plans", lambda **_: 1 / 0)
    transport = httpx.ASGITransport(create_app(port), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url=HOST) as client:
        answer = await client.get("/api/v1/plans")
    assert answer.status_code == 500 and answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["reason"] == "internal" and "ZeroDivision" not in answer.text


@pytest.mark.parametrize(("reason", "status"), [("store", 503), ("transport", 503), ("conflict", 409), ("no_topic", 501)])
async def test_named_errors_have_their_status(port, monkeypatch, reason, status):
    def fails(**_):
        raise OpsmendError("away", reason=reason)

    monkeypatch.setattr(port, "plans", fails)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(create_app(port)), base_url=HOST) as client:
        answer = await client.get("/api/v1/plans")
    assert answer.status_code == status and answer.json()["reason"] == reason
    assert ("retry-after" in answer.headers) is (status == 503)
