"""Each modality alone and joined: what is masked, and what the learned weights follow."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from opsmend.commands.evaluate_rca_ablation import draw_rca_ablation
from opsmend.config import ConfigError
from opsmend.evaluate.rca_ablation import _Seen, attention, evaluate_rca_ablation, only
from rootcause.types import CaseWindow

EDGES = np.array([[0, 1]], dtype=np.int32)


def window() -> CaseWindow:
    ones = np.ones((4, 2))
    node = {"cpu": ones, "templates": ones, "spans": np.full((4, 2), np.nan)}
    return CaseWindow(np.arange(4, dtype=np.int64), ("a", "b"), node, EDGES, {"latency": np.ones((4, 1))}, 2)


def test_only_its_own_indicators_are_left() -> None:
    metrics, logs = only(window(), "metrics"), only(window(), "logs")
    assert metrics is not None and set(metrics.node_metrics) == {"cpu"} and set(metrics.edge_metrics) == {"latency"}
    assert logs is not None and set(logs.node_metrics) == {"templates"} and not logs.edge_metrics


def test_an_unknown_clock_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="unknown clock 'sun'"):
        evaluate_rca_ablation(tmp_path, clock="sun")


def test_each_kind_of_fault_is_told_apart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    for n, fault in enumerate(("cpu", "cpu", "hang")):
        folder = tmp_path / "shop" / str(n)
        folder.mkdir(parents=True)
        rows = ["time,web|cpu,cart|cpu"]
        rows += [f"{60 * t},{rng.uniform(0.1, 0.2)},{rng.uniform(0.1, 0.2) + (t >= 60) * (fault == 'cpu')}" for t in range(66)]
        (folder / "metrics.csv").write_text("\n".join(rows) + "\n")
        (folder / "graph.csv").write_text("source,target\nweb,cart\n")
        (folder / "label.json").write_text(json.dumps({"root_cause_service": "cart", "inject_time": 3600, "fault_type": fault}))
    report = evaluate_rca_ablation(tmp_path)
    assert {name: scores["cases"]["n"] for name, scores in report["faults"].items()} == {"cpu": 2.0, "hang": 1.0}
    assert report["faults"]["cpu"]["metrics"]["AC@1"] == 1.0
    assert report["faults"]["cpu"]["logs"]["AC@1"] == 0.0  # none were recorded, and ties count against us
    draw_rca_ablation(report)
    assert "AC@1 by fault" in capsys.readouterr().out


def test_what_was_never_recorded_has_no_say() -> None:
    assert only(window(), "traces") is None


def test_the_modality_that_is_right_gets_the_weight() -> None:
    good, bad = np.array([0.9, 0.1]), np.array([0.2, 0.8])
    cases = [_Seen("shop", 0, good, {"metrics": bad, "logs": good, "traces": None})] * 5
    weights = attention(cases)
    assert int(np.argmax(weights)) == 1
    assert abs(float(weights.sum()) - 1) < 1e-9
