"""`opsmend incidents split|merge` against `opsmend run`, restarts included: what a person said holds."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

OPSMEND = [sys.executable, "-c", "from opsmend.cli import main; main()"]


class Service:
    """`opsmend run` in a directory, and what is sent to it; event time is what we say it is."""

    def __init__(self, directory: Path) -> None:
        self.dir, self.second, self.start_s = directory, 0, int(time.time()) - 600
        (directory / "opsmend.toml").write_text(
            f'[service]\ndata_dir = "{directory}"\nlisten = "127.0.0.1:0"\n[ingest]\ntransport = "embedded"\n'
            '[detect]\nbucket_seconds = 1.0\nallowed_lateness_seconds = 0.0\n[topology]\nedges = [["front", "cart"]]\n'
            '[repair]\nexecutor = "memory"\n')
        self.process: subprocess.Popen[bytes] | None = None

    def starts(self) -> None:
        told = self.dir / "service.json"
        told.unlink(missing_ok=True)
        with (self.dir / "log").open("ab") as log:
            self.process = subprocess.Popen([*OPSMEND, "run", "-c", str(self.dir / "opsmend.toml")],
                                            stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self.waits(told.exists)
        self.url = str(json.loads(told.read_text())["url"])

    def dies(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait(20)

    def waits(self, check: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 60
        while True:
            try:
                if check():
                    return
            except (httpx.TransportError, json.JSONDecodeError):
                pass  # not up yet
            log = (self.dir / "log").read_text()[-3000:]
            assert self.process is not None and self.process.poll() is None, log
            assert time.monotonic() < deadline, log
            time.sleep(0.1)

    def post(self, path: str, body: object) -> None:
        httpx.post(self.url + path, json=body, timeout=20).raise_for_status()

    def fires(self, *alerts: tuple[str, str]) -> None:
        began = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self.start_s + self.second))
        self.post("/api/v2/alerts", [{"labels": {"alertname": name, "service": service, "severity": "critical"},
                                      "annotations": {}, "startsAt": began} for name, service in alerts])

    def goes_on(self, seconds: int) -> None:
        """Quiet log lines of `front`."""
        records = [{"timeUnixNano": str((self.start_s + self.second + n) * 10**9), "severityText": "INFO",
                    "body": {"stringValue": "all is well"}} for n in range(1, seconds + 1)]
        resource = {"attributes": [{"key": "service.name", "value": {"stringValue": "front"}}]}
        self.post("/v1/logs", {"resourceLogs": [{"resource": resource, "scopeLogs": [{"logRecords": records}]}]})
        self.second += seconds

    def says(self, *args: str, code: int = 0) -> Any:
        """A command of the CLI as a user types it; its JSON, or its stderr where it has to fail."""
        done = subprocess.run([*OPSMEND, "incidents", *args, "--url", self.url, "--json"], capture_output=True, text=True,
                              timeout=60, check=False, stdin=subprocess.DEVNULL)
        assert done.returncode == code, (args, done.stdout, done.stderr)
        assert "Traceback" not in done.stderr
        return done.stderr if code else json.loads(done.stdout)

    def open(self) -> dict[str, list[str]]:
        """Incident id -> services of its signals, as often as they fired."""
        rows = httpx.get(f"{self.url}/api/v1/incidents?state=open", timeout=20).json()["incidents"]
        return {row["id"]: sorted(s["service"] for s in httpx.get(f"{self.url}/api/v1/incidents/{row['id']}",
                                                                 timeout=20).json()["signals"]) for row in rows}


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    made = Service(tmp_path)
    made.starts()
    yield made
    made.dies()


@pytest.mark.timeout(240)
def test_a_split_holds_over_a_kill_and_for_what_fires_again_until_it_is_merged(service: Service) -> None:
    service.goes_on(30)
    service.fires(("Errors", "front"), ("Slow", "cart"))
    service.goes_on(10)
    service.waits(lambda: list(service.open().values()) == [["cart", "front"]])
    (whole,) = service.open()

    assert "only of cart, front" in service.says("split", whole, "--service", "nobody", code=1)
    assert "not none and not all" in service.says("split", whole, "--service", "front", "--service", "cart", code=1)
    assert "404" in service.says("merge", whole, "00000000-0000-0000-0000-000000000000", code=1)
    half = service.says("split", whole, "--service", "cart")
    assert half["split_from"] == whole and half["services"] == ["cart"]
    assert service.open() == {whole: ["front"], half["id"]: ["cart"]}

    service.dies()
    service.starts()
    service.goes_on(30)
    service.fires(("Errors", "front"), ("Slow", "cart"))  # with a new start, so these are new signals
    service.goes_on(10)
    service.waits(lambda: service.open() == {whole: ["front", "front"], half["id"]: ["cart", "cart"]})

    slow = service.says("show", half["id"])["signals"][0]["id"]
    assert "not none and not all" in service.says("split", half["id"], "--service", "cart", code=1)
    one = service.says("split", half["id"], "--signal", slow[:8])
    assert [s["id"] for s in one["signals"]] == [slow]
    service.says("merge", one["id"], half["id"])
    assert service.says("merge", half["id"], whole)["id"] == whole
    assert "merged" in service.says("merge", half["id"], whole, code=1)
    assert service.open() == {whole: ["cart", "cart", "front", "front"]}
