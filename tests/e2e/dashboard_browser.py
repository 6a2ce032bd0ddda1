"""Chromium for the dashboard's tests and pictures, and a server around a port."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import uvicorn
from playwright.sync_api import Browser, Page, sync_playwright

from opsmend.api.app import create_app
from opsmend.api.port import ServicePort
from opsmend.api.security import ApiConfig

ARGUMENTS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
             "--disable-background-networking", "--disable-component-update", "--disable-sync"]


@contextlib.contextmanager
def open_browser(executable: str) -> Iterator[Browser]:
    """Nothing is downloaded; a proxy of the environment is not asked for localhost."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=[*ARGUMENTS, "--no-proxy-server"])
        try:
            yield browser
        finally:
            browser.close()


@contextlib.contextmanager
def serve(port: ServicePort, config: ApiConfig | None = None) -> Iterator[str]:
    """The real ASGI app on a free port of localhost; the URL."""
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    app = create_app(port, config=config)
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False, timeout_graceful_shutdown=5))
    app.state.is_closing = lambda: server.should_exit
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    deadline = time.monotonic() + 30
    while not server.started:
        assert time.monotonic() < deadline and thread.is_alive(), "the server does not start"
        time.sleep(0.02)
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(10)
        listening.close()


@contextlib.contextmanager
def watched(browser: Browser, **context: Any) -> Iterator[tuple[Page, list[str]]]:
    """A page in a context of its own, and the list that its console errors and exceptions go to."""
    own = browser.new_context(**context)
    page = own.new_page()
    troubles: list[str] = []
    page.on("console", lambda m: troubles.append(m.text) if m.type in ("error", "warning") else None)
    page.on("pageerror", lambda e: troubles.append(str(e)))
    yield page, troubles
    own.close()
