"""Root-cause cases become alerts that `opsmend eval alerts` reads."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from opsmend.evaluate.alerts_data import read_faults, read_graph

SCRIPT = Path(__file__).resolve().parents[3] / "bench" / "alerts_of_cases.py"
BEGIN = 1_660_000_000


def write(cases: Path) -> None:
    """Two faults: in the first, the cart's latency rises in the second minute and its calls to the database are slow."""
    names = "time,cart|latency,db|cpu"
    usual = [f"{BEGIN - 6_000 + 60 * n},{10 + n % 3},{50 + n % 5}" for n in range(60)]
    cases.mkdir()
    (cases / "normal.csv").write_text("\n".join([names, *usual]) + "\n")
    for case, latency, slow in (("a", (11, 90, 95), 9_000), ("b", (11, 12, 10), 1_000)):
        at = cases / case
        at.mkdir()
        rows = [f"{BEGIN + 60 * n},{value},52" for n, value in enumerate(latency)]
        (at / "metrics.csv").write_text("\n".join([names, *rows]) + "\n")
        calls = [f"{BEGIN + 60 * n},cart,db,get,{slow if n else 1_000}" for n in range(3)]
        (at / "traces.csv").write_text("\n".join(["time,caller,callee,operation,p95_us", *calls]) + "\n")
        (at / "graph.csv").write_text("source,target\nfront,cart\ncart,db\n")
        (at / "label.json").write_text(json.dumps({
            "root_cause_service": "db", "fault_type": "delay", "inject_time": BEGIN, "abnormal_seconds": 180,
            "normal": "../normal.csv"}))


def test_the_first_minute_off_its_usual_range_is_an_alert(tmp_path: Path) -> None:
    write(tmp_path / "cases")
    subprocess.run([sys.executable, str(SCRIPT), str(tmp_path / "cases"), str(tmp_path / "out")], check=True)
    first, second = read_faults(tmp_path / "out")
    assert [(a.at_s, a.name, a.service, a.peer) for a in first.alerts] == [
        (60.0, "latency up", "cart", ""), (60.0, "PD get", "cart", "db")]
    assert second.alerts == ()
    assert read_graph(tmp_path / "out") == {("front", "cart"), ("cart", "db")}
