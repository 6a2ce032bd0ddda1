"""Faults injected into calm windows, and what is made of them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from rootcause.adapt import AdaptConfig, adapt, stretches, with_faults
from rootcause.adapt_inject import KINDS, inject
from rootcause.rankers.gnn import MODELS_DIR
from rootcause.tune import TuneConfig, load_members
from rootcause.tune_contest import ContestConfig
from rootcause.tune_files import write
from rootcause.types import CaseWindow


def usual(rows: int = 400, seed: int = 0) -> CaseWindow:
    """a calls b and c, b calls d; every row says the same but for noise."""
    rng = np.random.default_rng(seed)

    def table(*levels: float) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
        return np.array(levels) * np.exp(0.05 * rng.standard_normal((rows, len(levels))))

    node = {"errors": np.clip(0.002 * rng.random((rows, 4)), 0, 1), "latency": table(0.2, 0.1, 0.05, 0.02),
            "traffic": table(10, 8, 5, 8), "cpu": table(0.2, 0.3, 0.1, 0.4), "memory": table(1e8, 2e8, 1e8, 3e8)}
    edge = {"errors": np.clip(0.002 * rng.random((rows, 3)), 0, 1), "latency": table(0.1, 0.05, 0.02),
            "traffic": table(8, 5, 8)}
    edges = np.array([[0, 1], [0, 2], [1, 3]], dtype=np.int32)
    return CaseWindow(np.arange(rows) * 10**10, ("a", "b", "c", "d"), node, edges, edge, rows)


def test_stretches_are_in_order_and_share_no_fault_row() -> None:
    windows = stretches(usual(), 20, 50)
    begins = [int(w.ts_ns[w.baseline_rows]) for w in windows]
    ends = [int(w.ts_ns[-1]) for w in windows]
    assert len(windows) == 15 and all(len(w.ts_ns) - w.baseline_rows == 20 for w in windows)
    assert all(end < begin for end, begin in zip(ends, begins[1:], strict=False))
    assert ends[-1] == int(usual().ts_ns[-1])
    short = stretches(usual(), 20, 5, before=30)
    assert [(w.baseline_rows, len(w.ts_ns)) for w in short] == [(30, 50)] * 5
    assert stretches(usual(40), 20, 5) == []


def test_a_fault_is_after_the_baseline_leaves_the_window_alone_and_is_seeded() -> None:
    calm = stretches(usual(), 20, 1)[0]
    before = {name: table.copy() for name, table in calm.node_metrics.items()}
    kinds = set()
    for n in range(200):
        found = inject(calm, np.random.default_rng(n))
        if found is None:
            continue
        kinds.add(found.kind)
        moved = False
        for tables, originals in ((found.case.node_metrics, calm.node_metrics), (found.case.edge_metrics, calm.edge_metrics)):
            for name, table in tables.items():
                assert np.array_equal(table[:calm.baseline_rows], originals[name][:calm.baseline_rows])
                assert (table >= 0).all() and (name != "errors" or table.max() <= 1.0)
                moved |= not np.array_equal(table, originals[name])
        assert moved and 0 <= found.target < 4 + 3
        again = inject(calm, np.random.default_rng(n))
        assert again is not None and np.array_equal(again.case.node_metrics["latency"], found.case.node_metrics["latency"])
    assert kinds == set(KINDS)
    assert all(np.array_equal(before[name], calm.node_metrics[name]) for name in before)


def test_failures_go_up_the_calls_and_not_down() -> None:
    calm = stretches(usual(), 20, 1)[0]
    seen = 0
    for n in range(300):
        found = inject(calm, np.random.default_rng(n))
        if found is None or found.kind != "errors" or found.target != 1:
            continue
        now = found.case.node_metrics["errors"][calm.baseline_rows + 1:].mean(axis=0)
        assert now[1] >= now[0] > 0.01 and now[2] < 0.01 and now[3] < 0.01
        seen += 1
    assert seen > 3


def test_what_cannot_be_seen_is_not_made() -> None:
    unknown = {"cpu": np.full((60, 2), np.nan)}
    blind = CaseWindow(np.arange(60) * 10**10, ("a", "b"), unknown, np.zeros((0, 2), np.int32), {}, 50)
    assert all(inject(blind, np.random.default_rng(n)) is None for n in range(30))
    assert [c.targets for c in with_faults([blind], 3, [0])] == [()]


def test_adapted_weights_are_written_only_where_they_win(tmp_path: Path) -> None:
    card = json.loads((MODELS_DIR / "rootcause.json").read_text())
    write(load_members()[:1], card | {"members": 1}, tmp_path / "small")
    calm = stretches(usual(), 10, 12)
    judged = ContestConfig(replay=12, validation=12, forgetting=1.0, abstention=1.0)
    made = adapt(calm, tmp_path / "w", data="made up", base=tmp_path / "small", contest=judged,
                 config=TuneConfig(steps=30), sizes=AdaptConfig(per_window=3))
    assert made["contest"]["groups"] == 4, "the last third"
    assert (tmp_path / "w" / "rootcause.json").exists() == made["kept"]
    strict = adapt(calm, tmp_path / "v", data="made up", base=tmp_path / "small", sizes=AdaptConfig(per_window=2),
                   config=TuneConfig(steps=2), contest=ContestConfig(replay=4, validation=4, sure=1.1))
    assert not strict["kept"] and strict["contest"]["reason"] and not (tmp_path / "v").exists()
    few = adapt(calm[:3], tmp_path / "v", data="made up")
    assert "at least 9" in few["contest"]["reason"]
    with pytest.raises(OSError, match="nowhere"):
        adapt(calm, tmp_path / "v", data="made up", base=tmp_path / "nowhere")
