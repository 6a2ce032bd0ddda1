"""The network without edges: what it may see, and that its training works."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from rootcause.rankers.mlp import MlpRanker, node_table, width_of
from rootcause.rankers.mlp_train import train_mlp
from rootcause.simulate import simulate
from rootcause.window import NODE_INDICATORS


def test_it_sees_no_edge() -> None:
    made = simulate(np.random.default_rng(1))
    table = node_table(made.case, NODE_INDICATORS)
    assert table.shape == (len(made.case.services), width_of(NODE_INDICATORS))
    reversed_calls = replace(made.case, edges=made.case.edges[:, ::-1].copy(), edge_metrics={})
    assert np.array_equal(table, node_table(reversed_calls, NODE_INDICATORS))
    assert np.isfinite(table).all()


def test_trained_weights_rank(tmp_path: Path) -> None:
    card = train_mlp(tmp_path, seed=1, progress=False, graphs=60, epochs=2)
    assert card["indicators"] == list(NODE_INDICATORS)
    case = simulate(np.random.default_rng(2)).case
    ranking = MlpRanker(tmp_path).rank(case)
    assert ranking.p_none is not None
    assert abs(float(ranking.scores.sum()) + ranking.p_none - 1) < 1e-9
    assert np.array_equal(ranking.scores, MlpRanker(tmp_path).rank(case).scores)
    assert MlpRanker().rank(case).model_version.startswith("mlp-1")
