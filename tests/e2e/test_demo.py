"""`opsmend demo`, as `make demo` runs it: dashboard up, first fault mended without a touch, Ctrl-C leaves nothing."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from opsmend.lab.processes import free_port

pytestmark = [pytest.mark.lab, pytest.mark.timeout(420)]


@pytest.fixture
def only_lab() -> Iterator[None]:
    """Wait until no other lab runs on this machine."""
    with (Path(tempfile.gettempdir()) / "opsmend-lab.lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        fcntl.flock(lock, fcntl.LOCK_UN)
    yield


def _alive(processes: list[psutil.Process]) -> list[psutil.Process]:
    return [p for p in processes if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]


def test_demo_mends_its_first_fault_and_ctrl_c_leaves_nothing(tmp_path: Path, only_lab: None) -> None:
    port = free_port()
    said = tmp_path / "said"
    with said.open("wb") as file:
        demo = subprocess.Popen(
            [sys.executable, "-c", "from opsmend.cli import main; main()", "demo", "--port", str(port),
             "--faults", "proc_kill"], stdin=subprocess.DEVNULL, stdout=file, stderr=file)
    started = time.monotonic()
    try:
        seen = 0.0
        while "mended after" not in said.read_text():
            assert demo.poll() is None, said.read_text()
            assert time.monotonic() - started < 240, said.read_text()
            if not seen:
                try:
                    page = httpx.get(f"http://127.0.0.1:{port}/", timeout=5)
                    seen = time.monotonic() - started if page.status_code == 200 else 0.0
                except httpx.HTTPError:
                    pass
            time.sleep(0.5)
        assert 0 < seen < 180
        runs = httpx.get(f"http://127.0.0.1:{port}/api/v1/incidents", params={"limit": 20}, timeout=10).json()
        assert runs["incidents"], "nothing was found"
        ours = psutil.Process(demo.pid).children(recursive=True)
        assert len(ours) > 10
        os.kill(demo.pid, signal.SIGINT)  # what Ctrl-C sends
        assert demo.wait(40) == 0
        deadline = time.monotonic() + 10
        while left := _alive(ours):
            assert time.monotonic() < deadline, [p.cmdline() for p in left]
            time.sleep(0.2)
    finally:
        if demo.poll() is None:
            demo.kill()
            demo.wait()
