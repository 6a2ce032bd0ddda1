"""From Now to a verified repair with the keyboard alone, on a running opsmend and a service that really is down."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest
from dashboard_browser import watched
from dashboard_shop import running
from playwright.sync_api import Browser, expect


def read(url: str, what: str) -> Any:
    return httpx.get(f"{url}/api/v1/{what}", trust_env=False).raise_for_status().json()


@pytest.mark.timeout(170)
def test_an_incident_appears_is_approved_and_mended(browser: Browser, tmp_path: Path) -> None:
    with running(tmp_path) as (url, shop), watched(
            browser, viewport={"width": 1280, "height": 900}) as (page, troubles):
        page.goto(url)
        expect(page.locator("h1")).to_contain_text("No open incident", timeout=20_000)
        page.evaluate("window.neverReloaded = true")

        shop.break_checkout()
        row = page.locator("#open li.row").first
        expect(row).to_contain_text("front fails for 62% of requests", timeout=30_000)
        expect(row.get_by_role("button", name="Approve")).to_be_visible(timeout=30_000)
        assert page.evaluate("window.neverReloaded") is True
        assert shop.calls == [], "nothing may run before a person approved it"

        page.keyboard.press("j")  # the first row
        expect(row.locator("a.title")).to_be_focused()
        page.keyboard.press("Enter")  # its incident
        expect(page.locator("h1")).to_contain_text("front fails for 62% of requests")
        (plan,) = read(url, "plans?state=proposed")["plans"]
        expect(page.locator("#plan")).to_contain_text(plan["hash"][:6])
        expect(page.locator("#plan")).to_contain_text("a person must approve")
        expect(page.locator("#suspects")).to_contain_text("none of these")
        drawn = read(url, f"incidents/{page.url.rpartition('/')[2]}/charts")["series"]
        expect(page.locator("#charts .plot")).to_have_count(len(drawn))
        told = next(s for s in drawn if "error_ratio" in s["id"])["forecast"]
        low, middle, high = next(q for q in zip(*told, strict=True) if None not in q)
        assert low <= middle <= high, "what had been forecast comes from the detector to the page"
        expect(page.locator("#alerts tbody tr").first).to_contain_text("×")
        page.wait_for_load_state("load")  # the text is there before the scripts are, and keys before them go nowhere
        page.keyboard.press("a")

        expect(page.locator("#runs")).to_contain_text("restarted 1 instance", timeout=20_000)
        expect(page.locator("#runs")).to_contain_text("fixed", timeout=40_000)
        (run,) = read(url, "runs")["runs"]
        assert run["verdict"] == "fixed" and read(url, f"plans/{plan['id']}")["decided_by"] == "operator"
        assert shop.calls == [("/restart/checkout", f"{run['id']}/do")], "the actuator was called once, with its key"

        page.keyboard.press("g")
        page.keyboard.press("r")
        expect(page.locator("#log")).to_contain_text("approved by operator")
        expect(page.locator("#log")).to_contain_text("restarted 1 instance")
        assert troubles == []
