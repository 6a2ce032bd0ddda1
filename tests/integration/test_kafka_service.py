"""The service on a real Apache Kafka, and on none: it says what is wrong, and outlives its broker."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ingest.transports.config import TransportConfig
from ingest.transports.registry import open_producer
from opsmend.lab.kafka import KafkaBroker, why_not
from opsmend.store.engine import open_engine
from opsmend.store.queries import Queries

OPSMEND = [sys.executable, "-c", "from opsmend.cli import main; main()"]


def configure(directory: Path, transport: str, kafka: str) -> Path:
    toml = directory / "opsmend.toml"
    toml.write_text(f'[service]\ndata_dir = "{directory}"\nlisten = "127.0.0.1:0"\n[ingest]\ntransport = "{transport}"\n'
                    f'[ingest.kafka]\n{kafka}\n[repair]\nexecutor = "memory"\n')
    return toml


def test_without_a_broker_the_service_does_not_start_and_says_why(tmp_path: Path) -> None:
    cases = [("kafka", 'bootstrap_servers = "127.0.0.1:1"', 3, "Kafka at 127.0.0.1:1"),
             ("kafka-python", 'bootstrap_servers = "127.0.0.1:1"', 3, "Kafka at 127.0.0.1:1"),
             ("kafka", "", 2, "[ingest.kafka] bootstrap_servers")]
    running = []
    begun = time.monotonic()
    for n, (transport, kafka, _, _) in enumerate(cases):
        (tmp_path / str(n)).mkdir()
        toml = configure(tmp_path / str(n), transport, kafka)
        running.append(subprocess.Popen([*OPSMEND, "run", "-c", str(toml)], stderr=subprocess.PIPE, text=True))
    for process, (_, _, code, told) in zip(running, cases, strict=True):
        _, err = process.communicate(timeout=60)
        assert process.returncode == code, err[-2000:]
        (line,) = (line for line in err.splitlines() if line.startswith("opsmend: "))
        assert told in line
        assert "[ingest.kafka]" in line  # the remedy
        assert "Traceback" not in err
    assert time.monotonic() - begun < 40  # ten seconds for the broker; the rest is a busy machine's start


def wait(check: Callable[[], bool], process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 60
    while not check():
        assert process.poll() is None, log.read_text()[-3000:]
        assert time.monotonic() < deadline, log.read_text()[-3000:]
        time.sleep(0.1)


@pytest.mark.kafka
@pytest.mark.parametrize("transport", ["kafka", "kafka-python"])
def test_the_service_outlives_a_kill_of_its_broker(tmp_path: Path, transport: str) -> None:
    if reason := why_not():
        pytest.skip(f"NOT TESTED against Kafka: {reason}")
    log = tmp_path / "log"
    with KafkaBroker() as broker, log.open("wb") as out:
        toml = configure(tmp_path, transport, f'bootstrap_servers = "{broker.bootstrap_servers}"')

        def put(first: int, last: int) -> None:
            producer = open_producer(TransportConfig(kind="kafka", bootstrap_servers=broker.bootstrap_servers))
            for n in range(first, last):
                producer.send("logs", b"line %d" % n, key=b"%d" % n)
            producer.flush(30)
            producer.close()

        put(0, 100)
        process = subprocess.Popen([*OPSMEND, "run", "-c", str(toml)], stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                                   env=os.environ)
        try:
            queries = Queries(open_engine(f"sqlite:///{tmp_path / 'opsmend.db'}"))
            wait(lambda: queries.totals().get("records") == 100, process, log)
            broker.kill()
            time.sleep(2)
            broker.start()
            put(100, 200)
            wait(lambda: queries.totals().get("records", 0) >= 200, process, log)
            assert queries.totals()["records"] == queries.totals()["logs"] == 200
            url = json.loads((tmp_path / "service.json").read_text())["url"]
            assert url.startswith("http://127.0.0.1:")
            process.terminate()
            assert process.wait(30) == 0
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
