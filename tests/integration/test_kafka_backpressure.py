"""Twenty seconds of ten times too much: memory stays bounded, the lag is told, and nothing is lost."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from opsmend.lab.kafka import why_not

BENCH = Path(__file__).parents[2] / "bench" / "backpressure.py"


@pytest.mark.kafka
@pytest.mark.slow
@pytest.mark.timeout(300)
def test_memory_is_bounded_under_overload_and_everything_is_there_in_the_end(tmp_path: Path) -> None:
    if reason := why_not():
        pytest.skip(f"NOT TESTED against Kafka: {reason}")
    report = tmp_path / "report.json"
    done = subprocess.run([sys.executable, str(BENCH), "--seconds", "20", "--json", str(report)], capture_output=True,
                          text=True, check=False)
    assert report.exists(), done.stderr[-3000:]
    found = json.loads(report.read_text())
    assert found["ours"] <= found["bound_mb"]
    assert found["counted"] == found["records"]
    assert found["late"] == 0
    assert found["sent_per_second"] > 3 * found["taken_per_second"]  # a busy machine may not manage ten times
    assert found["largest_lag"] > 10_000
