"""A real service on the embedded transport behind a real HTTP server, fed with OTLP in event time of its own."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from small_http import Answer, Asked, small_http

from opsmend.api.app import create_app
from opsmend.config import Settings
from opsmend.port_store import StorePort
from opsmend.service import Service

START_SECONDS = 1_790_000_000
ACTION = """\
name: shop.restart
title: Restart {service}
kind: http.webhook
applies_when: [process.down]
request: { method: POST, url: "URL/restart/{service}" }
effect: $.effect
undo: none
timeout_seconds: 5
"""


class Shop:
    """`front` calls `checkout`. `feed` posts seconds of telemetry; whether checkout is up decides what they say."""

    def __init__(self, url: str, service: Service, calls: list[str]) -> None:
        self.url, self.service, self.calls = url, service, calls
        self.client = httpx.Client(base_url=url, timeout=20)
        self.second = START_SECONDS
        self.is_up = True

    def feed(self, seconds: int) -> None:
        """Returns when these seconds are decided (but for the bucket that is still open)."""
        ids = range(self.second, self.second + seconds)
        self.second += seconds
        failed = 0.01 if self.is_up else 0.9
        points = [_gauge("front", "http.server.error_ratio", ids, failed),
                  _gauge("front", "client.error_ratio", ids, failed, peer="checkout"),
                  _gauge("front", "process.up", ids, 1.0),
                  _gauge("checkout", "process.up", ids, 1.0 if self.is_up else 0.0)]
        answer = self.client.post("/v1/metrics", json={"resourceMetrics": points})
        assert (answer.status_code, answer.json()) == (200, {}), answer.text
        self.wait(lambda: self.service.observer.now_ns() >= (self.second - 2) * 10**9, "not ingested")

    def get(self, path: str) -> Any:
        answer = self.client.get(path)
        assert answer.status_code == 200, (path, answer.text)
        return answer.json()

    def wait(self, check: Callable[[], Any], what: str, seconds: float = 30.0) -> Any:
        deadline = time.monotonic() + seconds
        while not (found := check()):
            assert time.monotonic() < deadline, what
            assert self.service.failed is None, self.service.failed
            time.sleep(0.05)
        return found

    def wait_feeding(self, check: Callable[[], Any], what: str) -> Any:
        """Event time goes on only with telemetry."""
        def fed() -> Any:
            self.feed(1)
            return check()

        return self.wait(fed, what)


def _gauge(service: str, name: str, seconds: range, value: float, **attributes: str) -> dict[str, Any]:
    own = [{"key": k, "value": {"stringValue": v}} for k, v in attributes.items()]
    points = [{"timeUnixNano": str(s * 10**9), "asDouble": value, "attributes": own} for s in seconds]
    resource = {"attributes": [{"key": "service.name", "value": {"stringValue": service}}]}
    return {"resource": resource, "scopeMetrics": [{"metrics": [{"name": name, "gauge": {"dataPoints": points}}]}]}


def actuator(calls: list[str], shops: list[Shop]) -> contextlib.AbstractContextManager[str]:
    def answer(asked: Asked) -> Answer:
        calls.append(asked.path)
        shops[0].is_up = True
        return Answer({"effect": "restarted"})

    return small_http(answer)


@contextlib.contextmanager
def served(service: Service) -> Iterator[str]:
    app = create_app(StorePort(service), service.metrics.registry)
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning", timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run)
    thread.start()
    deadline = time.monotonic() + 20
    while not server.started:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    app.state.is_closing = lambda: True
    server.should_exit = True
    thread.join(20)


@pytest.fixture
def serve() -> Callable[[Service], contextlib.AbstractContextManager[str]]:
    """Puts a service that has started behind a real HTTP server; gives its address."""
    return served


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    directory: Path = tmp_path_factory.mktemp("service")
    calls: list[str] = []
    shops: list[Shop] = []
    with actuator(calls, shops) as url:
        (directory / "actions").mkdir()
        (directory / "actions" / "restart.yaml").write_text(ACTION.replace("URL", url))
        service = Service(Settings.model_validate({
            "service": {"data_dir": directory}, "detect": {"bucket_seconds": 1.0, "allowed_lateness_seconds": 0.0},
            "topology": {"edges": [["front", "checkout"]]},
            "repair": {"mode": "suggest", "executor": "memory", "actions_dir": directory / "actions",
                       "diagnose_after_seconds": 1, "budget": {"cooldown_seconds": 5},
                       "verify": {"baseline_seconds": 10, "settle_seconds": 3, "watch_seconds": 3},
                       "allow": [{"service": "checkout", "actions": ["shop.restart"], "mode": "auto"}]}}))
        service.start()
        with served(service) as address:
            shops.append(Shop(address, service, calls))
            yield shops[0]
            shops[0].client.close()
        service.stop()
