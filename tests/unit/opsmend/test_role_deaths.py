"""A role that dies ends its process, which says why; the next process counts it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import sqlalchemy as sa

from ingest.transports.config import TransportConfig
from ingest.transports.embedded import EmbeddedProducer
from opsmend.config import Settings
from opsmend.runners.poison import PoisonFlood
from opsmend.service import Service
from opsmend.store.deaths import Deaths, RoleDied
from opsmend.store.engine import open_engine

BUGGY = Path(__file__).parents[2] / "chaos" / "service_with_bug.py"


class KafkaBrokerUnavailableError(Exception):
    """As Quix Streams has one."""


@pytest.mark.parametrize(("error", "reason"), [
    (PoisonFlood("too many"), "poison_flood"), (KeyError("x"), "bug"), (MemoryError(), "memory"),
    (KafkaBrokerUnavailableError(), "transport"), (sa.exc.TimeoutError(), "store_busy"),
    (sa.exc.OperationalError("select", {}, Exception("gone")), "store")])
def test_reasons_are_bounded(error: Exception, reason: str) -> None:
    died = RoleDied("detect", error)
    assert (died.reason, died.role) == (reason, "detect") and str(died).startswith("detect died: ")


def test_each_is_counted_and_a_store_that_is_away_is_logged(tmp_path: Path) -> None:
    engine = open_engine(f"sqlite:///{tmp_path / 'opsmend.db'}")
    deaths, before = Deaths(engine), time.time_ns()
    for error in (KeyError("a\x00\ud800"), KeyError("b"), PoisonFlood("c")):
        deaths.note(RoleDied("detect", error))
    assert [(d.role, d.reason, d.times) for d in deaths.all()] == [("detect", "bug", 2), ("detect", "poison_flood", 1)]
    assert all(before <= d.last_ns <= time.time_ns() for d in deaths.all())
    with engine.begin() as c:
        c.execute(sa.text("DROP TABLE role_deaths"))
    deaths.note(RoleDied("detect", KeyError("c")))
    engine.dispose()


def test_the_process_says_it_last_and_the_next_one_counts_it(tmp_path: Path) -> None:
    (config := tmp_path / "opsmend.toml").write_text(
        f'[service]\ndata_dir = "{tmp_path}"\nlisten = "127.0.0.1:0"\n[ingest]\ntransport = "embedded"\n'
        '[repair]\nexecutor = "memory"\n')
    producer = EmbeddedProducer(TransportConfig(data_dir=str(tmp_path / "transport")))
    for _ in range(60):
        producer.send("logs", b'{"type":"log","service":"cart","message":"BUG"}')
    producer.close()
    ended = subprocess.run([sys.executable, str(BUGGY), "run", "-c", str(config)], stdin=subprocess.DEVNULL, text=True,
                           capture_output=True, timeout=60, env=os.environ | {"OPSMEND_CHAOS_BUG": "BUG"}, check=False)
    assert ended.returncode == 1, ended.stderr[-3000:]
    *_, logged, said = ended.stderr.splitlines()
    told = json.loads(logged)
    assert (told["event"], told["role"], told["reason"]) == ("service.died", "runner", "poison_flood")
    assert said.startswith("opsmend: runner died: processing fails on too many records") and "a bug of ours" in said
    service = Service(Settings.model_validate({"service": {"data_dir": tmp_path}, "repair": {"executor": "memory"}}))
    service.start()
    labels = {"role": "runner", "reason": "poison_flood"}
    assert service.metrics.registry.get_sample_value("opsmend_role_deaths_total", labels) == 1
    at = service.metrics.registry.get_sample_value("opsmend_role_death_timestamp_seconds", labels)
    assert at is not None and time.time() - 60 < at <= time.time()
    service.stop()
