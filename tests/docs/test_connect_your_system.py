"""docs/connect-your-system.md, followed literally on a real Kafka, with two processes and the page's actuator.

Files and commands are taken from the page; only ports are substituted, and the ids that the commands print.
"""

from __future__ import annotations

import base64
import json
import os
import re
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from confluent_kafka.admin import AdminClient, ConfigResource

from ingest.transports.config import TransportConfig
from ingest.transports.registry import open_consumer, open_producer
from ingest.types import Record, Watermark
from opsmend.config_sections import OUR_TOPICS
from opsmend.lab.kafka import KafkaBroker, why_not
from opsmend.lab.processes import free_port

PAGE = Path(__file__).parents[2] / "docs" / "connect-your-system.md"
SYSTEM = Path(__file__).parent / "small_system"
FENCE = re.compile(r"(?:^`(?P<file>[\w./-]+)`:\n\n)?^```(?P<kind>\w+)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
BLOCKS = [m.groupdict() for m in FENCE.finditer(PAGE.read_text())]
FILES = {b["file"]: b["text"] for b in BLOCKS if b["file"]}
COMMANDS = [line for b in BLOCKS if b["kind"] == "sh" for line in b["text"].splitlines()]

pytestmark = [pytest.mark.kafka, pytest.mark.slow, pytest.mark.timeout(300)]


class Reader:
    """Somebody who does what the page says, in one directory."""

    def __init__(self, directory: Path, kafka: str) -> None:
        self.dir = directory
        self._ports = {"127.0.0.1:9092": kafka, "9900": str(free_port()), "8420": str(free_port())}
        self.url = f"http://127.0.0.1:{self._ports['8420']}"
        self.actuator = f"http://127.0.0.1:{self._ports['9900']}"
        self.did: list[str] = []
        self.children: list[subprocess.Popen[bytes]] = []
        # What the page exports, done once for all terminals.
        secret = "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()
        self.did.append('export ACTUATOR_SECRET="whsec_$(openssl rand -base64 32)"')
        self.env = {**{k: v for k, v in os.environ.items() if not k.startswith("OPSMEND_")},
                    "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "ACTUATOR_SECRET": secret,
                    "OPSMEND_URL": self.url, "OPSMEND_SERVICE__LISTEN": self.url.removeprefix("http://"),
                    "KAFKA": kafka, "CHECKOUT_PORT": str(free_port())}

    def write_files(self) -> None:
        for name, text in FILES.items():
            for page, here in self._ports.items():
                text = text.replace(page, here)
            path = self.dir / name
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
        for program in SYSTEM.iterdir():
            shutil.copy(program, self.dir)

    def _command(self, said: str, **ids: str) -> str:
        assert said in COMMANDS, f"the page does not say: {said}"
        self.did.append(said)
        for name, value in ids.items():
            said = said.replace(name, value)
        return said

    def does(self, said: str, **ids: str) -> str:
        """Run to the end; stdout."""
        done = subprocess.run(["bash", "-c", self._command(said, **ids)], cwd=self.dir, env=self.env,
                              capture_output=True, text=True, timeout=90, check=False)
        assert done.returncode == 0, (said, done.stdout, done.stderr, self.log("opsmend")[-3000:])
        return done.stdout

    def keeps_running(self, said: str, name: str) -> subprocess.Popen[bytes]:
        return self.starts(["bash", "-c", f"exec {self._command(said)}"], name)

    def starts(self, argv: list[str], name: str) -> subprocess.Popen[bytes]:
        with (self.dir / f"{name}.log").open("ab") as log:
            child = subprocess.Popen(argv, cwd=self.dir, env=self.env, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self.children.append(child)
        return child

    def log(self, name: str) -> str:
        path = self.dir / f"{name}.log"
        return path.read_text() if path.exists() else ""

    def state(self) -> dict[str, Any]:
        return dict(httpx.get(f"{self.actuator}/state/checkout", timeout=5).json())

    def get(self, path: str) -> Any:
        return httpx.get(self.url + path, timeout=10).json()

    def checkout_answers(self) -> bool:
        try:
            return httpx.get(f"http://127.0.0.1:{self.env['CHECKOUT_PORT']}/", timeout=2).status_code == 200
        except httpx.HTTPError:
            return False

    def waits(self, check: Any, seconds: float, what: str) -> Any:
        deadline = time.monotonic() + seconds
        while True:
            try:
                if found := check():
                    return found
            except httpx.TransportError:
                pass  # not up yet
            assert time.monotonic() < deadline, f"{what}\n{self.log('opsmend')[-3000:]}\n{self.log('actuator')[-1000:]}"
            time.sleep(0.2)

    def stop(self) -> None:
        for child in reversed(self.children):
            child.terminate()
        for child in self.children:
            try:
                child.wait(20)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    if reason := why_not():
        pytest.skip(f"NOT TESTED, docs/connect-your-system.md against a real Kafka: {reason}")
    with KafkaBroker() as broker:
        reader = Reader(tmp_path, broker.bootstrap_servers)
        yield reader
        reader.stop()


def test_the_page_leads_to_a_verified_repair(reader: Reader) -> None:
    reader.write_files()
    actuator = reader.keeps_running("python actuator.py", "actuator")
    reader.starts([sys.executable, "front.py"], "front")
    reader.waits(lambda: reader.checkout_answers() and reader.state(), 20, "the small system does not run")
    refused = httpx.post(f"{reader.actuator}/restart/checkout", content=b"{}", headers={
        "webhook-id": "x", "webhook-timestamp": str(int(time.time())), "webhook-signature": "v1,AAAA"})
    assert refused.status_code == 401

    seen = reader.does("opsmend wire --topic metrics -c opsmend.toml")
    assert "native" in seen and "otlp-json" in seen and "0 refused" in seen
    assert "front" in seen and "checkout" in seen and "unknown" not in seen
    checked = reader.does("opsmend doctor -c opsmend.toml")
    assert "✓" in checked and "✕" not in checked
    reader.keeps_running("opsmend run -c opsmend.toml", "opsmend")
    reader.waits(lambda: {s["name"] for s in reader.get("/api/v1/services")["services"]} >= {"front", "checkout"}, 60,
                 "the services do not appear on the map")
    time.sleep(15)  # the page: give it time to see what is usual
    assert reader.does("opsmend incidents list") == ""

    # 5. with a person's approval
    reader.does("kill -9 PID", PID=str(reader.state()["pid"]))
    plan = reader.waits(lambda: reader.get("/api/v1/plans?state=proposed")["plans"], 30, "nothing was planned")[0]
    assert not reader.checkout_answers()
    listed = reader.does("opsmend incidents list")
    (incident,) = listed.splitlines()
    assert "checkout" in incident or "front" in incident
    shown = reader.does("opsmend incidents show INCIDENT", INCIDENT=incident.split()[0])
    assert re.search(r"^suspect \d+%  checkout$", shown, re.MULTILINE)
    assert "its process is gone" in shown
    objections = re.findall(r"✕ (\w+):", shown)
    assert objections == ["mode"]
    plan_id, plan_hash = reader.does("opsmend plans list").split()[:2]
    assert (plan_id, plan["action"], plan["target"]) == (plan["id"], "shop.restart", "checkout")
    assert "restarted" not in reader.log("actuator")
    reader.does("opsmend plans approve PLAN --hash HASH", PLAN=plan_id, HASH=plan_hash)
    finished(reader, 1)
    assert reader.checkout_answers()
    assert reader.log("actuator").count("restarted checkout") == 1
    assert "fixed" in reader.does("opsmend runs list")

    # 6. alone
    reader.does("opsmend repairs mode auto")
    cooled = time.monotonic() + 13
    reader.waits(lambda: not reader.get("/api/v1/incidents?state=open")["incidents"], 60, "the incident stays open")
    time.sleep(max(0.0, cooled - time.monotonic()))
    reader.does("kill -9 PID", PID=str(reader.state()["pid"]))
    second = finished(reader, 2)
    assert (second["service"], second["action"]) == ("checkout", "shop.restart")
    (by_itself,) = [p for p in reader.get("/api/v1/plans")["plans"] if p["id"] == second["plan_id"]]
    assert by_itself["decided_by"] == "" and not by_itself["needs_approval"]
    assert reader.log("actuator").count("restarted checkout") == 2
    assert len({line.split()[0] for line in reader.log("actuator").splitlines()}) == 2  # a key for each run
    assert reader.checkout_answers() and actuator.poll() is None

    topics_tell_what_happened(reader)

    assert "stopped" in reader.does("opsmend repairs stop")
    assert json.loads(httpx.get(f"{reader.url}/api/v1/repairs").text)["stopped"] is True
    reader.does("opsmend repairs resume")
    assert set(reader.did) == set(COMMANDS), "a command on the page is not tested"


def topics_tell_what_happened(reader: Reader) -> None:
    """`opsmend.incidents`, `opsmend.outcomes` and `opsmend.dead-letters` of this broker."""
    config = TransportConfig(kind="kafka", bootstrap_servers=reader.env["KAFKA"])
    producer = open_producer(config)
    producer.send("logs", b"\xff\xfe\x00 no telemetry")
    producer.flush()
    producer.close()
    consumer = open_consumer(replace(config, topics=OUR_TOPICS, group_id="looks-on"))
    consumer.start(Watermark())
    found: list[Record] = []
    try:
        reader.waits(lambda: found.extend(consumer.poll(1000, 500)) or {r.topic for r in found} == set(OUR_TOPICS), 30,
                     "not all topics have something")
    finally:
        consumer.close()
    incidents = [json.loads(r.value) for r in found if r.topic == "opsmend.incidents"]
    assert {r.key for r in found if r.topic == "opsmend.incidents"} == {e["data"]["id"].encode() for e in incidents}
    assert {"io.opsmend.incident.opened", "io.opsmend.incident.closed"} <= {e["type"] for e in incidents}
    assert all(e["specversion"] == "1.0" for e in incidents)
    outcomes = [json.loads(r.value)["data"] for r in found if r.topic == "opsmend.outcomes"]
    assert [o["verdict"] for o in outcomes] == ["fixed", "fixed"]
    (letter,) = [r for r in found if r.topic == "opsmend.dead-letters"]
    assert letter.value == b"\xff\xfe\x00 no telemetry"
    assert dict(letter.headers)["opsmend-topic"] == b"logs"
    assert compacted(reader.env["KAFKA"])


def compacted(bootstrap_servers: str) -> bool:
    resource = ConfigResource(ConfigResource.Type.TOPIC, "opsmend.incidents")
    admin = AdminClient({"bootstrap.servers": bootstrap_servers})
    (answer,) = admin.describe_configs([resource]).values()
    return bool(answer.result(10)["cleanup.policy"].value == "compact")


def finished(reader: Reader, count: int) -> dict[str, Any]:
    """The newest of `count` runs when it has ended: as fixed."""
    def ended() -> dict[str, Any] | None:
        runs = reader.get("/api/v1/runs")["runs"]
        return runs[0] if len(runs) == count and runs[0]["state"] not in ("running", "verifying", "undoing") else None

    run = reader.waits(ended, 90, f"run {count} did not end")
    whole = dict(reader.get(f"/api/v1/runs/{run['id']}"))
    assert whole["outcome"] is not None and whole["outcome"]["verdict"] == "fixed", json.dumps(whole, indent=1)
    return whole


def test_the_page_is_about_thirty_lines_of_configuration() -> None:
    lines = [line for name, text in FILES.items() if name.endswith((".toml", ".yaml")) for line in text.splitlines()]
    assert len(lines) <= 40
