"""Fifty updates a second: the page follows, and takes nothing out of the hands of the person in front of it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec
from dashboard_browser import serve, watched
from dashboard_scene import T, ident, incident, scene, signal
from playwright.sync_api import Browser, Page, expect

from opsmend.api.port_memory import MemoryPort
from opsmend.api.security import ApiConfig

RATE, SECONDS = 50, 10
RECORD = """() => {
  const out = window.seen = [];
  const list = document.getElementById("open");
  window.recording = setInterval(() => out.push({
    focus: document.activeElement.id, selected: getSelection().toString(),
    order: [...list.children].map(r => r.id), tops: [...list.children].map(r => Math.round(r.getBoundingClientRect().top)),
    count: +(document.querySelector("#row-FIRST .title").textContent.match(/\\d+/) || [0])[0], at: Date.now(),
    events: opsmend.events, renders: opsmend.renders }), 50);
}""".replace("FIRST", ident("fast-0"))
SELECT = """() => {
  const text = document.querySelector("#trust-title").firstChild, range = document.createRange();
  range.setStart(text, 0); range.setEnd(text, 5);
  getSelection().removeAllRanges(); getSelection().addRange(range);
}"""


class Storm:
    """Writes to the port at RATE per second: counts, titles, and a severity that would change the order."""

    def __init__(self, port: MemoryPort) -> None:
        self.port, self.sent = port, 0
        self.log: list[tuple[float, int]] = []  # (wall clock, number in the title of the first incident)
        self._stop = threading.Event()
        self.made = [incident(f"fast-{n}", f"Update 0 of {n}", "warning", [
            (signal(f"fast-{n}", "alert", "cart", T - 60 * 10**9, series="X"), "started it")], opened=T - n * 10**9)
            for n in range(4)]
        for one in self.made:
            port.put_incident(one)

    def run(self) -> None:
        begun = time.monotonic()
        while not self._stop.is_set():
            number = self.sent + 1
            which = self.made[number % 4]
            severity = "critical" if number // 20 % 2 and which is self.made[3] else "warning"
            self.port.put_incident(msgspec.structs.replace(
                which, title=f"Update {number} of {number % 4}", severity=severity))
            if number % 4 == 0:
                self.log.append((time.time(), number))
            self.sent = number
            self._stop.wait(max(0.0, begun + number / RATE - time.monotonic()))

    @contextmanager
    def blowing(self) -> Iterator[None]:
        thread = threading.Thread(target=self.run)
        thread.start()
        try:
            yield
        finally:
            self._stop.set()
            thread.join()


def test_focus_selection_and_order_survive(browser: Browser) -> None:
    port = scene()
    storm = Storm(port)
    with serve(port, ApiConfig(event_poll_seconds=0.02)) as url, watched(
            browser, viewport={"width": 1280, "height": 900}) as (page, troubles):
        page.goto(url)
        expect(page.locator("#open li.row")).to_have_count(7)
        button = page.locator(f"#approve-{ident('rollback')}")
        button.focus()
        page.locator("#open li.row").nth(2).hover()
        page.evaluate(SELECT)
        drawn_again(page, 1)
        page.evaluate(RECORD)
        with storm.blowing():
            page.wait_for_timeout(SECONDS * 1000)
            page.evaluate("clearInterval(window.recording)")
        seen = page.evaluate("window.seen")
        expect(page.locator(f"#row-{ident('fast-0')} .title")).to_have_text(
            f"Update {storm.log[-1][1]} of 0", timeout=3000)  # the last update is shown, none is left behind

        first, last = seen[0], seen[-1]
        seconds = (last["at"] - first["at"]) / 1000
        delivered = (last["events"] - first["events"]) / seconds
        rendered = (last["renders"] - first["renders"]) / seconds
        lag = max((shown["at"] / 1000 - _when(storm, shown["count"] + 4) for shown in seen[20:]), default=9.0)
        print(f"sent {storm.sent / SECONDS:.1f}/s, heard {delivered:.1f}/s, drawn {rendered:.1f}/s, at most {lag:.2f} s late")
        assert delivered > 0.9 * RATE
        assert rendered > 2
        assert lag < 2.0
        assert {s["focus"] for s in seen} == {f"approve-{ident('rollback')}"}, "the focus went away"
        assert {s["selected"] for s in seen} == {"Trust"}, "the selection went away"
        assert len({tuple(s["order"]) for s in seen}) == 1, "rows moved under the pointer"
        assert len({tuple(s["tops"]) for s in seen}) == 1, "the layout jumped"
        assert len({s["count"] for s in seen}) > 20, "the page stood still"

        page.mouse.move(5, 5)  # the hand is away: now the order may change
        page.evaluate("document.activeElement.blur()")
        port.put_incident(msgspec.structs.replace(storm.made[3], severity="critical", title="Worst of all"))
        expect(page.locator("#open li.row").nth(1)).to_contain_text("Worst of all")
        assert troubles == []


def drawn_again(page: Page, times: int) -> None:
    """Waits until the page has been drawn so many times more. (The page's own rules forbid wait_for_function.)"""
    until, deadline = page.evaluate("opsmend.renders") + times, time.monotonic() + 20
    while page.evaluate("opsmend.renders") < until:
        assert time.monotonic() < deadline, "the page stands still"
        page.wait_for_timeout(50)


def _when(storm: Storm, number: int) -> float:
    """When this number was written; now, if it never was: then what is shown is the newest."""
    return next((at for at, n in storm.log if n >= number), float("inf"))


def test_typing_survives(browser: Browser) -> None:
    port = scene()
    storm = Storm(port)
    with serve(port, ApiConfig(event_poll_seconds=0.02)) as url, storm.blowing(), watched(browser) as (page, troubles):
        page.goto(f"{url}/policy")
        field = page.get_by_label("Name")
        field.fill("")
        field.press_sequentially("ana of the night shift", delay=60)
        page.evaluate("document.activeElement.setSelectionRange(3, 6)")
        drawn_again(page, 5)
        assert field.input_value() == "ana of the night shift"
        assert page.evaluate("[document.activeElement.id, document.activeElement.selectionStart]") == ["you-name", 3]

        page.goto(f"{url}/incidents/{ident('checkout')}")
        page.keyboard.press("s")  # split: the choice that is being made stays
        box = page.locator("#split input").first
        expect(box).to_be_focused()
        page.keyboard.press("Space")
        drawn_again(page, 5)
        expect(box).to_be_focused()
        expect(box).to_be_checked()
        assert troubles == []
