"""The simulator: physically sound, deterministic, and no gift to anybody."""

from __future__ import annotations

import numpy as np
import pytest

from rootcause.rankers.registry import RANKERS
from rootcause.scoring import accuracy, rank_chances
from rootcause.simulate import FAULTS, Simulated, simulate
from rootcause.simulate.channels import spans_of
from rootcause.simulate.faults import Struck, strike
from rootcause.simulate.gauges import gauges
from rootcause.simulate.history import strike_before
from rootcause.simulate.physics import Conditions, flow
from rootcause.simulate.topology import System, draw_system


@pytest.fixture(scope="module")
def drawn() -> list[Simulated]:
    return [simulate(np.random.default_rng([11, n])) for n in range(250)]


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


def _gauges(fault: str, seed: int) -> tuple[dict[str, np.ndarray], Conditions, Struck]:
    """30 rows, the fault in the last ten of them."""
    system, rng = chain(), np.random.default_rng(seed)
    given = Conditions.usual(system, 30)
    struck = Struck(fault, 2, strike(fault, 2, system, given, 20, 1.0, rng))
    found = flow(system, given)
    return gauges(system, given, found, found.traffic, [struck], 1.0, rng), given, struck


def test_a_slow_disk_is_busy_and_keeps_waiting_and_a_full_one_fails() -> None:
    busier, slower, idler, fuller, failing = 0, 0, 0, 0, 0
    for n in range(60):
        table, given, _ = _gauges("disk_slow", n)
        busy, cpu = np.nan_to_num(table["disk"][:, 2]), table["cpu"][:, 2]  # some tell nothing of their disks
        busier += bool(busy[24:].mean() > 1.5 * busy[:20].mean())
        idler += bool(cpu[24:].mean() < cpu[:20].mean())
        slower += bool(given.own_seconds[24:, 2].max() > 1.3 * given.own_seconds[0, 2])
        table, given, _ = _gauges("disk_full", n)
        taken = np.nan_to_num(table["space"][:, 2])
        fuller += bool(taken[20:].max() > taken[:20].max())
        failing += bool(given.own_error[20:, 2].max() > 0.01)
    assert busier > 25 and idler > 35 and slower > 50  # some faults are short
    assert fuller > 25 and failing > 40


def test_who_rests_on_the_same_volume_feels_a_part_of_it() -> None:
    shared = [(given, s.marks.disk_with) for given, s in (_gauges("disk_slow", n)[1:] for n in range(80)) if s.marks.disk_with]
    assert 5 < len(shared) < 50
    for given, others in shared:
        slowed = given.own_seconds.max(axis=0) / given.own_seconds[0]
        assert 2 not in others and all(slowed[i] > 1 for i in others)
        assert all(slowed[i] == 1 for i in {0, 1} - set(others))


def test_size_changes_are_causes_reactions_and_neither(drawn: list[Simulated]) -> None:
    fewer = [s for s in drawn if s.fault == "scaled_down" and any(
        c.kind == "scale" and c.service == s.case.services[s.root] and int(c.ref) < int(c.old) for c in s.case.changes)]
    assert fewer
    others = [(c.ts_ns - s.case.ts_ns[s.case.baseline_rows]) / 1e9 for s in drawn if s.fault != "scaled_down"
              for c in s.case.changes if c.kind == "scale"]
    assert sum(late > 20 for late in others) > 5 and sum(late < -20 for late in others) > 5


def test_own_time_is_that_of_who_works_and_of_calls_that_nobody_measures() -> None:
    system = chain()
    given = Conditions.usual(system, 30)
    given.edge_seconds[20:, 0] = 0.4
    found = flow(system, given)
    told = [spans_of(system, given, found, (), np.random.default_rng(n))["self_time"] for n in range(40)]
    rises = [np.median(own[20:], axis=0) / np.median(own[:20], axis=0) for own in told]
    blamed = [bool(r[0] > 5) for r in rises]
    assert 10 < sum(blamed) < 30 and all(r[1:] == pytest.approx(1, abs=0.3) for r in rises)
