"""The forecaster's life beside the service: a check now and then, and new weights the moment they count."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import structlog

from detect.forecaster.versions import ModelVersions
from detect.forecaster.weights import Weights
from opsmend.forecasting.check import Order

log = structlog.get_logger()


@dataclass(frozen=True)
class LifeConfig:
    """When checks run, and what they may cost."""

    is_tuning: bool = True
    """Whether this process starts checks; it always follows promotions and roll-backs."""
    every_seconds: float = 86_400.0
    cpu_seconds: int = 240
    watch_seconds: float = 5.0
    """How often the champion's file is looked at, and whether a check has ended: at least as often as checks are due."""
    longest_seconds: float = 3600.0
    """Wall time after which a check is ended: a machine with no time to spare comes first."""


class ForecasterLife:
    """A thread that starts checks as processes of their own, and hands every new champion to `adopt`.

    Promotions and roll-backs reach the service by the champion's file, whoever wrote it: a check, or a person with
    `opsmend models rollback`. `adopt` is called from this thread.
    """

    def __init__(self, config: LifeConfig, versions: ModelVersions, order: Order,
                 adopt: Callable[[Weights], None]) -> None:
        self._config, self._versions, self._order, self._adopt = config, versions, order, adopt
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._child: subprocess.Popen[str] | None = None
        self._child_began = 0.0
        self._stamp = versions.stamp()
        self._last_check = self._remembered()

    def start(self) -> None:
        self._thread = threading.Thread(target=self._run, name="forecaster", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """A check that is under way is ended: it leaves the old champion or the new one."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(10)
        if self._child is not None:
            self._child.kill()
            self._child.communicate()
            self._child = None

    def _run(self) -> None:
        while not self._stop.wait(min(self._config.watch_seconds, max(self._config.every_seconds, 0.5))):
            self.turn()

    def turn(self) -> None:
        """Look once: a new champion, a check that has ended, a check that is due."""
        stamp = self._versions.stamp()
        if stamp != self._stamp:
            self._stamp = stamp
            weights = self._versions.champion()
            log.info("forecaster.champion", version=weights.version)
            self._adopt(weights)
        if self._child is not None:
            self._look_after(self._child)
        elif self._config.is_tuning and time.time() - self._last_check >= self._config.every_seconds:
            self._begin()

    def _begin(self) -> None:
        self._last_check = time.time()
        self._child_began = time.monotonic()
        self._child = subprocess.Popen(
            [sys.executable, "-m", "opsmend.forecasting.check"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL, text=True)
        if self._child.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self._child.stdin.write(json.dumps(asdict(self._order)))
                self._child.stdin.close()
            self._child.stdin = None

    def _look_after(self, child: subprocess.Popen[str]) -> None:
        if child.poll() is None:
            if time.monotonic() - self._child_began > self._config.longest_seconds:
                child.kill()
            return
        said, _ = child.communicate()
        self._child = None
        if child.returncode == 0:
            log.info("forecaster.checked", **json.loads(said))
        else:
            log.warning("forecaster.check_failed", code=child.returncode)

    def _remembered(self) -> float:
        """The time of the last check, by its report's file; a service that was never checked waits a full turn."""
        try:
            return (self._versions.directory / "check.json").stat().st_mtime
        except OSError:
            return time.time()


def models_dir(data_dir: Path) -> Path:
    """Where the forecaster's versions of a service are."""
    return data_dir / "models" / "forecaster"
