"""opsmend as a policy: the service as a user would run it, watched through its own HTTP API."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import httpx

from opsmend.lab.backends import LabError
from opsmend.lab.faults import Injection
from opsmend.lab.links import edge_name
from opsmend.lab.policies import Report, to_toml
from opsmend.lab.processes import free_port
from opsmend.lab.system import Lab

_READY_WITHIN_SECONDS = 60.0
_WARM_UP_SECONDS = 45.0
_SETTLE_CAP_SECONDS = 45.0
_CLOCK_SLACK_NS = 1_500_000_000
"""A signal's bucket may begin before the injection that it shows."""


def _ns(rfc3339: str | None) -> int:
    return int(datetime.fromisoformat(rfc3339).timestamp() * 1e9) if rfc3339 else 0


class OpsmendPolicy:
    """`opsmend run` as a child process in mode auto."""

    name = "opsmend"

    def __init__(self, warm_up_seconds: float = _WARM_UP_SECONDS) -> None:
        self._warm_up_seconds = warm_up_seconds
        self._process: subprocess.Popen[bytes] | None = None
        self._http: httpx.Client | None = None
        self._report = Report()
        self._since_ns = 0
        self._is_decided = False
        self._asked = 0.0

    def start(self, lab: Lab) -> None:
        port = free_port()
        config = lab.data_dir / "opsmend.toml"
        config.write_text(to_toml(lab.opsmend_config(listen=f"127.0.0.1:{port}")))
        log = lab.layout.root / "opsmend.log"
        with log.open("ab") as file:
            self._process = subprocess.Popen(
                [sys.executable, "-c", "from opsmend.cli import main; main()", "run", "-c", str(config)],
                env=os.environ | lab.environment(), stdin=subprocess.DEVNULL, stdout=file, stderr=file)
        self._http = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=5.0)
        deadline = time.monotonic() + _READY_WITHIN_SECONDS
        while not self._get("/readyz"):
            if self._process.poll() is not None or time.monotonic() > deadline:
                words = log.read_text(errors="replace")[-1200:]
                self.stop()
                raise LabError(f"opsmend did not become ready: {words}")
            time.sleep(0.3)
        time.sleep(self._warm_up_seconds)

    def _get(self, path: str, **params: str) -> dict[str, Any] | None:
        """The body; None while the service does not answer."""
        assert self._http is not None
        try:
            response = self._http.get(path, params=params)
        except httpx.HTTPError:
            return None
        if response.status_code != 200:
            return None
        try:
            body = response.json()
        except ValueError:
            return {}
        return body if isinstance(body, dict) else {}

    def settle(self) -> None:
        deadline = time.monotonic() + _SETTLE_CAP_SECONDS
        while time.monotonic() < deadline:
            answer = self._get("/api/v1/incidents", state="open")
            if answer is not None and not answer.get("incidents"):
                return
            time.sleep(0.5)

    def begin(self, injection: Injection) -> None:
        self._since_ns = injection.ts_ns - _CLOCK_SLACK_NS
        self._report, self._is_decided = Report(), False

    def step(self) -> None:
        """Look at what the service says, at most once in half a second."""
        if self._is_decided or time.monotonic() - self._asked < 0.5:
            return
        self._asked = time.monotonic()
        answer = self._get("/api/v1/incidents", limit="20")
        fresh = [i for i in (answer or {}).get("incidents", []) if _ns(i.get("opened_at")) >= self._since_ns]
        if not fresh:
            return
        if not self._report.detected_ns:
            self._report.detected_ns = time.time_ns()
            self._report.suspects = ()
        for incident in sorted(fresh, key=lambda i: str(i.get("opened_at"))):
            full = self._get(f"/api/v1/incidents/{incident['id']}")
            diagnosis = (full or {}).get("diagnosis")
            if full is None or not diagnosis:
                continue
            self._report.suspects = tuple(
                edge_name(s["service"], s["peer"]) if s.get("peer") else s["service"] for s in diagnosis["suspects"])
            # What counts is the diagnosis that the first repair was based on.
            self._is_decided = bool(full.get("runs"))
            return

    def report(self) -> Report:
        self._report.notes = tuple(self._notes())[:20]
        return self._report

    def _notes(self) -> Iterator[str]:
        """One line per plan and run of the incidents of this fault."""
        answer = self._get("/api/v1/incidents", limit="20")
        for incident in reversed((answer or {}).get("incidents", [])):
            if _ns(incident.get("opened_at")) < self._since_ns:
                continue
            full = self._get(f"/api/v1/incidents/{incident['id']}") or {}
            diagnosis = full.get("diagnosis") or {}
            yield f"{incident['title']} ({incident['state']}{', cannot tell' if diagnosis.get('cannot_tell') else ''})"
            for plan in full.get("plans", []):
                closed = "; ".join(f"{g['gate']}: {g['detail']}" for g in plan["gates"] if not g["passed"])
                yield f"plan {plan['action']} {plan['target']}: {plan['state']} {closed or plan.get('decided_reason', '')}"
            for run in full.get("runs", []):
                steps = "; ".join(f"{s['step_id']} {s['state']} {s['effect'] or s['error']}" for s in run.get("steps", []))
                yield f"run {run['action']} {run['service']}: {run['state']} {run['verdict']} [{steps}]"

    def stop(self) -> None:
        if self._http is not None:
            self._http.close()
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(15.0)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
