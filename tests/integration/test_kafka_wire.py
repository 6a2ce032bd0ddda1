"""`opsmend wire` straight from a topic of a real Apache Kafka, without a configuration file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ingest.transports.config import TransportConfig
from ingest.transports.registry import open_producer
from opsmend.commands.wire import run_wire
from opsmend.lab.kafka import KafkaBroker, why_not

GOLDEN = Path(__file__).parents[1] / "contract" / "wire"


@pytest.mark.kafka
def test_a_topic_of_many_formats(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    if reason := why_not():
        pytest.skip(f"NOT TESTED against Kafka: {reason}")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPSMEND_SERVICE__DATA_DIR", str(tmp_path / "data"))
    values = [p.read_bytes() for p in sorted(GOLDEN.glob("*/*")) if p.suffix != ".expected" and p.parent != GOLDEN]
    broken = b"\x00\x01\x02 nothing that anybody writes \xff"
    with KafkaBroker() as broker:
        producer = open_producer(TransportConfig(kind="kafka", bootstrap_servers=broker.bootstrap_servers))
        for value in [*values, broken]:
            producer.send("mixed", value)
        producer.flush()
        producer.close()
        code = run_wire([], tmp_path / "report.json", list_formats=False, topics=["mixed"], count=1000,
                        bootstrap_servers=broker.bootstrap_servers, wait_seconds=30)
    report = json.loads((tmp_path / "report.json").read_text())["files"]["mixed"]
    assert code == 1
    assert report["records"] == len(values) + 1 and report["dead"] == 1 and sum(report["formats"].values()) == len(values)
    assert report["formats"].keys() == {p.name for p in GOLDEN.iterdir() if p.is_dir() and not p.name.startswith("_")}
    (letter,) = report["dead_letters"]
    told = capsys.readouterr().out
    assert f"mixed/{letter['partition']}@{letter['offset']}: {letter['reason']}" in told
    assert "\x1b" not in told and "\x00" not in told
