"""The simulator: physically sound, deterministic, and no gift to anybody."""

from __future__ import annotations

import numpy as np
import pytest

from rootcause.rankers.registry import RANKERS
from rootcause.scoring import accuracy, rank_chances
from rootcause.simulate import FAULTS, Simulated, simulate
from rootcause.simulate.faults import strike
from rootcause.simulate.history import strike_before
from rootcause.simulate.physics import Conditions, flow
from rootcause.simulate.topology import System, draw_system


@pytest.fixture(scope="module")
def drawn() -> list[Simulated]:
    return [simulate(np.random.default_rng([11, n])) for n in range(150)]


def chain(handled: float = 0.0, fanout: float = 1.0) -> System:
    """0 calls 1 calls 2; ten requests a second; one second of patience."""
    edges = np.array([[0, 1], [1, 2]], dtype=np.int32)
    return System(3, edges, np.array([1.0, fanout]), np.array([0.0, handled]), np.zeros(2), np.ones(2),
                  np.zeros(3, bool), np.zeros(3, bool), np.array([10.0, 0, 0]), np.array([0.01, 0.02, 0.03]),
                  np.full(3, 10.0), ())


def test_time_adds_up_and_traffic_flows_down() -> None:
    system = chain()
    found = flow(system, Conditions.usual(system, 1))
    assert found.seconds[0] == pytest.approx([0.06, 0.05, 0.03])
    assert found.traffic[0] == pytest.approx([10, 10, 10])


def test_failures_go_up_and_never_down() -> None:
    system = chain()
    given = Conditions.usual(system, 1)
    given.own_error[0, 1] = 0.5
    found = flow(system, given)
    assert found.error[0] == pytest.approx([0.5, 0.5, 0.0])
    assert found.traffic[0, 2] == pytest.approx(5.0)  # a request that failed before its call makes none


def test_seldom_called_callee_is_felt_diluted() -> None:
    system = chain(fanout=0.1)
    given = Conditions.usual(system, 1)
    given.own_error[0, 2] = 1.0
    assert flow(system, given).error[0] == pytest.approx([0.1, 0.1, 1.0])


def test_caller_with_a_fallback_does_not_fail() -> None:
    system = chain(handled=1.0)
    given = Conditions.usual(system, 1)
    given.own_error[0, 2] = 1.0
    assert flow(system, given).error[0] == pytest.approx([0.0, 0.0, 1.0])


def test_callers_of_a_hung_service_wait_for_their_timeout() -> None:
    system = chain()
    given = Conditions.usual(system, 1)
    given.is_hung[0, 2] = True
    found = flow(system, given)
    assert found.edge_error[0, 1] == 1.0
    assert found.edge_seconds[0, 1] == pytest.approx(1.0)
    assert found.error[0, 0] == 1.0


def test_systems_have_no_cycles() -> None:
    for n in range(30):
        system = draw_system(np.random.default_rng(n))
        assert (system.edges[:, 0] < system.edges[:, 1]).all()


def test_same_seed_same_case() -> None:
    a, b = (simulate(np.random.default_rng(5)) for _ in range(2))
    assert (a.fault, a.root, a.case.signals, a.case.changes) == (b.fault, b.root, b.case.signals, b.case.changes)
    for name, table in a.case.node_metrics.items():
        np.testing.assert_array_equal(table, b.case.node_metrics[name])


def test_every_fault_is_drawn_and_some_have_no_cause(drawn: list[Simulated]) -> None:
    assert {s.fault for s in drawn} == set(FAULTS)
    assert 0.08 < np.mean([s.root < 0 for s in drawn]) < 0.4
    assert all((s.root < 0) == s.fault.startswith("none") for s in drawn)


def test_some_have_two_culprits_and_some_culprits_are_calls(drawn: list[Simulated]) -> None:
    assert all(len(s.targets) == len(set(s.targets)) for s in drawn)
    assert all(bool(s.targets) == (s.root >= 0) for s in drawn)
    assert 0.05 < np.mean([len(s.targets) == 2 for s in drawn]) < 0.35
    calls = [(s, t - len(s.case.services)) for s in drawn for t in s.targets if t >= len(s.case.services)]
    assert calls
    for s, row in calls:  # of several callers one: else nobody could tell the call from the service
        assert (s.case.edges[:, 1] == s.case.edges[row, 1]).sum() > 1


def test_culprits_are_often_silent_and_innocents_often_loud(drawn: list[Simulated]) -> None:
    with_signals = [s for s in drawn if s.root >= 0 and s.case.signals]
    name = [s.case.services[s.root] for s in with_signals]
    silent = np.mean([all(x.service != n or x.peer for x in s.case.signals) for s, n in zip(with_signals, name, strict=True)])
    loud = np.mean([any(x.service != n for x in s.case.signals) for s, n in zip(with_signals, name, strict=True)])
    assert silent > 0.1
    assert loud > 0.6


def test_changes_are_mostly_innocent(drawn: list[Simulated]) -> None:
    guilty = [s.root >= 0 and c.service == s.case.services[s.root] for s in drawn for c in s.case.changes]
    assert 0.05 < np.mean(guilty) < 0.6


def test_no_single_sign_gives_the_root_away(drawn: list[Simulated]) -> None:
    """Each baseline is better than chance and far from perfect."""
    scores = {}
    for name, make in RANKERS.items():
        if name not in ("gnn", "fused", "mlp_no_edges"):  # these have learned it
            ranker = make()
            scores[name] = accuracy([rank_chances(ranker.rank(s.case).scores, [s.root], 5)
                                     for s in drawn if s.root >= 0])["AC@1"]
    assert max(scores.values()) < 0.75, scores
    assert scores["max_robust_z"] > scores["random"] + 0.1, scores


def test_an_incident_that_is_over_leaves_the_rows_of_the_next_alone() -> None:
    system, base, moved = draw_system(np.random.default_rng(2)), 40, 0
    for n in range(40):
        given, untouched = Conditions.usual(system, base + 10), Conditions.usual(system, base + 10)
        for struck in strike_before(system, given, base, 60.0, np.random.default_rng([4, n])):
            now = {name: getattr(given, name) for name in vars(given)}
            rows = [np.any(np.asarray(v) != getattr(untouched, k), axis=1) for k, v in now.items()]
            apart = np.asarray(np.stack(rows).any(axis=0))
            assert not apart[base:].any()
            assert apart.sum() <= base // 3
            moved += bool(apart.any())
            assert not struck.marks.kinds
            assert struck.marks.cpu_added is None or not struck.marks.cpu_added[base:].any()
    assert moved > 15


def test_who_fails_may_ask_somebody_that_it_hardly_ever_asks() -> None:
    """And that one then has traffic where it had none, and nothing wrong."""
    system = chain(fanout=1e-4)
    asked = []
    for n in range(60):
        given = Conditions.usual(system, 20)
        strike("error", 1, system, given, 10, 1.0, np.random.default_rng([6, n]))
        found = flow(system, given)
        asked.append(float(found.traffic[15, 2]) > 10 * float(found.traffic[5, 2]))
        assert not given.own_error[:, 2].any()
    assert 5 < sum(asked) < 40
