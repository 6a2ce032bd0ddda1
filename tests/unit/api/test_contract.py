"""Every route of the OpenAPI document on a running service, from telemetry in to a verified repair.

The tests of this module follow one another on one service: they are one story.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import pytest
from prometheus_client.parser import text_string_to_metric_families

# Name -> labels, as docs promise them.
METRICS: dict[str, set[str]] = {
    "opsmend_ingest_records": {"format", "outcome"}, "opsmend_ingest_lag_records": {"topic"},
    "opsmend_ingest_dead_letters": {"reason"}, "opsmend_ingest_duplicates": set(),
    "opsmend_detect_signals": {"detector"}, "opsmend_detect_state_entries": {"kind"}, "opsmend_detect_evictions": {"kind"},
    "opsmend_incidents_open": {"severity"}, "opsmend_breach_eta_seconds": {"service", "series"},
    "opsmend_rootcause_duration_seconds": set(), "opsmend_rootcause_cannot_tell": set(),
    "opsmend_remediate_plans": {"source", "decision"}, "opsmend_remediate_gate_blocks": {"gate"},
    "opsmend_remediate_runs": {"action", "verdict"}, "opsmend_time_to_detect_seconds": set(),
    "opsmend_time_to_mend_seconds": set(), "opsmend_llm_tokens": {"direction"}, "opsmend_llm_cost_usd": set(),
}


def check_gets(shop: Any) -> set[str]:
    """Call every GET route with the ids that are there, validate what it says; the paths called."""
    document = shop.get("/api/openapi.json")
    incidents = shop.get("/api/v1/incidents")["incidents"]
    plans, runs = shop.get("/api/v1/plans")["plans"], shop.get("/api/v1/runs")["runs"]
    ids = {"incident_id": incidents, "plan_id": plans, "run_id": runs}
    called = set()
    for path, operations in document["paths"].items():
        if "get" not in operations or path == "/events":  # a stream; it has a test of its own
            continue
        needed = [name for name in ids if f"{{{name}}}" in path]
        for found in ids[needed[0]] if needed else [None]:
            answer = shop.client.get(path.format(**{needed[0]: found["id"]}) if needed else path)
            assert answer.status_code == 200, (path, answer.text)
            called.add(path)
            content = operations["get"]["responses"]["200"]["content"]
            media_type = answer.headers["content-type"].partition(";")[0]
            assert media_type in content, path
            if schema := content[media_type].get("schema"):
                assert path.startswith("/api/v1/")
                check(answer.json(), schema, document)
        if needed:
            missing = shop.client.get(path.format(**{needed[0]: "no-such-id"}))
            assert missing.status_code == 404
            check_problem(missing, document)
    return called


def check(body: Any, schema: dict[str, Any], document: dict[str, Any]) -> None:
    whole = {**schema, "components": document["components"]}
    jsonschema.Draft202012Validator(whole, format_checker=jsonschema.FormatChecker()).validate(body)


def check_problem(answer: httpx.Response, document: dict[str, Any]) -> None:
    assert answer.headers["content-type"] == "application/problem+json"
    check(answer.json(), {"$ref": "#/components/schemas/Problem"}, document)
    assert answer.json()["status"] == answer.status_code


def test_a_quiet_system_answers_as_documented(shop: Any) -> None:
    shop.feed(40)
    called = check_gets(shop)
    assert {"/api/v1/incidents", "/api/v1/services", "/api/v1/actions", "/api/v1/repairs", "/readyz"} <= called
    assert {s["name"] for s in shop.get("/api/v1/services")["services"]} == {"front", "checkout"}
    assert shop.get("/api/v1/incidents") == {"incidents": [], "next_cursor": None}


def test_an_incident_with_its_plan_answers_as_documented(shop: Any) -> None:
    shop.is_up = False
    (plan,) = shop.wait_feeding(lambda: shop.get("/api/v1/plans?state=proposed")["plans"], "nothing was planned")
    assert (plan["action"], plan["target"]) == ("shop.restart", "checkout")
    called = check_gets(shop)
    assert {"/api/v1/incidents/{incident_id}", "/api/v1/incidents/{incident_id}/diagnoses",
            "/api/v1/plans/{plan_id}"} <= called
    (incident,) = shop.get("/api/v1/incidents?state=open&service=checkout")["incidents"]
    assert shop.get("/api/v1/incidents?state=open&service=nobody")["incidents"] == []
    full = shop.client.get(f"/api/v1/incidents/{incident['id']}")
    assert full.json()["diagnosis"]["suspects"][0]["service"] == "checkout"
    again = shop.client.get(f"/api/v1/incidents/{incident['id']}", headers={"if-none-match": full.headers["etag"]})
    assert again.status_code in (304, 200)  # 200 where it has just been diagnosed anew
    assert shop.calls == []


def test_a_decision_binds_the_plan_and_is_taken_once(shop: Any) -> None:
    document = shop.get("/api/openapi.json")
    (plan,) = shop.get("/api/v1/plans?state=proposed")["plans"]
    path = f"/api/v1/plans/{plan['id']}/decision"
    wrong = shop.client.post(path, json={"decision": "approve", "plan_hash": "0" * 64})
    assert wrong.status_code == 409
    check_problem(wrong, document)
    assert shop.calls == []
    right = shop.client.post(path, json={"decision": "approve", "plan_hash": plan["hash"], "by": "ana", "reason": "yes"})
    assert right.status_code == 200
    check(right.json(), {"$ref": "#/components/schemas/Plan"}, document)
    assert shop.client.post(path, json={"decision": "reject", "plan_hash": plan["hash"]}).status_code == 409
    shop.wait(lambda: shop.calls, "the action was not called")
    run = shop.wait_feeding(lambda: [r for r in shop.get("/api/v1/runs")["runs"] if r["state"] == "finished"],
                            "the run did not end")[0]
    assert run["verdict"] == "fixed", shop.get(f"/api/v1/runs/{run['id']}")
    assert shop.calls == ["/restart/checkout"]
    assert "/api/v1/runs/{run_id}" in check_gets(shop)
    assert shop.client.post(f"/api/v1/runs/{run['id']}/cancel", json={}).status_code == 409


def test_split_merge_and_close(shop: Any) -> None:
    shop.wait_feeding(lambda: not shop.get("/api/v1/incidents?state=open")["incidents"], "the incident stays open")
    assert shop.client.put("/api/v1/repairs", json={"stopped": True}).json()["stopped"] is True
    shop.is_up = False
    incident = shop.wait_feeding(lambda: [i for i in shop.get("/api/v1/incidents?state=open")["incidents"]
                                          if len(i["signals"]) > 1], "no incident with two signals")[0]
    base = f"/api/v1/incidents/{incident['id']}"
    assert shop.client.post(f"{base}/split", json={"signal_ids": ["no-such"]}).status_code == 409
    part = shop.client.post(f"{base}/split", json={"signal_ids": [incident["signals"][0]["id"]]})
    assert part.status_code == 200 and part.json()["split_from"] == incident["id"]
    merged = shop.client.post(f"/api/v1/incidents/{part.json()['id']}/merge", json={"into": incident["id"]})
    assert merged.status_code == 200 and len(merged.json()["signals"]) == len(incident["signals"])
    assert shop.get(f"/api/v1/incidents/{part.json()['id']}")["state"] == "merged"
    closed = shop.client.post(f"{base}/close", json={"reason": "a test", "by": "ana"})
    assert (closed.status_code, closed.json()["state"]) == (200, "closed")
    assert [shop.get(base)[key] for key in ("closed_by", "closed_reason")] == ["ana", "a test"]
    assert shop.client.post(f"{base}/close", json={}).status_code == 409
    for wrong in ({"service": "nobody"}, {"service": "checkout", "peer": "front"}, {"service": "checkout", "instance": "x"},
                  {"service": "checkout", "also": [{"service": "nobody"}]}):
        assert shop.client.put(f"{base}/cause", json=wrong).status_code == 409
    assert shop.client.put(f"/api/v1/incidents/{part.json()['id']}/cause", json={"service": "checkout"}).status_code == 409
    assert shop.get(base)["cause"] is None
    said = shop.client.put(f"{base}/cause", json={"service": "checkout", "by": "ana"})
    assert said.status_code == 200
    check(said.json(), {"$ref": "#/components/schemas/ConfirmedCause"}, shop.get("/api/openapi.json"))
    assert shop.get(base)["cause"] == said.json()
    for wrong in ({}, {"nothing": True, "service": "checkout"}, {"peer": "front"}, {"nothing": True, "peer": "front"},
                  {"service": "checkout", "also": [{"peer": "front"}]}, {"instance": "front-1"},
                  {"nothing": True, "also": [{"service": "front"}]}):
        assert shop.client.put(f"{base}/cause", json=wrong).status_code == 422, wrong
    nothing = shop.client.put(f"{base}/cause", json={"nothing": True, "by": "ana"})
    assert (nothing.status_code, nothing.json()["service"], nothing.json()["peer"]) == (200, "", "")
    assert shop.get(base)["cause"] == nothing.json()
    shop.is_up = True
    shop.feed(8)
    check_gets(shop)
    assert shop.client.put("/api/v1/repairs", json={"stopped": False, "mode": "observe"}).json()["mode"] == "observe"


def test_pages_hold_every_incident_once(shop: Any) -> None:
    whole = [i["id"] for i in shop.get("/api/v1/incidents?limit=500")["incidents"]]
    paged, cursor = [], ""
    while True:
        page = shop.get(f"/api/v1/incidents?limit=1&cursor={cursor}")
        paged += [i["id"] for i in page["incidents"]]
        if (cursor := page["next_cursor"]) is None:
            break
    assert paged == whole and len(whole) >= 3
    assert shop.client.get("/api/v1/incidents?cursor=nonsense").status_code == 400


def test_events_go_on_where_a_listener_left(shop: Any) -> None:
    def listen(headers: dict[str, str], count: int) -> list[tuple[int, str]]:
        seen: list[tuple[int, str]] = []
        with httpx.stream("GET", f"{shop.url}/events", headers=headers, timeout=20) as stream:
            number = 0
            for line in stream.iter_lines():
                if line.startswith("id: "):
                    number = int(line[4:])
                elif line.startswith("event: io."):
                    seen.append((number, line[7:]))
                    if len(seen) == count:
                        return seen
        return seen

    first = listen({"last-event-id": "0"}, 6)
    rest = listen({"last-event-id": str(first[2][0])}, 3)
    assert rest == first[3:]
    assert "io.opsmend.incident.opened" in {kind for _, kind in listen({"last-event-id": "0"}, 30)}
    assert shop.client.get("/events", headers={"last-event-id": "x"}).status_code == 400


def test_what_senders_send_is_taken_as_they_expect(shop: Any) -> None:
    now = "2026-09-21T12:00:00Z"
    alert = {"labels": {"alertname": "Slow", "service": "front"}, "annotations": {}, "startsAt": now,
             "endsAt": "0001-01-01T00:00:00Z"}
    webhook = {"version": "4", "groupKey": "g", "status": "firing", "alerts": [{**alert, "status": "firing"}]}
    change = {"service": "front", "kind": "rollout", "ref": "v2", "old": "v1", "ts": shop.second, "actor": "ci"}
    before = shop.service.queries.totals()
    posts = [("/hooks/alertmanager", json.dumps(webhook)), ("/api/v2/alerts", json.dumps([alert])),
             ("/hooks/changes", json.dumps(change)), ("/v1/logs", '{"resourceLogs": []}')]
    for path, body in posts:
        answer = shop.client.post(path, content=body, headers={"content-type": "application/json"})
        assert answer.status_code == 200, (path, answer.text)
    empty = shop.client.post("/v1/traces", content=b"", headers={"content-type": "application/x-protobuf"})
    assert (empty.status_code, empty.content) == (200, b"")

    def grown() -> bool:
        totals = shop.service.queries.totals()
        return bool(totals.get("alerts", 0) - before.get("alerts", 0) == 2
                    and totals.get("changes", 0) - before.get("changes", 0) == 1)

    shop.wait(grown, "alerts and changes did not arrive")
    assert shop.service.queries.totals().get("dead", 0) == before.get("dead", 0)
    for path, body in (("/api/v2/alerts", "{}"), ("/api/v2/alerts", '[{"labels": 1}]')):
        refused = shop.client.post(path, content=body, headers={"content-type": "application/json"})
        assert refused.status_code == 400
        check_problem(refused, shop.get("/api/openapi.json"))


def test_every_promised_metric_is_exported_with_bounded_labels(shop: Any) -> None:
    text = shop.client.get("/metrics").text
    found = {f.name: f for f in text_string_to_metric_families(text)}
    assert set(METRICS) <= set(found)
    page = (Path(__file__).parents[3] / "docs" / "metrics.md").read_text()
    for name, family in found.items():
        if name.endswith("_created"):  # when a counter began; the client adds it to each
            continue
        assert f"`{name}{'_total' if family.type == 'counter' else ''}`" in page
    for name, labels in METRICS.items():
        for sample in found[name].samples:
            assert set(sample.labels) - {"le"} == labels, sample
    value = {(s.name, *sorted(s.labels.values())): s.value for f in found.values() for s in f.samples}
    assert value["opsmend_ingest_records_total", "decoded", "otlp-json"] > 10
    assert value["opsmend_remediate_runs_total", "fixed", "shop.restart"] == 1
    assert value["opsmend_remediate_plans_total", "proposed", "rule"] >= 1
    assert value["opsmend_remediate_plans_total", "approved", "rule"] == 1
    assert value["opsmend_time_to_detect_seconds_count",] >= 2
    assert value["opsmend_time_to_mend_seconds_count",] == 1
    assert 2 <= value["opsmend_time_to_mend_seconds_sum",] < 120
    assert value["opsmend_rootcause_duration_seconds_count",] >= 2
    assert value["opsmend_rootcause_duration_seconds_sum",] > 0
    assert value["opsmend_detect_signals_total", "process_state"] >= 1
    assert value["opsmend_ingest_lag_records", "metrics"] == 0
    assert not [k for k, v in value.items() if math.isnan(v)]


@pytest.mark.parametrize("path", ["/v1/logs", "/api/v1/write"])
def test_a_body_that_is_no_telemetry_of_that_path_is_refused(shop: Any, path: str) -> None:
    answer = shop.client.post(path, content=b"x", headers={"content-type": "text/csv"})
    assert answer.status_code == 415
    check_problem(answer, shop.get("/api/openapi.json"))
