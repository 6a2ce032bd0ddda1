"""What is left of a case once a suspect is well, and what the ranking makes of it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from detect.types import Signal, SignalKind
from ingest.types import Change
from rootcause.healed import Healer
from rootcause.rankers.fused import FusedRanker, trusted
from rootcause.types import CaseWindow

SERVICES = ("web", "cart", "store", "pay", "lb.remote")
WEB, CART, STORE, PAY, REMOTE = range(5)
EDGES = np.array([[WEB, CART], [CART, STORE], [WEB, PAY], [WEB, REMOTE]], dtype=np.int32)
BASE, ROWS = 120, 132
SHARE = {CART: 0.5, PAY: 0.2}
"""Of web's requests; each request to cart asks the store."""


def shop(failing: dict[int, float], slow: dict[int, float] | None = None, *, seed: int = 0) -> CaseWindow:
    """Web calls cart and pay, cart calls store; a share fails and seconds are waited, and both go up the calls."""
    rng = np.random.default_rng(seed)
    shape = 0.6 + 0.4 * rng.random(ROWS - BASE)
    errors, latency = np.zeros((ROWS, 5)), np.tile([0.4, 0.2, 0.05, 0.1, 0.2], (ROWS, 1))
    for at, share in failing.items():
        errors[BASE:, at] += share * shape
    for at, seconds in (slow or {}).items():
        latency[BASE:, at] += seconds * shape
    errors[BASE:, CART] += errors[BASE:, STORE]
    latency[BASE:, CART] += latency[BASE:, STORE] - 0.05
    for callee, share in SHARE.items():
        errors[BASE:, WEB] += share * errors[BASE:, callee]
        latency[BASE:, WEB] += share * (latency[BASE:, callee] - latency[0, callee])
    latency *= rng.lognormal(0, 0.03, latency.shape)
    traffic = np.array([100.0, 50.0, 50.0, 20.0, 2.0]) * rng.lognormal(0, 0.03, (ROWS, 5))
    return CaseWindow(np.arange(ROWS, dtype=np.int64) * 10**9, SERVICES,
                      {"errors": errors, "latency": latency, "traffic": traffic}, EDGES, {}, BASE)


def now(case: CaseWindow, name: str) -> np.ndarray:
    return np.asarray(case.node_metrics[name][BASE:].mean(axis=0))


def test_with_the_cause_well_its_callers_are_well() -> None:
    case = shop({STORE: 0.4})
    left = Healer(case).healed(STORE)
    assert now(case, "errors")[[WEB, CART, STORE]].min() > 0.1
    assert now(left, "errors") == pytest.approx(np.zeros(5))
    assert now(left, "latency") == pytest.approx(now(shop({}), "latency"), rel=0.05)
    assert now(case, "errors")[STORE] > 0.2  # the case itself is as it was


def test_with_a_caller_well_the_cause_is_as_bad_as_before() -> None:
    case = shop({STORE: 0.4})
    left = Healer(case).healed(CART)
    assert now(left, "errors")[STORE] == pytest.approx(now(case, "errors")[STORE])
    assert now(left, "errors")[[WEB, CART]] == pytest.approx(np.zeros(2))


def test_the_second_of_two_faults_is_left() -> None:
    case = shop({STORE: 0.6}, {PAY: 0.5})
    left = Healer(case).healed(STORE)
    assert now(left, "errors") == pytest.approx(np.zeros(5))
    assert now(left, "latency")[PAY] == pytest.approx(now(case, "latency")[PAY])
    assert now(left, "latency")[WEB] == pytest.approx(now(case, "latency")[WEB], rel=0.05)


def test_a_second_name_in_step_is_well_too_and_one_out_of_step_is_not() -> None:
    case = shop({CART: 0.4})
    errors = case.node_metrics["errors"].copy()
    errors[:, REMOTE] = np.minimum(2 * errors[:, CART], 1.0)
    alike = replace(case, node_metrics={**case.node_metrics, "errors": errors})
    assert now(Healer(alike).healed(CART), "errors")[REMOTE] == 0
    assert now(Healer(alike).healed(REMOTE), "errors")[CART] == pytest.approx(now(case, "errors")[CART])  # asked for less
    other = errors.copy()
    other[BASE:, REMOTE] = np.where(np.arange(ROWS - BASE) % 2, 0.1, 0.6)
    apart = replace(case, node_metrics={**case.node_metrics, "errors": other})
    assert now(Healer(apart).healed(CART), "errors")[REMOTE] > 0.3
    with_cpu = replace(alike, node_metrics={**alike.node_metrics, "cpu": np.full((ROWS, 5), 0.2)})
    assert now(Healer(with_cpu).healed(CART), "errors")[REMOTE] > 0.3  # somebody with a processor is no name of another


def test_of_a_call_only_what_goes_through_it_is_taken_away() -> None:
    calls = np.zeros((ROWS, 4))
    calls[BASE:, :2] = 0.5
    case = shop({PAY: 0.3})
    errors = case.node_metrics["errors"].copy()
    errors[BASE:, CART] = 0.5
    errors[BASE:, WEB] = 0.25
    case = replace(case, node_metrics={**case.node_metrics, "errors": errors}, edge_metrics={"errors": calls})
    left = Healer(case).healed(STORE, call=1)
    assert left.edge_metrics["errors"].max() == 0
    assert now(left, "errors")[[WEB, CART]] == pytest.approx(np.zeros(2))
    assert now(left, "errors")[PAY] == pytest.approx(now(case, "errors")[PAY])


def test_who_was_gone_is_there_again_and_asks_for_what_it_always_did() -> None:
    case = shop({})
    traffic = case.node_metrics["traffic"].copy()
    traffic[BASE:, STORE] *= 0.1
    latency = case.node_metrics["latency"].copy()
    latency[BASE:, CART] = np.nan
    left = Healer(replace(case, node_metrics={**case.node_metrics, "traffic": traffic, "latency": latency})).healed(CART)
    assert now(left, "latency")[CART] == pytest.approx(0.2, rel=0.05)
    assert now(left, "traffic")[STORE] == pytest.approx(50, rel=0.05)


def test_what_is_explained_is_told_no_more() -> None:
    def signal(service: str, kind: SignalKind, peer: str = "") -> Signal:
        return Signal("id", "t", "test", kind, service, BASE * 10**9, 0, 1.0, f"{service} {kind} {peer}", peer)

    case = replace(shop({STORE: 0.6}), signals=(
        signal("web", "error_ratio"), signal("cart", "error_ratio", "store"), signal("store", "error_ratio"),
        signal("pay", "latency"), signal("web", "memory")),
        changes=(Change(0, "store", "rollout", "v2", "v1"), Change(0, "pay", "rollout", "v2", "v1")))
    left = Healer(case).healed(STORE)
    assert [(s.service, s.kind) for s in left.signals] == [("pay", "latency"), ("web", "memory")]
    assert [c.service for c in left.changes] == ["pay"]


def test_the_hidden_one_of_two_faults_is_among_the_first_three() -> None:
    found = 0
    for seed in range(6):
        case = shop({STORE: 0.7, PAY: 0.15}, seed=seed)
        first = np.argsort(-FusedRanker().rank(case).scores, kind="stable")[:3].tolist()
        found += STORE in first and PAY in first
    assert found == 6


def test_trust_moves_the_first_and_leaves_the_order() -> None:
    p = np.array([0.5, 0.2, 0.1, 0.2])
    moved = trusted(p, (0.6, 1.2))
    assert moved[0] == pytest.approx(1 / (1 + np.exp(-1.2)))
    assert moved.sum() == pytest.approx(1.0)
    assert moved[1:] / moved[1:].sum() == pytest.approx(p[1:] / p[1:].sum())
    assert trusted(p, (1.0, 0.0)) == pytest.approx(p)
    for kept in (np.array([0.2, 0.1, 0.7]), np.array([1.0, 0.0, 0.0])):  # "none" is the answer; nothing is left to share
        assert trusted(kept, (0.6, 1.2)).tolist() == kept.tolist()
    assert trusted(p, (1.0, -3.0)).tolist() == p.tolist()  # it would not stay first
