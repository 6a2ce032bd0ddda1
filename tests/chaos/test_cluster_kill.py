"""Members, brokers and the store die under load; every record is counted once. `make chaos N=200` does it at length."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from opsmend.lab.backends import find_binaries
from opsmend.lab.kafka import why_not

KILLS = int(os.environ.get("OPSMEND_CHAOS_KILLS", "4"))
SEED = int(os.environ.get("OPSMEND_CHAOS_SEED", "0") or 0) or random.randrange(1, 10**6)


@pytest.mark.kafka
@pytest.mark.slow
@pytest.mark.timeout(300 + 40 * KILLS)
def test_every_record_is_counted_once_by_two_members_on_three_brokers(tmp_path: Path) -> None:
    if reason := why_not():
        pytest.skip(f"NOT TESTED against Kafka: {reason}")
    if not find_binaries().postgres_bin:
        pytest.skip("NOT TESTED: members share a PostgreSQL, and there is none here")
    report = tmp_path / "chaos.json"
    done = subprocess.run([sys.executable, str(Path(__file__).parent / "cluster.py"), "--kills", str(KILLS), "--seed",
                           str(SEED), "--json", str(report)], capture_output=True, text=True, check=False)
    assert report.exists(), f"seed {SEED}: {done.stderr[-4000:]}"
    found = json.loads(report.read_text())
    assert found["kills"] >= KILLS
    assert found["records in"] == found["acknowledged"] > 100 * KILLS
    assert (found["lost"], found["counted twice"], found["wrong totals"]) == (0, 0, {}), f"seed {SEED}: {found}"
    assert done.returncode == 0
