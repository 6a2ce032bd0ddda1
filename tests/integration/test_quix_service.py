"""`opsmend run --runner quix` as a user starts it: all roles in one process, with API and dashboard."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from ingest.transports.config import TransportConfig
from ingest.transports.registry import open_producer
from opsmend.lab.kafka import KafkaBroker, why_not
from opsmend.store.deaths import Deaths
from opsmend.store.engine import open_engine

OPSMEND = [sys.executable, "-c", "from opsmend.cli import main; main()"]


def configure(directory: Path, transport: str, kafka: str) -> Path:
    toml = directory / "opsmend.toml"
    toml.write_text(f'[service]\ndata_dir = "{directory}"\nlisten = "127.0.0.1:0"\n[ingest]\ntransport = "{transport}"\n'
                    f"[ingest.kafka]\n{kafka}\n[detect]\nbucket_seconds = 1.0\nallowed_lateness_seconds = 2.0\n"
                    '[repair]\nexecutor = "memory"\n[scale]\nshards = 3\n')
    return toml


def test_without_kafka_it_says_what_it_needs(tmp_path: Path) -> None:
    pytest.importorskip("quixstreams", reason="NOT TESTED: the extra `scale` is not installed")
    cases = [("embedded", "", ["--runner", "quix"], 2, 'needs [ingest] transport = "kafka"'),
             ("kafka", 'bootstrap_servers = "127.0.0.1:1"', ["--runner", "quix"], 3, "Kafka at 127.0.0.1:1"),
             ("kafka", 'bootstrap_servers = "127.0.0.1:1"', ["--runner", "quix", "--role", "worker"], 3, "Kafka at"),
             ("kafka", "", ["--runner", "quicks"], 2, "--runner quicks")]
    running = []
    for n, (transport, kafka, options, _, _) in enumerate(cases):
        (tmp_path / str(n)).mkdir()
        toml = configure(tmp_path / str(n), transport, kafka)
        running.append(subprocess.Popen([*OPSMEND, "run", "-c", str(toml), *options], stderr=subprocess.PIPE, text=True))
    ended = [(process.communicate(timeout=90)[1], process.returncode) for process in running]
    for (err, returned), (*_, code, told) in zip(ended, cases, strict=True):
        assert returned == code, err[-2000:]
        assert told in err
        assert "Traceback" not in err


def wait(check: Callable[[], bool], process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 90
    while not check():
        assert process.poll() is None, log.read_text()[-3000:]
        assert time.monotonic() < deadline, log.read_text()[-3000:]
        time.sleep(0.2)


@pytest.mark.kafka
@pytest.mark.timeout(240)
def test_one_process_does_all_and_serves_the_dashboard(tmp_path: Path) -> None:
    pytest.importorskip("quixstreams", reason="NOT TESTED: the extra `scale` is not installed")
    if reason := why_not():
        pytest.skip(f"NOT TESTED against Kafka: {reason}")
    log = tmp_path / "log"
    with KafkaBroker() as broker, log.open("wb") as out:
        toml = configure(tmp_path, "kafka", f'bootstrap_servers = "{broker.bootstrap_servers}"')
        producer = open_producer(TransportConfig(kind="kafka", bootstrap_servers=broker.bootstrap_servers))
        start = int(time.time()) - 300
        for n in range(60):
            for service in ("front", "back"):
                up = 0.0 if service == "back" and n >= 45 else 1.0
                row = {"type": "metric", "ts": start + n, "service": service, "name": "process.up", "value": up}
                producer.send("metrics", json.dumps(row).encode(), key=service.encode())
                producer.send("logs", json.dumps({"type": "log", "ts": start + n, "service": service, "level": "info",
                                                  "message": f"tick {n}"}).encode(), key=service.encode())
        producer.send("logs", b"\xfe\xff\x00 not text")
        producer.flush(30)
        producer.close()
        process = subprocess.Popen([*OPSMEND, "run", "-c", str(toml), "--runner", "quix"], stdin=subprocess.DEVNULL,
                                   stdout=out, stderr=out)
        try:
            wait((tmp_path / "service.json").exists, process, log)
            url = json.loads((tmp_path / "service.json").read_text())["url"]

            def has_found_it() -> bool:
                found = httpx.get(f"{url}/api/v1/incidents").json()["incidents"]
                return any("back" in incident["services"] for incident in found)

            wait(has_found_it, process, log)
            page = httpx.get(f"{url}/", follow_redirects=True)
            assert page.status_code == 200
            assert "back" in page.text
            metrics = httpx.get(f"{url}/metrics").text
            assert 'opsmend_ingest_dead_letters_total{reason="unknown_format"} 1.0' in metrics
            process.terminate()
            assert process.wait(40) == 0, log.read_text()[-3000:]
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()


@pytest.mark.kafka
@pytest.mark.timeout(180)
def test_a_worker_whose_role_dies_says_why_and_notes_it(tmp_path: Path) -> None:
    pytest.importorskip("quixstreams", reason="NOT TESTED: the extra `scale` is not installed")
    if reason := why_not():
        pytest.skip(f"NOT TESTED against Kafka: {reason}")
    (tmp_path / "quix").write_text("no directory: there is no room for states")
    with KafkaBroker() as broker:
        toml = configure(tmp_path, "kafka", f'bootstrap_servers = "{broker.bootstrap_servers}"')
        for times in (0, 1, 2):
            ended = subprocess.run([*OPSMEND, "run", "-c", str(toml), "--runner", "quix", "--role", "detect"], text=True,
                                   stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=False)
            assert ended.returncode == 1, ended.stderr[-3000:]
            *_, logged, said = ended.stderr.splitlines()
            told = json.loads(logged)
            assert (told["event"], told["role"], told["reason"]) == ("worker.died", "detect", "bug")
            assert said.startswith("opsmend: detect died: ")
            assert times or not (tmp_path / "opsmend.db").exists(), "no store is made for this"
            engine = open_engine(f"sqlite:///{tmp_path / 'opsmend.db'}")
            assert [d.times for d in Deaths(engine).all()] == ([times] if times else [])
            engine.dispose()
