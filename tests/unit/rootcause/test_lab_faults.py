"""Every fault of the lab, from raw telemetry through the real detectors to a diagnosis."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from rootcause.types import Diagnosis

Run = Callable[[str, int], list[tuple[int, Diagnosis]]]
ROOTS = {"proc_kill": "inventory", "proc_hang": "payments", "crash_loop": "cart", "bad_config": "payments",
         "cpu_release": "catalog", "pool_leak": "orders", "db_lock": "postgres", "redis_full": "redis",
         "log_storm": "cart", "mem_leak": "catalog"}
SECONDS = {"mem_leak": 30}


@pytest.mark.parametrize("fault", ROOTS)
def test_root_comes_first(run_fault: Run, fault: str) -> None:
    found = run_fault(fault, SECONDS.get(fault, 14))
    assert found, "no incident opened"
    _, last = found[-1]
    assert (last.suspects[0].service, last.suspects[0].peer) == (ROOTS[fault], ""), [
        (s.service, s.peer, s.probability) for s in last.suspects]
    assert not last.cannot_tell, (last.p_none, [(s.service, s.probability) for s in last.suspects])


@pytest.mark.parametrize(("fault", "edge"), [("net_latency", ("catalog", "redis")), ("net_partition", ("orders", "payments"))])
def test_a_broken_way_is_named_as_such(run_fault: Run, fault: str, edge: tuple[str, str]) -> None:
    found = run_fault(fault, 14)
    assert found, "no incident opened"
    _, last = found[-1]
    assert (last.suspects[0].service, last.suspects[0].peer) == edge, [
        (s.service, s.peer, s.probability) for s in last.suspects]


@pytest.mark.parametrize("fault", ROOTS)
def test_no_other_service_is_named_with_confidence_on_the_way(run_fault: Run, fault: str) -> None:
    """A repair acts on the first diagnosis that is sure of itself."""
    wrong = [(n, d.suspects[0].service, round(d.suspects[0].probability, 2))
             for n, d in run_fault(fault, SECONDS.get(fault, 14))
             if not d.cannot_tell and (d.suspects[0].service != ROOTS[fault] or d.suspects[0].peer)]
    assert not wrong


@pytest.mark.parametrize("fault", ["noop", "innocent_deploy"])
def test_weak_signs_without_a_cause_are_not_blamed(run_fault: Run, fault: str) -> None:
    for n, diagnosis in run_fault(fault, 12):
        assert diagnosis.cannot_tell or diagnosis.p_none > 0.5, (n, diagnosis.suspects[0])
