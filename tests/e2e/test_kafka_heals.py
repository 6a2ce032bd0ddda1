"""`opsmend run --transport kafka` on the real lab: what the shop tells goes through a real Apache Kafka, a process
dies, is found, restarted and verified."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from ingest.transports.registry import open_consumer
from ingest.types import Watermark
from opsmend.lab.kafka import KafkaBroker, why_not
from opsmend.lab.policies import to_toml
from opsmend.lab.system import Lab, LabConfig
from opsmend.store.engine import open_engine
from opsmend.store.ledger import SqlLedger
from opsmend.store.queries import Queries
from opsmend.store.records import Records

pytestmark = [pytest.mark.lab, pytest.mark.kafka, pytest.mark.timeout(900)]


@pytest.fixture
def lab() -> Iterator[Lab]:
    if reason := why_not():
        pytest.skip(f"NOT TESTED against Kafka: {reason}")
    with KafkaBroker() as broker:
        config = LabConfig(transport_kind="kafka", bootstrap_servers=broker.bootstrap_servers, lock_wait_seconds=600)
        with Lab(config) as running:
            yield running


def test_a_dead_process_is_restarted_through_kafka(lab: Lab, tmp_path: Path) -> None:
    toml, log = lab.data_dir / "opsmend.toml", tmp_path / "opsmend.log"
    toml.write_text(to_toml(lab.opsmend_config()))
    with log.open("wb") as out:
        opsmend = subprocess.Popen(
            [sys.executable, "-c", "from opsmend.cli import main; main()", "run", "-c", str(toml), "--transport", "kafka"],
            env={**os.environ, **lab.environment()}, stdin=subprocess.DEVNULL, stdout=out, stderr=out)

    def wait(check: Callable[[], object], seconds: float, what: str) -> None:
        deadline = time.monotonic() + seconds
        while not check():
            assert opsmend.poll() is None, log.read_text()[-3000:]
            assert time.monotonic() < deadline, f"{what}\n{log.read_text()[-3000:]}"
            time.sleep(0.3)

    try:
        wait((lab.data_dir / "service.json").exists, 60, "the service did not start")
        engine = open_engine(f"sqlite:///{lab.data_dir / 'opsmend.db'}")
        queries, ledger = Queries(engine), SqlLedger(engine)
        time.sleep(20)  # it learns what is usual here
        assert lab.wait_steady(5, 40)
        assert queries.totals().get("points", 0) > 0, log.read_text()[-3000:]
        assert queries.incidents(state="open") == []
        injection = lab.inject("proc_kill")
        wait(lambda: len(ledger.outcomes()) > 0, 90, "no repair ended")
        wait(lambda: lab.is_resolved(injection, 5), 30, f"not resolved: {lab.broken(injection)}")
        (run,) = ledger.runs()
        assert (run.service, run.action, run.state) == ("inventory", "process.restart", "finished")
        assert [o.verdict for o in ledger.outcomes()] == ["fixed"]
        assert len([e for e in lab.effects(injection.ts_ns) if e.actor == "opsmend"]) == 1
        opsmend.terminate()
        assert opsmend.wait(30) == 0, log.read_text()[-3000:]
    finally:
        if opsmend.poll() is None:
            opsmend.kill()
            opsmend.wait()

    # Every record that Kafka holds up to the stored position was counted once.
    position = Records(engine, retention_seconds=3600).watermark()
    consumer = open_consumer(replace(lab.transport_config, group_id="counts-again"))
    consumer.start(Watermark())
    wanted = sum(position.next_offsets.values())
    there, deadline = 0, time.monotonic() + 60
    while there < wanted and time.monotonic() < deadline:
        there += sum(r.offset < position.next_offsets.get((r.topic, r.partition), 0) for r in consumer.poll(10_000, 500))
    consumer.close()
    totals = queries.totals()
    assert totals["records"] == there == wanted
    assert totals.get("dead", 0) == 0
