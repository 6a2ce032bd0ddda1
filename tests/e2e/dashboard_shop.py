"""A shop of two services that can break and be mended: real telemetry over OTLP/HTTP, a real actuator."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
from small_http import Answer, Asked, small_http


class Shop:
    """front calls checkout. `break_checkout()` takes it down; the actuator's `POST /restart/checkout` brings it back."""

    def __init__(self) -> None:
        self.is_up = True
        self.calls: list[tuple[str, str]] = []  # (path, webhook-id)
        self._stop = threading.Event()
        self._servers = contextlib.ExitStack()
        self.actuator_url = self._servers.enter_context(small_http(self._restart))
        self._threads: list[threading.Thread] = []

    def _restart(self, asked: Asked) -> Answer:
        self.calls.append((asked.path, asked.headers.get("webhook-id", "")))
        self.is_up = True
        return Answer({"effect": "restarted 1 instance"})

    def break_checkout(self) -> None:
        self.is_up = False

    def feed(self, url: str) -> None:
        """Half a minute of history at once, then four points a second as they come."""
        now = time.time()
        with httpx.Client(base_url=url, trust_env=False) as client:
            for second in range(40, 0, -1):
                self._post(client, now - second)
        self._threads.append(threading.Thread(target=self._go_on, args=(url,)))
        self._threads[-1].start()

    def _go_on(self, url: str) -> None:
        with httpx.Client(base_url=url, trust_env=False) as client:
            while not self._stop.wait(0.25):
                self._post(client, time.time())

    def _post(self, client: httpx.Client, at: float) -> None:
        up, wrong = float(self.is_up), 0.0 if self.is_up else 0.62
        resources = [_resource("front", at, {"process.up": 1.0, "http.server.error_ratio": wrong,
                                             "http.server.latency_p95": 0.08}),
                     _resource("checkout", at, {"process.up": up, "http.server.error_ratio": wrong})]
        client.post("/v1/metrics", json={"resourceMetrics": resources}).raise_for_status()

    def close(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(5)
        self._servers.close()


def _resource(service: str, at: float, values: dict[str, float]) -> dict[str, Any]:
    points = [{"name": name, "gauge": {"dataPoints": [{"timeUnixNano": str(int(at * 1e9)), "asDouble": value}]}}
              for name, value in values.items()]
    return {"resource": {"attributes": [{"key": "service.name", "value": {"stringValue": service}}]},
            "scopeMetrics": [{"metrics": points}]}


@contextlib.contextmanager
def running(directory: Path) -> Iterator[tuple[str, Shop]]:
    """`opsmend run` in mode suggest, a process of its own, with the shop connected to it: (URL, shop)."""
    shop = Shop()
    (directory / "actions").mkdir()
    (directory / "actions" / "restart.yaml").write_text(
        'name: shop.restart\ntitle: "Restart {service}"\nkind: http.webhook\n'
        "params: { service: { entity: service } }\napplies_when: [process.down, hang]\n"
        f'request: {{ method: POST, url: "{shop.actuator_url}/restart/{{service}}" }}\n'
        "effect: $.effect\nundo: none\ntimeout_seconds: 5\n")
    (directory / "opsmend.toml").write_text(f"""
[service]
data_dir = "{directory}/data"
listen = "127.0.0.1:0"
[detect]
bucket_seconds = 0.5
allowed_lateness_seconds = 0.5
[topology]
edges = [["front", "checkout"]]
[repair]
mode = "suggest"
actions_dir = "{directory}/actions"
budget = {{ cooldown_seconds = 1, max_blast_radius = 1.0 }}
verify = {{ baseline_seconds = 10, settle_seconds = 2, watch_seconds = 3 }}
allow = [{{ service = "checkout", actions = ["shop.restart"], mode = "auto" }}]
""")
    with (directory / "opsmend.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", "from opsmend.cli import main; main()", "run", "-c", str(directory / "opsmend.toml")],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        url = _address(directory, process)
        shop.feed(url)
        yield url, shop
    finally:
        shop.close()
        process.terminate()
        process.wait(20)


def _address(directory: Path, process: subprocess.Popen[bytes]) -> str:
    """Where it listens, once it answers."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        assert process.poll() is None, (directory / "opsmend.log").read_text()[-3000:]
        with contextlib.suppress(OSError, ValueError, httpx.HTTPError):
            url = str(json.loads((directory / "data" / "service.json").read_text())["url"])
            if httpx.get(f"{url}/healthz", trust_env=False).status_code == 200:
                return url
        time.sleep(0.1)
    raise AssertionError("opsmend does not start: " + (directory / "opsmend.log").read_text()[-3000:])
