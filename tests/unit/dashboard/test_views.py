"""What the pages show of the sample scene, and what the forms answer."""

import dataclasses
from itertools import pairwise

import httpx
import msgspec
import pytest
from dashboard_scene import S, T, ident, incident, scene, signal

from opsmend.api.app import create_app
from opsmend.api.port import IngestStats
from opsmend.api.port_memory import MemoryPort
from opsmend.causes import Culprit
from opsmend.dashboard.charts import charts
from opsmend.dashboard.incident import incident_view
from opsmend.dashboard.now import now_view
from opsmend.dashboard.reading import Memory, Reading
from opsmend.dashboard.spread import cause_graph, spread
from rootcause.types import Diagnosis, ServiceGraph, Suspect

HOST = "http://localhost:8420"


@pytest.fixture
def port() -> MemoryPort:
    return scene()


@pytest.fixture
def reading(port: MemoryPort) -> Reading:
    return Reading(port, Memory())


@pytest.fixture
def client(port: MemoryPort) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(create_app(port)), base_url=HOST,
                             headers={"origin": HOST})


def test_who_waits_for_a_person_comes_first(reading: Reading) -> None:
    view = now_view(reading)
    assert [r["i"].id for r in view["rows"]] == [ident("checkout"), ident("search"), ident("pool")]
    assert view["needs"] == 1 and all(r["spark"] for r in view["rows"])
    assert [r["word"] for r in view["mended"]] == ["fixed", "undone"]
    assert "terminated 1 blocker · verified over 1 min · nobody was woken" in view["mended"][0]["done"]
    assert "state restored" in view["mended"][1]["done"] and "approved by ana" in view["mended"][1]["done"]


def test_what_is_coming_names_the_change_that_started_it(reading: Reading) -> None:
    (coming,) = now_view(reading)["coming"]
    assert coming["when"] == "14 to 19 min" and coming["cause"] == "since the release 2.9.0 at 13:58"
    assert coming["incident_id"] == ident("pool") and coming["f"].past


def test_lanes_hold_the_last_day(reading: Reading) -> None:
    lanes = {lane["service"]: lane for lane in now_view(reading)["lanes"]}
    assert lanes["search"]["label"] == "search: 2 incidents, 0 repairs verified, 1 change"
    assert lanes["postgres"]["label"] == "postgres: 1 incident, 1 repair verified, 0 changes"
    assert all(m["x"] >= 0 and m["x"] + m["w"] <= 100.5 for lane in lanes.values() for m in lane["marks"])


def test_charts_begin_with_the_cause_and_end_with_what_is_usual(port: MemoryPort, reading: Reading) -> None:
    found = port.incident(ident("checkout"))
    assert found is not None
    view = charts(reading, found, port.diagnosis(found.id))
    assert [(c["service"], c["label"]) for c in view["lines"]] == [
        ("payments", "errors"), ("payments", "errors of calls to bank"), ("orders", "errors"), ("front", "errors"),
        ("payments", "p95"), ("payments", "CPU")]
    assert [c["decides"] for c in view["lines"]] == ["payments"] * 4 + [""] * 2
    assert [c["words"] for c in view["lines"]] == [
        "0.2 % → 31 %", "0.1 % → 30 %", "0.2 % → 36 %", "0.2 % → 38 %", "as usual", "as usual"]
    (mark,) = view["marks"]
    assert (mark["what"], mark["service"], mark["old"]) == ("release 4.2.0", "payments", "4.1.7")
    assert view["start"] < mark["ts_ns"] < found.first_signal_ns < view["end"] == T
    body = view["json"]
    assert [s.quiet for s in body.series] == [False] * 4 + [True] * 2
    assert body.onset == found.first_signal_ns / 1e9 and body.series[1].onset == body.onset + 1


def test_an_incident_has_its_evidence(port: MemoryPort, reading: Reading) -> None:
    found = port.incident(ident("checkout"))
    assert found is not None
    view = incident_view(reading, found)
    assert [s["word"] for s in view["story"]] == ["first sign", "incident", "diagnosis", "plan", "repair", "verified"]
    assert [s["mark"] for s in view["story"]] == ["done", "done", "done", "on", "", ""]
    assert {(line["b"], line["a"], line["after"]) for line in view["g"]["lines"] if line["spread"]} == {
        ("payments", "orders", "+3 s"), ("orders", "front", "+1 s")}
    assert [n["name"] for n in view["g"]["nodes"] if n["is_suspect"]] == ["payments"]
    assert view["alerts"][1].template == "TypeError: unsupported currency <*>"
    assert dict(view["facts"])["record"] == "worked 11 of 12 times here"
    # 134 s at 41 requests a second of which 38 % fail, less the rise of 20 s
    assert 1600 < view["failed"] < 2100


async def test_pages_say_what_must_be_said(client: httpx.AsyncClient) -> None:
    page = (await client.get(f"/incidents/{ident('checkout')}")).text
    for said in ("none of these", "Approves exactly this plan", "until 14:36", "if not", "would not remove 4.2.0",
                 "mode is suggest: a person must approve", "caller of payments, 3 s later", "Against"):
        assert said in page, said
    runs = (await client.get("/runs")).text
    for said in ("terminated 1 blocker", "by itself: every gate passed", "approved by ana", "undo of",
                 "Undone: what was there before is back", "2 series are back in their usual range"):
        assert said in runs, said
    assert "cannot tell: search (41 %), postgres (33 %), none of these (26 %)" in " ".join(
        (await client.get("/")).text.split())


async def test_no_page_carries_inline_script_or_style(client: httpx.AsyncClient) -> None:
    for path in ("/", "/incidents", f"/incidents/{ident('checkout')}", "/map", "/runs", "/policy", "/incidents/none"):
        answer = await client.get(path)
        assert " style=" not in answer.text and "<style" not in answer.text and " onclick" not in answer.text, path
        assert "<script>" not in answer.text and "unsafe" not in answer.headers["content-security-policy"]
    assert answer.status_code == 404 and "there is no incident with this id" in answer.text


async def test_forms_answer_scripts_and_browsers(client: httpx.AsyncClient, port: MemoryPort) -> None:
    waiting = port.plans(state="proposed")[0]
    path, form = f"/plans/{waiting.id}/decision", {"decision": "approve", "plan_hash": waiting.hash}
    refused = await client.post(path, data={**form, "plan_hash": "another"})
    assert refused.status_code == 409 and "not the plan you saw" in refused.text
    refused = await client.post(path, data={**form, "plan_hash": "another"}, headers={"hx-request": "true"})
    assert refused.status_code == 409 and refused.headers["content-type"] == "application/problem+json"
    assert (await client.post(path, data={"decision": "maybe"})).status_code == 422
    done = await client.post(path, data=form, headers={"hx-request": "true"})
    assert done.status_code == 204 and done.headers["x-opsmend-done"] == f"/incidents/{waiting.incident_id}"
    assert (await client.post(path, data=form)).status_code == 409, "once"
    assert (await client.post("/plans/none/decision", data=form)).status_code == 404


async def test_split_merge_and_close(client: httpx.AsyncClient, port: MemoryPort) -> None:
    path = f"/incidents/{ident('checkout')}"
    assert (await client.post(f"{path}/split", data={})).status_code == 409
    there = await client.post(f"{path}/split", data={"signal": [ident("f-err"), ident("f-slo")]})
    new = port.incident(there.headers["location"].rpartition("/")[2])
    assert new is not None and {s.service for s in new.signals} == {"front"} and new.split_from == ident("checkout")
    assert (await client.post(f"/incidents/{new.id}/merge", data={"into": ident("checkout")})).status_code == 303
    assert port.incident(new.id).state == "merged"  # type: ignore[union-attr]
    assert (await client.post(f"{path}/close")).status_code == 303
    assert port.incident(ident("checkout")).state == "closed"  # type: ignore[union-attr]
    assert ": not an incident" in (await client.get(path)).text.partition("· closed by ")[2][:60]


async def test_a_person_says_what_the_cause_was(client: httpx.AsyncClient, port: MemoryPort) -> None:
    path = f"/incidents/{ident('checkout')}"
    assert (await client.post(f"{path}/cause", data={"cause": ""})).status_code == 409
    assert (await client.post(f"{path}/cause", data={"cause": "x" * 501})).status_code == 409
    assert (await client.post("/incidents/none/cause", data={"cause": "pay"})).status_code == 404
    assert "Say what it was" in (await client.get(path)).text
    assert (await client.post(f"{path}/cause", data={"cause": "pay"})).status_code == 303
    hostile = "front\t<script>alert(1)</script>"
    assert (await client.post(f"{path}/cause", data={"cause": hostile}, headers={"hx-request": "true"})).status_code == 204
    said = port.cause(ident("checkout"))
    assert said is not None and (said.service, said.peer) == ("front", "<script>alert(1)</script>")
    page = (await client.get(path)).text
    assert "Caused by" in page and "&lt;script&gt;alert(1)" in page and "<script>alert(1)" not in page
    assert '<option value="\t">nothing: a false alarm' in page
    assert (await client.post(f"{path}/cause", data={"cause": "\t"})).status_code == 303
    said = port.cause(ident("checkout"))
    assert said is not None and (said.service, said.peer) == ("", "")
    page = (await client.get(path)).text
    assert "Nothing was wrong" in page and "Caused by" not in page
    for wrong in ("\tpay", "", ["pay", "\t"], ["pay"] * 11, "pay\t\t" + "x" * 501):
        assert (await client.post(f"{path}/cause", data={"cause": wrong})).status_code == 409, wrong


async def test_an_instance_a_call_and_two_at_once_may_be_the_cause(client: httpx.AsyncClient, port: MemoryPort) -> None:
    path = f"/incidents/{ident('checkout')}"
    page = (await client.get(path)).text
    assert '<option value="payments\t\tpayments-2">payments: payments-2' in page
    assert (await client.post(f"{path}/cause", data={"cause": ["payments\t\tpayments-2", "orders\tcart"]})).status_code == 303
    noted = port.cause(ident("checkout"))
    assert noted is not None and noted.culprits == (Culprit("payments", instance="payments-2"), Culprit("orders", "cart"))
    assert "Caused by <b>payments (payments-2) and calls orders → cart</b>" in (await client.get(path)).text


async def test_who_is_not_named_is_said_why(client: httpx.AsyncClient, port: MemoryPort) -> None:
    path, said = f"/incidents/{ident('checkout')}", port.diagnosis(ident("checkout"))
    assert said is not None
    (first, *rest) = said.suspects
    faint = msgspec.structs.replace(first, probability=0.05)
    close = msgspec.structs.replace(rest[0], probability=0.8)
    for suspects, p_none, words in (
            ((), 1.0, "<b>Cannot tell</b>: too little is measured"),
            ((faint,), 0.9, "<b>Probably none of these</b>: nothing is"),
            ((first, close), 0.0, "payments is not far enough ahead of orders"), ((faint,), 0.04, "ahead of none of these"),
            ((first, *rest), 0.06, "no open alert is on payments")):
        port.put_diagnosis(msgspec.structs.replace(said, suspects=suspects, p_none=p_none, cannot_tell=True))
        page = (await client.get(path)).text
        assert words in page and 'class="meter first"' not in page, words
        assert ("The series that decided it" in page) == bool(suspects), "nothing decided where nobody is suspected"


async def test_a_large_graph_has_a_row_for_itself_and_says_who_is_not_drawn(client: httpx.AsyncClient, port: MemoryPort,
                                                                             reading: Reading) -> None:
    names = [f"shop-part{n:02}-service-eu" for n in range(30)]
    port.service_graph = ServiceGraph(tuple(names), frozenset(pairwise(names)))
    broken = incident("large", "all of it", "critical", [
        (signal(f"large-{n}", "latency", s, T - (60 - n) * S), "called by") for n, s in enumerate(names[:20])],
        opened=T - 60 * S)
    port.put_incident(broken)
    drawn = spread(reading, broken, None)
    assert len(drawn["nodes"]) == 12 and drawn["others"] == names[12:20] and drawn["is_wide"]
    assert {n["label"] for n in drawn["nodes"]} == {(f"shop-part{n:02}-", "service-eu") for n in range(12)}
    page = (await client.get(f"/incidents/{broken.id}")).text
    assert "Not drawn, though they have signs: shop-part12-service-eu" in page
    assert page.index('id="plan"') < page.index('id="spread"') < page.index('id="charts"')
    small = (await client.get(f"/incidents/{ident('checkout')}")).text
    assert small.index('id="spread"') < small.index('id="plan"')


async def test_names_hide_nothing(client: httpx.AsyncClient, port: MemoryPort) -> None:
    name = "pay\x00\x1b[31m\u202e\u200b<b>ments"
    broken = incident("hidden", f"{name} fails", "critical", [(signal("hidden", "latency", name, T - 60 * S), "it")],
                      opened=T - 60 * S)
    port.put_incident(broken)
    port.put_diagnosis(Diagnosis(broken.id, T, (Suspect(name, 0.9, instances=(name,)),), 0.1, False, name, name))
    port.service_graph = ServiceGraph((name,), frozenset({("front", name)}), rests_on=frozenset({(name, f"{name}2")}),
                                      kinds={f"{name}2": "host"})
    for path in ("/", "/incidents", f"/incidents/{broken.id}", "/map"):
        page = (await client.get(path)).text
        assert "pay\ufffd\ufffd[31m\ufffd\ufffd&lt;b&gt;ments" in page, path
        assert not set(page) & set("\x00\x1b\u202e\u200b") and "<b>ments" not in page, path


async def test_silence_is_said(client: httpx.AsyncClient, port: MemoryPort) -> None:
    port.stats = IngestStats(0.0, 95.0, 2)
    assert "no telemetry since 14:23:20 UTC" in (await client.get("/")).text


def test_the_graph_is_told_by_probability_with_the_path(port: MemoryPort, reading: Reading) -> None:
    found = port.incident(ident("checkout"))
    assert found is not None
    graph = cause_graph(reading, found, port.diagnosis(found.id))
    nodes = {n.name: n for n in graph.nodes}
    assert {n: nodes[n].probability for n in ("payments", "orders", "bank", "front")} == {
        "payments": 0.83, "orders": 0.08, "bank": 0.03, "front": None}
    assert [n.name for n in graph.nodes if n.is_suspect] == ["payments"] and nodes["payments"].instances == ("payments-2",)
    assert graph.path == ("payments", "orders", "front") and [nodes[n].step for n in graph.path] == [0, 1, 2]
    assert [(e.caller, e.callee) for e in graph.edges if e.on_path] == [("front", "orders"), ("orders", "payments")]
    (call,) = [e for e in graph.edges if (e.caller, e.callee) == ("orders", "payments")]
    assert call.requests_per_second == pytest.approx(22, rel=0.1) and call.latency_seconds == pytest.approx(0.11, rel=0.1)
    assert call.error_ratio is None, "nobody measures it"
    assert (graph.p_none, graph.cannot_tell, nodes["bank"].kind) == (0.06, False, "external")


async def test_a_machine_as_the_cause_is_drawn_beneath_its_services(port: MemoryPort, reading: Reading,
                                                                     client: httpx.AsyncClient) -> None:
    found = port.incident(ident("checkout"))
    assert found is not None
    said = port.diagnosis(found.id)
    assert said is not None
    known = port.graph()
    port.service_graph = dataclasses.replace(known, kinds={**known.kinds, "node-7": "host"}, rests_on=frozenset({
        ("payments", "node-7"), ("stock", "node-7"), ("front", "node-8")}))
    machine = msgspec.structs.replace(said.suspects[0], service="node-7", probability=0.8, path=("node-7",), instances=(),
                                      kind="host")
    drawn = spread(reading, found, msgspec.structs.replace(said, suspects=(machine, *said.suspects)))
    node = {n["name"]: n for n in drawn["nodes"]}
    assert node["node-7"]["kind"] == "host" and node["node-7"]["is_suspect"] and node["node-7"]["heat"] == 4
    assert {(n["a"], n["b"]) for n in drawn["lines"] if n["rests"]} == {("payments", "node-7"), ("stock", "node-7")}
    assert node["node-7"]["x"] > node["payments"]["x"] and "node-8" not in node
    port.put_diagnosis(msgspec.structs.replace(said, suspects=(machine, *said.suspects)))
    page = (await client.get(f"/incidents/{found.id}")).text
    assert "node-7: unknown, host, cause" in page and page.count('class="rests"') == 3 and "runs on" in page
    assert '<option value="node-7">host node-7' in page and "<option>payments" in page
    port.service_graph = known  # machines are forgotten sooner than incidents: the diagnosis knows what it was
    assert (await client.post(f"/incidents/{found.id}/cause", data={"cause": ["node-7", "stock"]})).status_code == 303
    noted = port.cause(found.id)
    assert noted is not None and [(c.service, c.kind) for c in noted.culprits] == [("node-7", "host"), ("stock", "")]
    page = (await client.get(f"/incidents/{found.id}")).text
    assert "Caused by <b>host node-7 and stock</b>" in page and "<b>host node-7</b>" in page
    assert "node-7: unknown, host, cause" in page, "also on the graph"


def test_who_can_not_tell_marks_no_suspect_and_a_broken_call_is_an_edge(port: MemoryPort, reading: Reading) -> None:
    found = port.incident(ident("search"))
    assert found is not None
    unsure = port.diagnosis(found.id)
    assert unsure is not None
    graph = cause_graph(reading, found, unsure)
    assert graph.cannot_tell and not any(n.is_suspect for n in graph.nodes)
    assert {n.name: n.kind for n in graph.nodes}["postgres"] == "database"
    (first, *rest) = unsure.suspects
    edge = msgspec.structs.replace(first, service="front", peer="search", probability=0.8)
    told = cause_graph(reading, found, msgspec.structs.replace(unsure, suspects=(edge, *rest), cannot_tell=False))
    assert [(e.caller, e.callee) for e in told.edges if e.probability] == [("front", "search")]
    assert not any(n.is_suspect for n in told.nodes), "it is the way, neither of its ends"
    drawn = spread(reading, found, msgspec.structs.replace(unsure, suspects=(edge, *rest), cannot_tell=False))
    (line,) = [n for n in drawn["lines"] if n["is_suspect"]]
    assert (line["a"], line["b"], line["after"], line["heat"]) == ("front", "search", "cause 80 %", 4)
    nobody = cause_graph(reading, found, None)
    assert nobody.p_none is None and nobody.path == () and {n.probability for n in nobody.nodes} == {None}
