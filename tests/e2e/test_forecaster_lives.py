"""A running service whose series change: drift is seen, a challenger is tuned beside it, wins and is taken over; and back.

Some 50 CPU seconds, most of them of the checks, which run at the lowest priority.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray
from processes_under_test import Opsmend, opsmend, wait

__all__ = ["opsmend"]

SERIES, BUCKET_NS = 24, 10**9
AT_ONCE = 250
"""Buckets a request: what is five minutes ahead of all the rest counts as a broken clock."""
START_NS = 1_790_000_000 * 10**9
SETTINGS = "[forecaster]\nevery_hours = 0.0003\ncpu_seconds = 20\n[detect]\nbucket_seconds = 1\n"
"""A check a second."""


def requests(rows: int) -> NDArray[np.float64]:
    """[rows, SERIES]: counts at a steady rate, which the shipped weights know as well as can be."""
    dice = np.random.default_rng(0)
    return np.array([dice.poisson(20 + i, rows) for i in range(SERIES)], float).T


def saws(rows: int) -> NDArray[np.float64]:
    """[rows, SERIES]: what fills slowly and is emptied every two minutes, as memory that is collected."""
    dice, k = np.random.default_rng(1), np.arange(rows)
    return np.array([100 + 0.5 * ((k + 7 * i) % 120) + dice.normal(0, 1, rows) for i in range(SERIES)]).T


def is_read(service: Opsmend, points: int) -> bool:
    return service.totals().get("points", 0) >= points


def send(service: Opsmend, values: NDArray[np.float64], first: int) -> None:
    """OTLP, as fast as it is read."""
    for begin in range(0, len(values), AT_ONCE):
        part = values[begin: begin + AT_ONCE]
        told = [{"resource": {"attributes": [{"key": "service.name", "value": {"stringValue": f"s{i}"}}]},
                 "scopeMetrics": [{"metrics": [{"name": "queue.usage", "gauge": {"dataPoints": [
                     {"timeUnixNano": str(START_NS + (first + begin + k) * BUCKET_NS), "asDouble": float(x)}
                     for k, x in enumerate(part[:, i])]}}]}]} for i in range(SERIES)]
        httpx.post(f"{service.url}/v1/metrics", json={"resourceMetrics": told}, timeout=30).raise_for_status()
        until = (first + begin + len(part)) * SERIES
        wait(partial(is_read, service, until), 60, service.log)


def lines(service: Opsmend, event: str) -> list[dict[str, Any]]:
    """What the service logged under this name."""
    log = (service.directory / "opsmend.log").read_text(errors="replace")
    return [json.loads(line) for line in log.splitlines() if line.endswith("}") and f'"{event}"' in line]


def taken_over(service: Opsmend) -> list[str]:
    return [str(line["version"]) for line in lines(service, "forecaster.champion")]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_drift_is_answered_by_a_tuned_version_and_a_person_can_go_back(opsmend: Callable[..., Opsmend]) -> None:
    service = opsmend(SETTINGS)
    service.start()
    service.wait_ready()

    def checks(*done: str) -> list[dict[str, Any]]:
        return [check for check in lines(service, "forecaster.checked") if check["done"] in done]

    send(service, requests(704), 0)
    usual = wait(lambda: checks("kept"), 240, service.log)[0]
    assert usual["usual_loss"] == usual["relative_loss"]  # its record begins with this check
    send(service, saws(1400), 704)
    drifted = wait(lambda: [check for check in checks("promoted") if check["has_drifted"]], 240, service.log)[0]
    assert drifted["relative_loss"] > 1.15 * usual["usual_loss"]
    assert drifted["version"].startswith(f"{usual['version']}-tuned-")
    wait(lambda: drifted["version"] in taken_over(service), 60, service.log)
    assert service.is_ready()
    before = len(taken_over(service))
    back = subprocess.run([sys.executable, "-c", "from opsmend.cli import main; main()", "models", "rollback", "--json",
                           "-c", str(service.toml)], capture_output=True, text=True, check=True)
    version = json.loads(back.stdout)["champion"]
    wait(lambda: version in taken_over(service)[before:], 60, service.log)
    assert service.is_ready()
