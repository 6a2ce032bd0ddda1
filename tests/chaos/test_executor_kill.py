"""kill -9 before and after every step of a repair: after the restart it ends, and nothing was done twice."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from opsmend.store.engine import open_engine
from opsmend.store.ledger import SqlLedger

HERE = Path(__file__).parent
STEPS = ("begin", "back.prepare", "back.act", "acted", "verify", "back.undo", "finish")
POINTS = [f"{when}:{step}" for step in STEPS for when in ("before", "after")]


@pytest.fixture
def actuator(tmp_path: Path) -> Iterator[tuple[int, Path]]:
    state = tmp_path / "actuator.json"
    process = subprocess.Popen([sys.executable, str(HERE / "actuator.py"), str(state)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    try:
        yield int(process.stdout.readline()), state
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def one_run(directory: Path, port: int, mended: bool, crash_at: str = "") -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OPSMEND_CHAOS_CRASH_AT": crash_at,
                   "OPSMEND_CHAOS_MARKER": str(directory / "crashed") if crash_at else ""}
    return subprocess.run(
        [sys.executable, str(HERE / "one_run.py"), str(directory), str(port), "dbos", "mended" if mended else "broken"],
        env=environment, capture_output=True, text=True, timeout=90)


@pytest.mark.parametrize("point", POINTS)
def test_a_run_killed_at_any_point_ends_and_acts_once(tmp_path: Path, actuator: tuple[int, Path], point: str) -> None:
    port, state = actuator
    mended = "undo" not in point
    killed = one_run(tmp_path, port, mended, crash_at=point)
    assert killed.returncode == -9, f"was not killed at {point}: {killed.stdout}{killed.stderr[-2000:]}"
    restarted = one_run(tmp_path, port, mended)
    assert restarted.returncode == 0, restarted.stderr[-2000:]
    effects = json.loads(state.read_text())["effects"]
    assert len(effects) == len(set(effects)), f"done twice: {effects}"
    ledger = SqlLedger(open_engine(f"sqlite:///{tmp_path / 'opsmend.db'}"))
    (run,) = ledger.runs()
    (outcome,) = ledger.outcomes()
    assert run.state == "finished"
    assert ledger.leases() == []
    if mended:
        assert restarted.stdout.split()[-2:] == ["fixed", "False"]
        assert [e.rsplit("/", 1)[-1] for e in effects] == ["back"]
    else:
        assert outcome.verdict == "not_fixed"
        assert outcome.undone
        assert json.loads(state.read_text())["version"] == "v2"
