"""The whole loop on the real lab: a process dies, is found, restarted and verified, across a kill -9 of opsmend."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from ingest.transports.embedded import EmbeddedConsumer
from ingest.types import Watermark
from opsmend.lab.policies import to_toml
from opsmend.lab.system import Lab, LabConfig
from opsmend.store.engine import open_engine
from opsmend.store.ledger import SqlLedger
from opsmend.store.queries import Queries
from opsmend.store.records import Records

pytestmark = [pytest.mark.lab, pytest.mark.timeout(300)]


class Opsmend:
    """`opsmend run` on a lab; can be killed and started again."""

    def __init__(self, lab: Lab, directory: Path) -> None:
        self._lab, self._dir = lab, directory
        self._config = lab.data_dir / "opsmend.toml"
        self._config.write_text(to_toml(lab.opsmend_config()))
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        announced = self._lab.data_dir / "service.json"
        announced.unlink(missing_ok=True)
        with (self._dir / "opsmend.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", "from opsmend.cli import main; main()", "run", "-c", str(self._config),
                 "--record", str(self._dir / "run.journal")],
                env={**os.environ, **self._lab.environment()}, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        deadline = time.monotonic() + 60
        while not announced.exists():
            assert self.process.poll() is None, (self._dir / "opsmend.log").read_text()[-3000:]
            assert time.monotonic() < deadline
            time.sleep(0.1)
        self.url = json.loads(announced.read_text())["url"]

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(30)

    def get(self, path: str) -> Any:
        return httpx.get(self.url + path, timeout=10).json()


@pytest.fixture
def lab() -> Iterator[Lab]:
    with Lab(LabConfig(lock_wait_seconds=120)) as running:
        yield running


def wait(check: Any, seconds: float, what: str) -> None:
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline, what
        time.sleep(0.3)


def test_a_dead_process_is_restarted_across_kill_minus_nine(lab: Lab, tmp_path: Path) -> None:
    opsmend = Opsmend(lab, tmp_path)
    opsmend.start()
    time.sleep(20)
    opsmend.kill()  # in the middle of ingest
    opsmend.start()
    time.sleep(20)
    assert lab.wait_steady(5, 40)
    assert opsmend.get("/api/v1/incidents?state=open")["incidents"] == []
    injection = lab.inject("proc_kill")
    ledger = SqlLedger(open_engine(f"sqlite:///{lab.data_dir / 'opsmend.db'}"))
    wait(lambda: any(s.state == "done" for r in ledger.runs() for s in r.steps), 40, "nothing was done")
    opsmend.kill()  # in the middle of a repair: done, not yet verified
    opsmend.start()
    wait(lambda: len(ledger.outcomes()) > 0, 60, "the run did not end after the restart")
    wait(lambda: lab.is_resolved(injection, 5), 30, f"not resolved: {lab.broken(injection)}")
    (run,) = ledger.runs()
    assert (run.service, run.action, run.state) == ("inventory", "process.restart", "finished")
    assert [o.verdict for o in ledger.outcomes()] == ["fixed"]
    assert len([e for e in lab.effects(injection.ts_ns) if e.actor == "opsmend"]) == 1
    assert opsmend.stop() == 0

    # Every record up to the stored position was counted once, whatever was killed in between.
    engine = open_engine(f"sqlite:///{lab.data_dir / 'opsmend.db'}")
    position = Records(engine, retention_seconds=3600).watermark()
    consumer = EmbeddedConsumer(lab.transport_config)
    consumer.start(Watermark(dict.fromkeys(position.next_offsets, 0)))
    there = 0
    while records := consumer.poll(50_000, 500):
        there += sum(r.offset < position.next_offsets[r.topic, r.partition] for r in records)
    totals = Queries(engine).totals()
    assert totals["records"] == there
    assert totals.get("dead", 0) == 0

    # The recorded run gives the same incidents, id by id, twice, and those that were seen live.
    def replay() -> list[Any]:
        done = subprocess.run([sys.executable, "-c", "from opsmend.cli import main; main()", "replay",
                               str(tmp_path / "run.journal"), "-c", str(lab.data_dir / "opsmend.toml"), "--json"],
                              env={**os.environ, **lab.environment()}, capture_output=True, text=True, check=True)
        return list(json.loads(done.stdout))

    first, second = replay(), replay()
    assert first == second
    assert first
    live = {i.id for i in Queries(engine).incidents(limit=100)}
    assert {i["id"] for i in first} >= live
