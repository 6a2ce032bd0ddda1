"""The real OpenTelemetry Collector between the real SDK and opsmend: every log line is counted, and counted once."""

from __future__ import annotations

import json
import random
import re
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from processes_under_test import HERE, Opsmend, opsmend, otelcol, running, wait

from opsmend.lab.kafka import KafkaBroker, why_not
from opsmend.lab.processes import free_port

__all__ = ["opsmend", "otelcol"]

SEED = random.randrange(1, 10**6)


def collector_config(directory: Path, exporter: dict[str, Any], *, batch: int) -> tuple[Path, str]:
    """The file, and the address where the SDK reaches the collector."""
    receives = f"127.0.0.1:{free_port()}"
    (name,) = exporter
    pipeline = {"receivers": ["otlp"], "processors": ["batch"], "exporters": [name]}
    config = directory / "collector.yaml"
    config.write_text(json.dumps({  # YAML takes JSON
        "receivers": {"otlp": {"protocols": {"http": {"endpoint": receives}}}},
        "processors": {"batch": {"send_batch_size": batch, "send_batch_max_size": batch, "timeout": "100ms"}},
        "exporters": exporter,
        "service": {"telemetry": {"metrics": {"level": "none"}, "logs": {"sampling": {"enabled": False}}},
                    "pipelines": {"logs": pipeline, "metrics": pipeline, "traces": pipeline}}}))
    return config, f"http://{receives}"


def send(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, str(HERE / "sdk_sender.py"), *arguments], stdout=subprocess.PIPE, text=True)


def result(sender: subprocess.Popen[str], seconds: float) -> dict[str, int]:
    out, _ = sender.communicate(timeout=seconds)
    assert sender.returncode == 0
    found: dict[str, int] = json.loads(out)
    return found


def numbers(service: Opsmend) -> Counter[int]:
    """How often each numbered line was taken, retried requests left out as the service leaves them out."""
    found: Counter[int] = Counter()
    for batch in service.batches():
        found.update(int(m[1]) for text in batch.logs.text if (m := re.fullmatch(r"line number (\d+)", text)))
    return found


@pytest.mark.timeout(240)
def test_every_line_is_there_once_though_we_are_killed_restarted_and_full(
        tmp_path: Path, otelcol: Path, opsmend: Callable[..., Opsmend]) -> None:
    service = opsmend("[ingest]\nmax_waiting_records = 5\n")
    exporter = {"otlp_http": {
        "endpoint": service.url, "compression": "gzip", "timeout": "5s",
        "retry_on_failure": {"enabled": True, "initial_interval": "100ms", "max_interval": "500ms",
                             "max_elapsed_time": "0s"},
        "sending_queue": {"enabled": True, "queue_size": 100_000, "num_consumers": 3}}}
    config, url = collector_config(tmp_path, exporter, batch=10)
    dice, dies_by_itself = random.Random(SEED), 3
    with running([str(otelcol), "--config", str(config)], tmp_path / "collector.log") as collector:
        wait(lambda: "Everything is ready" in collector.said(), 30, collector.said)
        until = tmp_path / "enough"
        sender = send("lines", url, str(until), "60")
        try:
            # Killed between "durable" and "yes": its sender hears nothing and sends the same again.
            for _ in range(dies_by_itself):
                service.start(OPSMEND_CHAOS_DIE_AFTER=str(dice.randint(1, 20)))
                assert service.process is not None
                assert service.process.ended(90) == -9, service.log()
            # Killed whenever it happens to be.
            for _ in range(2):
                service.start()
                service.wait_ready()
                time.sleep(dice.uniform(0, 1))
                service.kill()
            # Full: the store is held by somebody else, nothing is read on, and more comes in than may wait.
            service.start()
            service.wait_ready()
            holder = sqlite3.connect(tmp_path / "opsmend.db", isolation_level=None, timeout=30)
            holder.execute("BEGIN IMMEDIATE")
            wait(lambda: "records wait to be read" in collector.said(), 60, collector.said)
            time.sleep(1)
            holder.execute("ROLLBACK")
            holder.close()
            until.touch()
            count = result(sender, 60)["logs"]
        finally:
            sender.kill()
            sender.wait()
        wait(lambda: service.totals().get("logs", 0) >= count, 60, lambda: f"seed {SEED}: {service.totals()}")
        time.sleep(1)  # whatever is still to come would be too much
    assert "HTTP Status Code 503" in collector.said()  # a google.rpc.Status that it could read
    assert numbers(service) == dict.fromkeys(range(count), 1), f"seed {SEED}"
    totals = service.totals()
    assert totals["logs"] == count and not totals.get("dead"), f"seed {SEED}: {totals}"
    assert totals["duplicates"] >= dies_by_itself, f"seed {SEED}: {totals}"
    assert service.process is not None and service.process.stop() == 0


@pytest.mark.kafka
@pytest.mark.timeout(240)
def test_sdk_to_collector_to_kafka_to_an_incident(
        tmp_path: Path, otelcol: Path, opsmend: Callable[..., Opsmend]) -> None:
    if reason := why_not():
        pytest.skip(f"NOT TESTED against Kafka: {reason}")
    with KafkaBroker() as broker:
        service = opsmend(f'[ingest]\ntransport = "kafka"\n[ingest.kafka]\nbootstrap_servers = "{broker.bootstrap_servers}"\n'
                          "[detect]\nbucket_seconds = 1.0\nallowed_lateness_seconds = 2.0\n")
        exporter = {"kafka": {
            "brokers": broker.bootstrap_servers.split(","), "logs": {"topic": "logs"}, "metrics": {"topic": "metrics"},
            "traces": {"topic": "traces"}, "producer": {"required_acks": -1}}}
        config, url = collector_config(tmp_path, exporter, batch=100)
        with running([str(otelcol), "--config", str(config)], tmp_path / "collector.log") as collector:
            wait(lambda: "Everything is ready" in collector.said(), 30, collector.said)
            service.start()
            service.wait_ready()
            sent = result(send("shop", url, "20", "10"), 90)
            wait(lambda: all(service.totals().get(what, 0) >= sent[what] for what in ("logs", "spans")), 60,
                 lambda: f"{sent} {service.totals()} {collector.said()[-2000:]}")
            totals = service.totals()
            assert {what: totals[what] for what in sent} == sent
            assert not totals.get("dead") and totals["points"] > 100
            assert totals["format.otlp-proto"] == totals["records"]

            def found() -> Any:
                return [i for i in service.queries.incidents(limit=100) if "cart" in i.services]

            (incident, *_) = wait(found, 30, lambda: str(service.queries.incidents(limit=10)))
            wait(lambda: _suspect(service, incident.id) == "cart", 30, lambda: str(_suspect(service, incident.id)))
        assert service.process is not None and service.process.stop() == 0


def _suspect(service: Opsmend, incident_id: str) -> str:
    diagnosis = next(iter(service.queries.diagnoses(incident_id, 1)), None)
    return diagnosis.suspects[0].service if diagnosis is not None and diagnosis.suspects else ""
