"""Calm windows: out of the store without the incidents, or of one recorded system."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from detect.types import Incident, Observations
from ingest.types import SeriesKey
from opsmend.calm import recorded_calm, stored_calm, windows_of
from opsmend.cli import app
from opsmend.config import Settings
from opsmend.evaluate.rca_cases import CaseError
from opsmend.store.engine import open_engine
from rootcause.types import ServiceGraph

S = 10**9
GRAPH = ServiceGraph(("a", "b"), frozenset({("a", "b")}))


def seen(buckets: int) -> Observations:
    keys = tuple(SeriesKey(service, "http.server.error_ratio") for service in ("a", "b"))
    return Observations(np.arange(buckets, dtype=np.int64) * 10 * S, keys, np.full((buckets, 2), 0.01))


def incident(first: int, closed: int) -> Incident:
    return Incident("i", "", "", first * S, closed * S, "closed" if closed else "open", "warning", "", ("a",), (), (),
                    first * S, closed * S)


def test_rows_of_incidents_are_left_out() -> None:
    windows = windows_of(seen(600), GRAPH, (), 10.0)
    assert len(windows) == 19 and all((w.baseline_rows, len(w.ts_ns)) == (30, 60) for w in windows)
    assert windows[0].edges.tolist() == [[0, 1]] and set(windows[0].services) == {"a", "b"}
    fewer = windows_of(seen(600), GRAPH, [incident(2000, 3000)], 10.0)
    times = np.concatenate([w.ts_ns for w in fewer]) / S
    assert 0 < len(fewer) < len(windows) and not ((times > 1940) & (times < 3300)).any()
    assert windows_of(seen(600), GRAPH, [incident(100, 0)], 10.0) == [], "one that is open has no end"
    assert windows_of(seen(0), GRAPH, (), 10.0) == []


def test_an_empty_store_has_none_and_the_command_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"sqlite:///{tmp_path / 'opsmend.db'}"
    open_engine(url).dispose()
    settings = Settings(service={"data_dir": str(tmp_path)}, store={"url": url})  # type: ignore[arg-type]
    assert stored_calm(settings) == []
    (tmp_path / "opsmend.toml").write_text(f'[service]\ndata_dir = "{tmp_path}"\n[store]\nurl = "{url}"\n')
    for option, why in (("--adapt", "0 fault-free windows"), ("--fine-tune", "0 incidents with a confirmed cause")):
        refused = CliRunner().invoke(app, ["train", "rootcause", option, "-c", str(tmp_path / "opsmend.toml")])
        assert refused.exit_code == 1 and why in str(refused.exception)
    both = CliRunner().invoke(app, ["train", "rootcause", "--fine-tune", "--adapt"])
    assert "one at a time" in str(both.exception)


def test_recorded_windows_are_of_one_system(tmp_path: Path) -> None:
    for system in ("s", "z"):
        folder = tmp_path / system / "case"
        folder.mkdir(parents=True)
        (folder / "label.json").write_text(json.dumps({"root_cause_service": "b", "inject_time": 3000, "dataset": system}))
        rows = "\n".join(f"{t},{0.1 + 0.01 * (t % 7)},{5.0 if t >= 3000 else 0.2}" for t in range(0, 3100, 10))
        (folder / "metrics.csv").write_text("time,a|cpu,b|cpu\n" + rows + "\n")
    windows = recorded_calm(tmp_path / "s")
    assert len(windows) == 22 and max(float(w.node_metrics["cpu"][:, 1].max()) for w in windows) == 0.2
    with pytest.raises(CaseError, match="not s, z"):
        recorded_calm(tmp_path)
