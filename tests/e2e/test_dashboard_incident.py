"""The page of an incident: a chart for each signal, alerts folded by key, split and merge; hostile names, many members."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from dashboard_browser import serve, watched
from dashboard_scene import EVIL, S, T, crowd, ident, incident, scene, signal
from playwright.sync_api import Browser, Page, expect
from test_dashboard_pages import violations

from detect.types import Breach, Incident
from opsmend.api.port_memory import MemoryPort
from opsmend.api.security import ApiConfig

SIZE = {"width": 1280, "height": 900}

FRAMES = """() => {
  let last = performance.now();
  const step = now => { window.spent.push(now - last); last = now; requestAnimationFrame(step); };
  window.spent = [];
  requestAnimationFrame(step);
}"""


@pytest.fixture
def port() -> MemoryPort:
    return scene()


def two_in_one(port: MemoryPort) -> Incident:
    """An incident that may be two, next to another one; one alert of it came three times."""
    first = T - 300 * S
    flaps = [msgspec.structs.replace(
        signal(f"flap-{n}", "alert", "cart", first + n * 60 * S, series="CartErrors", count=n + 1, is_open=n == 2),
        key="CartErrors") for n in range(3)]
    later = [signal("late-1", "latency", "stock", first + 200 * S, text="latency 3 s", series="http.server.error_ratio"),
             signal("late-2", "alert", "stock", first + 202 * S, series="StockSlow")]
    made = incident("double", "cart and stock are not well", "warning", [
        *((s, "started it" if s.id == flaps[0].id else "same service, later") for s in flaps),
        *((s, "connected through calls, 200 s later") for s in later)], opened=first)
    made = msgspec.structs.replace(
        made, maybe_two=True, note="it may be two: something began again at 14:21:40", again_ns=first + 200 * S,
        touches=(ident("search"),))
    port.put_incident(made)
    return made


@pytest.fixture
def opened(browser: Browser, port: MemoryPort) -> Iterator[tuple[Page, str, list[str]]]:
    with serve(port, ApiConfig(event_poll_seconds=0.05)) as url, watched(browser, viewport=SIZE) as (page, troubles):
        yield page, url, troubles


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_charts_show_forecast_limit_and_crossing(browser: Browser, port: MemoryPort, theme: Any) -> None:
    two_in_one(port)
    with serve(port) as url, watched(browser, viewport=SIZE, color_scheme=theme) as (page, troubles):
        page.goto(f"{url}/incidents/{ident('pool')}")
        expect(page.locator(".uplot")).to_have_count(2)
        chart = page.get_by_role("slider", name="orders db.pool.in use")
        label = chart.get_attribute("aria-label") or ""
        for said in ("9.66 → 14.4", "First sign 14:11:40", "Forecast 11", "Limit 20", "Prediction: crosses 14:37 to 14:42"):
            assert said in label, said
        chart.focus()
        page.keyboard.press("Home")
        first = chart.get_attribute("aria-valuetext") or ""
        page.keyboard.press("ArrowRight")
        second = chart.get_attribute("aria-valuetext") or ""
        assert first != second and "forecast" not in first[:4] and second > first, "time goes on to the right"
        expect(page.locator("#chart-said")).to_contain_text(second)
        page.keyboard.press("End")
        assert ", forecast 14" in (chart.get_attribute("aria-valuetext") or "")
        page.locator("#chart-table summary").click()
        expect(page.locator("#chart-table tbody tr").first).to_contain_text("crosses 14:37 to 14:42")
        assert violations(page) == []
        page.goto(f"{url}/incidents/{ident('double')}")
        expect(page.locator(".doubt")).to_contain_text("something began again at 14:21:40")
        page.keyboard.press("s")
        assert violations(page) == [], "split"
        assert troubles == []


def test_a_page_without_scripts_has_the_same_charts(browser: Browser, port: MemoryPort) -> None:
    with serve(port) as url, watched(browser, java_script_enabled=False) as (page, _):
        page.goto(f"{url}/incidents/{ident('pool')}")
        chart = page.locator("#charts .plot svg").first
        for what in ("band", "middle", "limit", "crossing", "value", "onset"):
            assert chart.locator(f"path.{what}").count() >= 1, what
        page.goto(f"{url}/incidents/{ident('checkout')}")
        assert page.locator("#charts .plot svg path.band").count() == 6
        assert page.locator("#charts .bar").count() == 2, "a log message and somebody's alert have no series: a lane each"
        page.get_by_text("Merge", exact=False).first.click()
        page.get_by_label("search is slow").check()
        page.get_by_role("button", name="Merge into it").click()
        expect(page.locator("h1")).to_contain_text("search is slow")


def test_alerts_are_folded_by_key(opened: tuple[Page, str, list[str]], port: MemoryPort) -> None:
    page, url, _ = opened
    two_in_one(port)
    page.goto(f"{url}/incidents/{ident('double')}")
    expect(page.locator("#alerts tbody tr")).to_have_count(3)
    expect(page.locator("#alerts")).to_contain_text("8 alerts folded into 3; 3 open, 0 over; 2 of other systems")
    row = page.locator("#alerts tbody tr").first
    for said in ("CartErrors", "other system", "cart", "14:18:20", "still open", "6 ×", "started it"):
        expect(row).to_contain_text(said)


def test_a_split_by_keyboard_is_seen_everywhere_at_once(browser: Browser, opened: tuple[Page, str, list[str]],
                                                        port: MemoryPort) -> None:
    page, url, troubles = opened
    whole = two_in_one(port)
    with watched(browser, viewport=SIZE) as (other, _):
        other.goto(f"{url}/incidents/{whole.id}")
        other.evaluate("window.neverReloaded = true")
        page.goto(f"{url}/incidents/{whole.id}")
        page.wait_for_load_state("load")
        page.keyboard.press("s")
        expect(page.locator("#split input[name=signal]:checked")).to_have_count(2)  # what began again is chosen
        page.locator("#split input[name=signal]").first.focus()
        page.keyboard.press("Enter")
        expect(page.locator("#ask")).to_contain_text("Make an incident of its own of 2 alerts?")
        page.keyboard.press("Escape")
        assert len(port.incident(whole.id).signals) == 5, "nothing without a yes"  # type: ignore[union-attr]
        page.keyboard.press("Enter")
        page.keyboard.press("Enter")
        expect(page.locator(".head")).to_contain_text("split from another incident")
        expect(page.locator("#alerts tbody tr")).to_have_count(2)
        expect(other.locator("#alerts tbody tr")).to_have_count(1, timeout=5000)
        assert other.evaluate("window.neverReloaded") is True
    assert troubles == []


def test_a_merge_by_keyboard(browser: Browser, opened: tuple[Page, str, list[str]], port: MemoryPort) -> None:
    page, url, troubles = opened
    whole = two_in_one(port)
    with watched(browser, viewport=SIZE) as (other, _):
        other.goto(f"{url}/incidents/{whole.id}")
        page.goto(f"{url}/incidents/{whole.id}")
        page.get_by_role("link", name="Merge with “search is slow").click()
        expect(page.locator("#merge input:checked")).to_be_focused()
        expect(page.locator("#merge label").first).to_contain_text("next to this one in place and time")
        page.keyboard.press("Enter")
        expect(page.locator("#ask")).to_contain_text("of this incident into “search is slow: 1.9 s, usually 0.2 s”?")
        page.keyboard.press("Enter")
        expect(page.locator("h1")).to_contain_text("search is slow")
        expect(page.locator("#alerts tbody tr")).to_have_count(5)
        expect(other.locator(".head")).to_contain_text("merged into another incident", timeout=5000)
    assert troubles == []


def test_what_can_not_be_done_is_said(opened: tuple[Page, str, list[str]], port: MemoryPort) -> None:
    page, url, _ = opened
    whole = two_in_one(port)
    page.goto(f"{url}/incidents/{ident('checkout')}")
    page.wait_for_load_state("load")
    page.keyboard.press("s")
    page.keyboard.press("Enter")  # none is chosen
    expect(page.locator("#note")).to_contain_text("Choose the alerts that make an incident of their own")
    for service in port.incident(ident("checkout")).services:  # type: ignore[union-attr]
        page.locator(f"#split input[value={service}]").check()
    page.keyboard.press("Enter")
    expect(page.locator("#ask")).to_contain_text("everything of front")
    page.keyboard.press("Enter")
    expect(page.locator("#note")).to_contain_text("Not done: a split takes some of the incident's signals, not all")
    page.keyboard.press("Escape")
    page.keyboard.press("m")
    page.locator(f"#merge input[value='{whole.id}']").check()
    page.keyboard.press("Enter")
    expect(page.locator("#ask")).to_be_visible()
    port.close_incident(whole.id, by="lee")  # meanwhile
    page.keyboard.press("Enter")
    expect(page.locator("#note")).to_contain_text("Not done: the incident is closed")


def test_hostile_names_stay_text(opened: tuple[Page, str, list[str]], port: MemoryPort) -> None:
    page, url, troubles = opened
    ahead = Breach(EVIL, 20.0, "up", T + 60 * S, T + 90 * S, T + 120 * S, 0.9, 14.0, 0.1)
    signals = [(signal("evil-1", "alert", EVIL, T - 90 * S, series=EVIL), EVIL),
               (msgspec.structs.replace(signal("evil-2", "breach", EVIL, T - 80 * S, series=EVIL, text=EVIL, breach=ahead),
                                        key=EVIL), EVIL),
               (signal("evil-3", "log_template", "cart", T - 70 * S, template_id=EVIL, text=EVIL, instance=EVIL), EVIL)]
    bad = msgspec.structs.replace(incident("evil", EVIL, "critical", signals, opened=T - 90 * S), maybe_two=True, note=EVIL,
                                  again_ns=T - 80 * S, touches=(ident("evil-too"),))
    too = msgspec.structs.replace(bad, id=ident("evil-too"), touches=(bad.id,))
    port.templates[EVIL] = EVIL
    keys = tuple(msgspec.structs.replace(k, service=EVIL, name=EVIL, instance=EVIL) if k.name == "db.pool.in_use" else k
                 for k in port.recorded.series)
    port.recorded = type(port.recorded)(port.recorded.ts_ns, keys, port.recorded.values, port.recorded.forecast)
    port.put_incident(too)
    port.put_incident(bad)
    page.goto(f"{url}/incidents/{bad.id}")
    expect(page.locator(".uplot")).to_have_count(1)
    page.keyboard.press("s")
    page.locator("#split input").first.check()
    page.keyboard.press("Enter")
    expect(page.locator("#ask")).to_contain_text("onerror")
    page.keyboard.press("Escape")
    page.keyboard.press("Escape")
    page.keyboard.press("m")
    page.keyboard.press("Enter")
    expect(page.locator("#ask")).to_contain_text(f"into “{EVIL}”?")
    page.keyboard.press("Escape")
    chart = page.locator("[role=slider]")
    chart.focus()
    page.keyboard.press("ArrowLeft")
    expect(page.locator("#chart-said")).to_contain_text("onerror")
    port.put_incident(msgspec.structs.replace(bad, severity="warning"))  # and drawn in place
    expect(page.locator(".head .pill")).to_have_text("warning")
    assert page.evaluate("window.pwned === undefined && !document.querySelector('img') && "
                         "[...document.scripts].every(s => s.src.startsWith(location.origin))")
    assert troubles == []


def test_five_hundred_members_stay_fluid(opened: tuple[Page, str, list[str]], port: MemoryPort) -> None:
    page, url, troubles = opened
    which = crowd(port)
    page.goto(f"{url}/incidents/{which}")
    expect(page.locator(".uplot")).to_have_count(8)  # and two lanes
    expect(page.locator("#alerts tbody tr")).to_have_count(60)
    page.locator("#all-alerts").click()
    expect(page.locator("#alerts tbody tr")).to_have_count(500)
    page.wait_for_load_state("load")  # the rows are there before the scripts that listen for keys
    page.keyboard.press("s")
    box = page.locator("#split input").nth(3)
    box.check()
    box.focus()
    page.evaluate(FRAMES)
    whole = port.incident(which)
    assert whole is not None
    before, begun = page.evaluate("opsmend.renders"), time.monotonic()
    for n in range(60):
        port.put_incident(msgspec.structs.replace(whole, title=f"Update {n}"))
        page.wait_for_timeout(50)
    expect(page.locator("h1")).to_have_text("Update 59", timeout=10_000)
    seconds = time.monotonic() - begun
    frames = sorted(page.evaluate("spent"))
    drawn = page.evaluate("opsmend.renders") - before
    print(f"{drawn} renders in {seconds:.1f} s, median frame {frames[len(frames) // 2]:.0f} ms, "
          f"95 % {frames[int(len(frames) * .95)]:.0f} ms, longest {frames[-1]:.0f} ms")
    expect(box).to_be_focused()
    expect(box).to_be_checked()
    assert drawn >= 2 and frames[len(frames) // 2] < 100, "median of all frames, on a machine that may be busy"
    page.goto(f"{url}/incidents/{which}")
    page.locator("#charts-more").click()
    expect(page.locator("#charts .m:not(.axis)")).to_have_count(32)
    expect(page.locator(".pages")).to_contain_text("11 to 42 of 500")
    assert troubles == []


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_graph_shows_probabilities_and_the_path(browser: Browser, port: MemoryPort, theme: Any) -> None:
    with serve(port) as url, watched(browser, viewport=SIZE, color_scheme=theme) as (page, troubles):
        page.goto(f"{url}/incidents/{ident('checkout')}")
        fills = [page.locator(f"#spread g.heat:has(text.name:text-is('{name}')) > :is(rect, circle):not(.ring)").evaluate(
            "e => getComputedStyle(e).fill") for name in ("payments", "orders", "front", "cart")]
        assert len(set(fills[:3])) == 3 and fills[2] == fills[3], f"a tone of its own for 83 %, 8 % and nothing: {fills}"
        expect(page.locator("#spread path.path")).to_have_count(3)  # orders to front, payments to orders, and the key's
        expect(page.locator("#path-said")).to_have_text("Path: payments → orders → front")
        expect(page.locator("#none-said")).to_have_text("None of these: 6 %")
        said = page.locator("#spread svg.graph").get_attribute("aria-label") or ""
        assert "payments: critical, cause 83 %, likely cause" in said and "from payments to orders +3 s" in said
        page.locator("#graph-table summary").click()
        expect(page.locator("#graph-table tbody tr").first).to_contain_text("payments-2")
        expect(page.locator("#graph-table")).to_contain_text("orders → payments")
        # The series that decided it stand first, aligned: since the first sign of all is one stretch in all of them.
        expect(page.locator("#charts figure.decides")).to_have_count(4)
        expect(page.locator("#charts .uplot")).to_have_count(6)
        answer = page.request.get(f"{url}/api/v1/incidents/{ident('checkout')}/charts").json()
        drawn = page.locator("#charts [data-plot]").evaluate_all("all => all.map(e => e.dataset.plot)")
        assert [s["id"] for s in answer["series"]] == drawn, "the page draws what the API tells"
        assert [s["decides"] for s in answer["series"]] == ["payments"] * 4 + [""] * 2
        tone = page.locator("#charts .plot canvas").first.evaluate(
            "c => { const row = c.getContext('2d').getImageData(0, 4, c.width, 1).data; "
            "return [.4, .97].map(x => [...row.slice(4 * Math.round(c.width * x)).slice(0, 4)].join()); }")
        assert tone[0] != tone[1], "before and since the first sign"
        assert violations(page) == []
        assert troubles == []
