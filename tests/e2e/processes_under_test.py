"""opsmend and those who send to it, as real processes that can be killed and started again."""

from __future__ import annotations

import lzma
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from ingest.decode import Decoder
from ingest.types import Batch
from opsmend.journal import read_polls
from opsmend.lab.processes import free_port
from opsmend.retries import RetryWindow
from opsmend.store.engine import open_engine
from opsmend.store.queries import Queries

HERE = Path(__file__).parent


def wait(check: Callable[[], Any], seconds: float, what: Callable[[], str] | str) -> Any:
    """What `check` gave when it was true."""
    deadline = time.monotonic() + seconds
    while not (found := check()):
        assert time.monotonic() < deadline, what if isinstance(what, str) else what()
        time.sleep(0.1)
    return found


class Process:
    """A command whose output goes to a file."""

    def __init__(self, command: Sequence[str], log: Path, env: dict[str, str] | None = None) -> None:
        self.log = log
        with log.open("ab") as out:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                                             env={**os.environ, **(env or {})})

    def said(self) -> str:
        return self.log.read_text(errors="replace")

    def is_alive(self) -> bool:
        return self._process.poll() is None

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def stop(self, seconds: float = 30) -> int:
        self._process.terminate()
        return self._process.wait(seconds)

    def ended(self, seconds: float) -> int:
        return self._process.wait(seconds)


@contextmanager
def running(*arguments: Any, **more: Any) -> Iterator[Process]:
    """A Process that does not outlive the block."""
    process = Process(*arguments, **more)
    try:
        yield process
    finally:
        if process.is_alive():
            process.kill()


class Opsmend:
    """`opsmend run` on a directory and a fixed port, with a journal of what it read."""

    def __init__(self, directory: Path, settings: str = "") -> None:
        self.directory, self.port = directory, free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.toml, self.journal = directory / "opsmend.toml", directory / "run.journal"
        self.toml.write_text(f'[service]\ndata_dir = "{directory}"\nlisten = "127.0.0.1:{self.port}"\n'
                             f'[repair]\nexecutor = "memory"\n{settings}')
        self.process: Process | None = None
        self.queries = Queries(open_engine(f"sqlite:///{directory / 'opsmend.db'}"))

    def start(self, **env: str) -> None:
        """Returns at once. OPSMEND_CHAOS_DIE_AFTER=n: it is gone after n durable requests, before it says yes to the last."""
        self.process = Process([sys.executable, str(HERE / "opsmend_that_dies.py"), "run", "-c", str(self.toml),
                                "--record", str(self.journal)], self.directory / "opsmend.log", env)

    def is_ready(self) -> bool:
        try:
            return httpx.get(f"{self.url}/healthz", timeout=5).status_code == 200
        except httpx.TransportError:
            return False

    def wait_ready(self) -> None:
        assert self.process is not None
        process = self.process
        wait(lambda: self.is_ready() or not process.is_alive(), 90, self.log)
        assert process.is_alive(), self.log()

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()

    def start_again(self) -> None:
        """kill -9, and back."""
        self.kill()
        self.start()
        self.wait_ready()

    def log(self) -> str:
        return (self.directory / "opsmend.log").read_text(errors="replace")[-3000:]

    def totals(self) -> dict[str, int]:
        return dict(self.queries.totals())

    def batches(self) -> Iterator[Batch]:
        """What it read, decoded anew, without what was sent again."""
        window, decoder = RetryWindow(), Decoder()
        for records in read_polls(self.journal):
            yield decoder.decode(window.sift(records)[0])


@pytest.fixture
def opsmend(tmp_path: Path) -> Iterator[Callable[..., Opsmend]]:
    made: list[Opsmend] = []

    def make(settings: str = "") -> Opsmend:
        made.append(Opsmend(tmp_path, settings))
        return made[-1]

    yield make
    for one in made:
        if one.process is not None and one.process.is_alive():
            one.kill()


@pytest.fixture(scope="session")
def otelcol(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The OpenTelemetry Collector that OPSMEND_TEST_OTELCOL names: a binary, or one packed by xz."""
    named = os.environ.get("OPSMEND_TEST_OTELCOL", "")
    if not named or not Path(named).is_file():
        pytest.skip("NOT TESTED with the OpenTelemetry Collector: OPSMEND_TEST_OTELCOL names no otelcol binary or .xz")
    if not named.endswith(".xz"):
        return Path(named)
    binary = tmp_path_factory.mktemp("otelcol") / "otelcol"
    with lzma.open(named) as packed, binary.open("wb") as out:
        shutil.copyfileobj(packed, out)
    binary.chmod(0o755)
    return binary
