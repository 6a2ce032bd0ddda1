"""A data directory belongs to one process, and to the next as soon as that one is gone."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from ingest.errors import TransportError
from opsmend.lock import lock_data_dir

HOLDER = ("import fcntl, sys, time; f = open(sys.argv[1], 'a'); fcntl.flock(f, fcntl.LOCK_EX); print(flush=True); "
          "time.sleep(float(sys.argv[2]))")


def holder(directory: Path, seconds: float) -> subprocess.Popen[bytes]:
    process = subprocess.Popen([sys.executable, "-c", HOLDER, str(directory / "lock"), str(seconds)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    return process


def test_the_dying_are_waited_for(tmp_path: Path) -> None:
    with holder(tmp_path, 0.5):
        lock_data_dir(tmp_path, wait_seconds=30).close()


def test_the_living_are_not(tmp_path: Path) -> None:
    with holder(tmp_path, 60) as other:
        with pytest.raises(TransportError, match="another opsmend runs on") as error:
            lock_data_dir(tmp_path, wait_seconds=0.3)
        other.kill()
    assert error.value.reason == "busy"
