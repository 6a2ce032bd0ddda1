"""Every page: accessible in both themes, small, usable at 400 pixels and with the keyboard, deaf to markup."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from dashboard_browser import serve, watched
from dashboard_scene import EVIL, S, T, ident, plan, scene, signal
from playwright.sync_api import Browser, Page, Response, expect
from screenshots import PAGES

from detect.types import Evidence
from ingest.types import Change, SeriesKey
from opsmend.api.port_memory import MemoryPort
from opsmend.api.security import ApiConfig
from opsmend.dashboard import pages
from remediate.types import Run, StepRecord
from rootcause.types import Diagnosis, Suspect

AXE = Path(__file__).parent / "vendor" / "axe.min.js"
ALL = {**PAGES, "incident": f"/incidents/{ident('checkout')}", "undecided": f"/incidents/{ident('search')}",
       "mended": f"/incidents/{ident('cache')}", "missing": "/incidents/none"}
LARGEST = 150_000


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serve(scene()) as at:
        yield at


@pytest.fixture
def port() -> MemoryPort:
    return scene()


def violations(page: Page) -> list[str]:
    """What axe-core finds, in one line each. Run from outside: the page's own rules let no foreign script in."""
    session = page.context.new_cdp_session(page)
    session.send("Runtime.evaluate", {"expression": AXE.read_text()})
    found = session.send("Runtime.evaluate", {
        "expression": "axe.run(document, {resultTypes: ['violations']}).then(r => JSON.stringify(r.violations))",
        "awaitPromise": True, "returnByValue": True})
    assert "value" in found["result"], found
    return [f"{v['id']}: {v['help']}: {[(n['target'], n['failureSummary']) for n in v['nodes'][:3]]}"
            for v in json.loads(found["result"]["value"])]


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing(browser: Browser, url: str, theme: Any) -> None:
    with watched(browser, viewport={"width": 1280, "height": 900}, color_scheme=theme) as (page, troubles):
        for name, path in ALL.items():
            page.goto(url + path)
            expect(page.locator("h1")).to_be_visible()
            if name == "incident":
                expect(page.locator(".uplot")).to_have_count(6)
            assert violations(page) == [], name
        page.goto(url)
        page.keyboard.press("?")
        expect(page.locator("#help")).to_be_visible()
        assert violations(page) == [], "help"
        page.keyboard.press("Escape")
        page.keyboard.press("!")
        expect(page.locator("#ask")).to_be_visible()
        assert violations(page) == [], "question"
        assert [t for t in troubles if "404" not in t] == []


def test_a_narrow_screen_has_one_column(browser: Browser, url: str) -> None:
    with watched(browser, viewport={"width": 400, "height": 800}) as (page, _):
        for name, path in ALL.items():
            page.goto(url + path)
            expect(page.locator("h1")).to_be_visible()
            wide = page.evaluate("""() => [document.documentElement.scrollWidth, ...[...document.querySelectorAll(
                "h1, h2, p, li, button, .panel")].map(e => e.getBoundingClientRect().right)]""")
            assert max(wide) <= 400, name
        assert violations(page) == []
        page.goto(url)
        page.mouse.wheel(0, 1500)
        expect(page.locator("#stop-button")).to_be_in_viewport()  # always in sight


def test_small_and_soon(browser: Browser, url: str) -> None:
    static = Path(pages.__file__).parent / "static"
    assert sum(f.stat().st_size for f in static.rglob("*.*") if f.suffix in (".js", ".css")) < LARGEST, "as they are"
    for path in ALL.values():
        with watched(browser) as (page, _):
            heard: list[Response] = []
            page.on("response", lambda r, heard=heard: heard.append(r))
            page.goto(url + path, wait_until="load")
            page.wait_for_timeout(300)
            sent = {r.url: r.request.sizes()["responseBodySize"] for r in heard if "/events" not in r.url}
            print(path, sum(sent.values()), "bytes sent,", sum(len(r.body()) for r in heard if "/events" not in r.url))
            assert 20_000 < sum(sent.values()) < LARGEST / 2, (path, sent)
            assert all(u.startswith(url) for u in sent), "nothing is asked of others"
    with watched(browser) as (page, _):
        page.goto(url)  # warm
        page.goto(url)
        page.wait_for_timeout(200)
        paint = page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")
        print("first paint", paint, "ms")
        assert paint < 1000, "200 ms on an idle machine; this one may be busy"


def test_without_scripts_everything_can_be_done(browser: Browser, port: MemoryPort) -> None:
    with serve(port) as url, watched(browser, java_script_enabled=False) as (page, _):
        page.goto(url)
        page.get_by_role("link", name="Checkout fails").click()
        page.get_by_role("button", name="Reject").click()
        expect(page.locator("#plan")).to_contain_text("Rejected by operator")
        page.goto(f"{url}/policy")
        page.get_by_label("Name").fill("ana <b>")
        page.get_by_label("Theme").select_option("dark")
        page.get_by_role("button", name="Keep").click()
        assert page.locator("html").get_attribute("data-theme") == "dark"
        page.locator("#stop button").click()
        expect(page.locator("#stop")).to_contain_text("Repairs are stopped")
        assert port.control().stopped and port.control().changed_by == "ana <b>"


def test_stop_asks_once(browser: Browser, port: MemoryPort) -> None:
    with serve(port) as url, watched(browser) as (page, troubles):
        page.goto(url)
        page.keyboard.press("!")
        expect(page.locator("#ask")).to_contain_text("Stop all repairs?")
        page.keyboard.press("Escape")
        expect(page.locator("#ask")).to_be_hidden()
        assert not port.control().stopped
        for _ in range(4):  # in one breath: the echo of a closed question must not swallow the next answer
            page.keyboard.press("!")
            page.keyboard.press("Escape")
        page.keyboard.press("!")
        page.keyboard.press("Enter")
        expect(page.locator("#stop")).to_contain_text("Repairs are stopped: resume")
        assert port.control().stopped
        assert troubles == []


def test_exactly_the_plan_that_was_read_is_approved(browser: Browser, port: MemoryPort) -> None:
    with serve(port) as url, watched(browser) as (page, _):
        page.goto(url)
        page.keyboard.press("2")  # the second row: nothing waits there
        page.keyboard.press("a")
        expect(page.locator("#note")).to_contain_text("No plan of this row waits for you")
        page.keyboard.press("k")
        read = port.plans(state="proposed")[0]
        other = plan("another", read.incident_id, "Roll payments back to 4.1.6", "payments", "release.rollback", T + S)
        port.put_plan(msgspec.structs.replace(read, state="expired"))
        port.put_plan(other)
        expect(page.locator("#open")).to_contain_text("4.1.6")
        page.keyboard.press("a")  # pressed for the plan that was there a moment ago
        expect(page.locator("#note")).to_contain_text("The plan has just changed")
        assert {p.state for p in port.plans(incident_id=read.incident_id)} == {"expired", "proposed"}
        page.wait_for_timeout(1300)
        page.keyboard.press("a")
        expect(page.locator("#open .decide")).to_have_count(0)
        decided = port.plan(other.id)
        assert decided is not None and decided.state == "approved" and decided.decided_by == "operator"


def test_a_refused_decision_says_why(browser: Browser, port: MemoryPort) -> None:
    with serve(port, ApiConfig(event_poll_seconds=5)) as url, watched(browser) as (page, _):
        page.goto(f"{url}/incidents/{ident('checkout')}")
        waiting = port.plans(state="proposed")[0]
        page.route("**/incidents/*", lambda route: route.abort())  # the page can't learn of it
        port.put_plan(msgspec.structs.replace(waiting, state="rejected", decided_by="lee"))
        page.keyboard.press("a")
        expect(page.locator("#note")).to_contain_text("Not done: the plan is rejected already")


def test_a_page_says_since_when_it_is_out_of_date(browser: Browser, port: MemoryPort) -> None:
    with watched(browser) as (page, _):
        with serve(port) as url:
            page.goto(url)
            expect(page.locator("#stale")).to_be_hidden()
        expect(page.locator("#stale")).to_contain_text("Nothing heard since", timeout=20_000)


def test_markup_in_telemetry_is_text(browser: Browser, port: MemoryPort) -> None:
    evil = signal("evil", "alert", EVIL, T - 90 * S, text=EVIL, series=EVIL, template_id=EVIL, instance=EVIL)
    bad = msgspec.structs.replace(port.incidents(state="open").items[0], id="evil", title=EVIL, services=(EVIL,),
                                  signals=(evil,), first_signal_ns=T - 90 * S)
    bad = msgspec.structs.replace(bad, members=(msgspec.structs.replace(bad.members[0], signal_id=evil.id, why=EVIL),))
    port.put_incident(bad)
    port.templates[EVIL] = EVIL
    change = Change(T - 60 * S, EVIL, "rollout", EVIL, EVIL, EVIL)
    port.change_log.append(change)
    port.put_diagnosis(Diagnosis("evil", T, (Suspect(EVIL, 0.9, change=change, evidence=(Evidence(EVIL),)),), 0.1, False,
                                 EVIL, ""))
    port.put_plan(plan(EVIL, "evil", EVIL, EVIL, EVIL, T, rationale=EVIL, params={"service": EVIL}, decided_reason=EVIL))
    port.put_run(Run("evil-run", ident(EVIL), "evil", EVIL, EVIL, "running", T, steps=(
        StepRecord("evil-run", EVIL, EVIL, "failed", T, T, 1, EVIL, EVIL),)))
    port.service_graph = type(port.service_graph)((*port.service_graph.services, EVIL),
                                                  port.service_graph.edges | {("front", EVIL)})
    keys = tuple(SeriesKey(EVIL, EVIL) if k.name == "db.pool.in_use" else k for k in port.recorded.series)
    port.recorded = type(port.recorded)(port.recorded.ts_ns, keys, port.recorded.values)
    with serve(port) as url, watched(browser, viewport={"width": 1280, "height": 900}) as (page, troubles):
        for path in (*PAGES.values(), "/incidents/evil"):
            page.goto(url + path)
            before = page.evaluate("opsmend.renders")
            port.put_incident(msgspec.structs.replace(bad, severity="warning"))  # drawn by script as well
            for _ in range(100):
                page.wait_for_timeout(50)
                if page.evaluate("opsmend.renders") > before:
                    break
            assert page.evaluate("window.pwned === undefined && !document.querySelector('img')"), path
        expect(page.locator("h1")).to_have_text(EVIL)
        expect(page.locator("#alerts")).to_contain_text("onerror")
        assert troubles == []
