"""Shipped weights, their card, and the training that makes such files."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from rootcause.features import EDGE_FEATURES, NODE_FEATURES, case_features
from rootcause.rankers.fused import FusedRanker
from rootcause.rankers.gnn import MODELS_DIR, GnnRanker, by_service, decide, load_nets, load_weights, sharpen
from rootcause.rankers.model import RootCauseNet, log_probabilities
from rootcause.rankers.registry import RANKERS
from rootcause.scoring import accuracy, calibration_error, rank_chances
from rootcause.simulate import simulate
from rootcause.train import TrainConfig, services_of, train_rootcause
from rootcause.types import CaseWindow

TINY = TrainConfig(graphs=96, epochs=2, members=2, calibration=20, held_out=20, workers=0)


@pytest.fixture(scope="module")
def card() -> dict[str, object]:
    loaded: dict[str, object] = json.loads((MODELS_DIR / "rootcause.json").read_text())
    return loaded


def test_weights_fit_the_code_and_the_card(card: dict[str, object]) -> None:
    weights = load_weights()
    members = weights.nets.members
    assert members == card["members"]
    assert weights.temperature == card["temperature"]
    assert weights.none_bias == card["none_bias"]
    assert weights.version == card["version"] == load_nets()[2]
    tensors = load_file(MODELS_DIR / "rootcause.safetensors")
    assert {name.split("/")[0] for name in tensors} == {str(n) for n in range(members)}
    assert tensors["0/lift.0.weight"].shape[1] == NODE_FEATURES
    assert tensors["0/down.0.message_of.weight"].shape[1] == 2 * tensors["0/lift.0.weight"].shape[0] + EDGE_FEATURES
    assert all(np.isfinite(t).all() for t in tensors.values())


def test_card_tells_baselines_calibration_and_what_is_hard(card: dict[str, object]) -> None:
    metrics = card["metrics"]
    assert isinstance(metrics, dict)
    assert set(metrics) == set(RANKERS)
    ours = metrics["gnn"]
    best = max(m["AC@1"] for name, m in metrics.items() if name not in ("gnn", "fused"))
    assert best < ours["AC@1"] < 1.0
    assert best < metrics["fused"]["AC@1"] < 1.0
    assert ours["ECE"] < 0.1
    assert 0 < ours["none_recognised"] < 1
    assert min(ours["by_fault"].values()) < 0.9


def test_card_is_true_on_fresh_cases(card: dict[str, object]) -> None:
    """Cases that neither training, nor calibration, nor the card has seen."""
    ranker, chances, confidence, right = GnnRanker(), [], [], []
    for n in range(120):
        s = simulate(np.random.default_rng([77, n]))
        ranking = ranker.rank(s.case)
        p = np.append(ranking.scores, ranking.p_none or 0.0)
        confidence.append(float(p.max()))
        right.append(float(int(np.argmax(p)) in (services_of(s) or [len(p) - 1])))
        if s.root >= 0:
            chances.append(rank_chances(ranking.scores, services_of(s), 5))
    claimed = card["metrics"]["gnn"]["AC@1"]  # type: ignore[index]
    assert accuracy(chances)["AC@1"] == pytest.approx(claimed, abs=0.15)  # four standard errors
    assert calibration_error(confidence, right) < 0.15


@pytest.mark.parametrize("name", RANKERS)
def test_every_ranker_gives_one_finite_score_per_service_twice_the_same(name: str) -> None:
    for n in range(5):
        case = simulate(np.random.default_rng([5, n])).case
        first, second = (RANKERS[name]().rank(case) for _ in range(2))
        assert first.scores.shape == (len(case.services),)
        assert np.isfinite(first.scores).all()
        np.testing.assert_array_equal(first.scores, second.scores)
        assert first.p_none == second.p_none


def test_order_of_the_services_does_not_matter() -> None:
    case = simulate(np.random.default_rng(3)).case
    order = np.random.default_rng(0).permutation(len(case.services))
    place = np.argsort(order)
    other = CaseWindow(case.ts_ns, tuple(case.services[i] for i in order),
                       {k: v[:, order] for k, v in case.node_metrics.items()}, place[case.edges].astype(np.int32),
                       case.edge_metrics, case.baseline_rows, case.changes, case.signals)
    np.testing.assert_allclose(GnnRanker().rank(other).scores, GnnRanker().rank(case).scores[order], atol=1e-4)


def test_direction_of_the_calls_matters() -> None:
    moved = 0
    for n in range(20):
        case = simulate(np.random.default_rng([9, n])).case
        turned = CaseWindow(case.ts_ns, case.services, case.node_metrics, case.edges[:, ::-1].copy(),
                            case.edge_metrics, case.baseline_rows, case.changes, case.signals)
        moved += float(np.abs(GnnRanker().rank(turned).scores - GnnRanker().rank(case).scores).max()) > 0.05
    assert moved > 5


def test_stacked_members_say_what_each_of_them_says() -> None:
    tensors = {k: torch.from_numpy(v) for k, v in load_file(MODELS_DIR / "rootcause.safetensors").items()}
    for n in range(3):
        case = simulate(np.random.default_rng([8, n])).case
        features, size = case_features(case), len(case.services)
        x, attr = torch.from_numpy(features.node), torch.from_numpy(features.edge)
        edges = torch.from_numpy(case.edges.astype(np.int64).T.copy())
        together = load_weights().nets.log_probabilities(x, edges, attr)
        for member in range(len(together)):
            net = RootCauseNet().eval()
            net.load_state_dict({k.split("/", 1)[1]: v for k, v in tensors.items() if k.startswith(f"{member}/")})
            with torch.no_grad():
                apart = log_probabilities(net, x, edges, attr, torch.zeros(size, dtype=torch.int64), 1)
            assert [len(part) for part in apart] == [size, len(case.edges), 1]
            np.testing.assert_allclose(together[member].exp(), torch.cat(apart).exp(), atol=1e-5)


def test_a_call_counts_for_the_service_that_is_called() -> None:
    case = simulate(np.random.default_rng([8, 0])).case
    n, m = len(case.services), len(case.edges)
    p = np.full(n + m + 1, 1 / (n + m + 1))
    joined, calls = by_service(p, case)
    assert joined.sum() == pytest.approx(1.0)
    assert len(calls) == m
    np.testing.assert_allclose(joined[:n], (1 + np.bincount(case.edges[:, 1], minlength=n)) / (n + m + 1))
    ranking = GnnRanker().rank(case)
    assert ranking.calls is not None
    assert ranking.calls.shape == (m,)


def test_calls_that_are_hit_alone_are_often_the_first_suspect_among_calls() -> None:
    """A fault on the way from one of several callers: made-up cases the networks have not seen."""
    found = []
    for n in range(900):
        s = simulate(np.random.default_rng([78, n]))
        at = [t - len(s.case.services) for t in s.targets if t >= len(s.case.services)]
        if at and len(s.targets) == 1:
            calls = GnnRanker().rank(s.case).calls
            assert calls is not None
            found.append(int(np.argmax(calls)) == at[0])
    assert len(found) >= 10
    assert np.mean(found) > 0.6


def test_none_is_the_answer_only_where_it_is_likelier_than_all_suspects_together() -> None:
    shared = np.array([0.2, 0.2, 0.15, 0.45])  # none is ahead of each of the three, and not of all of them
    said = decide(shared, 0.0)
    assert int(np.argmax(said)) == 0
    assert said.sum() == pytest.approx(1.0)
    np.testing.assert_allclose(said[1:3] / said[0], shared[1:3] / shared[0])
    sure = np.array([0.2, 0.2, 0.6])
    np.testing.assert_array_equal(decide(sure, 0.0), sure)
    assert int(np.argmax(decide(sure, 1.0))) == 0
    far = np.array([0.7, 0.1, 0.2])
    np.testing.assert_array_equal(decide(far, 0.0), far)


@pytest.mark.parametrize("bias", [0.0, 1.5])
def test_fused_keeps_the_decision_about_none(bias: float, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = replace(load_weights(), none_bias=bias)
    monkeypatch.setattr("rootcause.rankers.gnn.load_weights", lambda _: weights)
    monkeypatch.setattr("rootcause.rankers.fused.load_weights", lambda _: weights)
    for n in range(20):
        case = simulate(np.random.default_rng([6, n])).case
        one, both = GnnRanker().rank(case), FusedRanker().rank(case)
        assert (one.p_none > one.scores.max()) == (both.p_none > both.scores.max())
        assert both.scores.sum() + both.p_none == pytest.approx(1.0)


def test_calls_keep_their_part_of_the_scores_that_they_are_in(monkeypatch: pytest.MonkeyPatch) -> None:
    rng, weights = np.random.default_rng(7), load_weights()
    case = next(s.case for s in iter(lambda: simulate(rng), None) if s.root < 0 and GnnRanker().rank(s.case).p_none > 0.8)
    before = GnnRanker().rank(case)
    monkeypatch.setattr("rootcause.rankers.gnn.load_weights", lambda directory: replace(weights, none_bias=20.0))
    after = GnnRanker().rank(case)
    assert before.calls is not None and after.calls is not None and before.p_none != after.p_none
    np.testing.assert_allclose(after.calls / after.scores.sum(), before.calls / before.scores.sum())


def test_temperature_changes_confidence_and_not_the_order() -> None:
    log_p = np.log(np.array([0.7, 0.2, 0.1]))
    cool, hot = sharpen(log_p, 0.5), sharpen(log_p, 2.0)
    assert cool[0] > 0.7 > hot[0]
    assert np.argsort(cool).tolist() == np.argsort(hot).tolist()
    assert sharpen(log_p, 1.0) == pytest.approx([0.7, 0.2, 0.1])


def test_training_writes_what_the_ranker_loads_and_repeats_itself(tmp_path: Path) -> None:
    cards = [train_rootcause(tmp_path / name, seed=4, progress=False, config=replace(TINY, workers=workers))
             for name, workers in (("a", 0), ("b", 2))]
    one, two = (load_file(tmp_path / name / "rootcause.safetensors") for name in ("a", "b"))
    assert all(np.array_equal(one[k], two[k]) for k in one)
    assert cards[0]["metrics"] == cards[1]["metrics"]
    assert cards[0] == json.loads((tmp_path / "a" / "rootcause.json").read_text())
    assert cards[0]["version"] == GnnRanker(tmp_path / "a").rank(simulate(np.random.default_rng(0)).case).model_version
    load_weights.cache_clear()


def test_without_weights_it_says_so(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"rootcause\.json"):
        GnnRanker(tmp_path).rank(simulate(np.random.default_rng(0)).case)
