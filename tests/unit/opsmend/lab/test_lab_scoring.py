"""What is right, false, harmful, and what counts where in the summary of a bench."""

from __future__ import annotations

from opsmend.lab.faults import FAULTS, service_of
from opsmend.lab.scoring import Action, Incident, judge, summarise


def test_the_right_repair_is_right_once() -> None:
    lock = FAULTS["db_lock"]
    right = Action("terminate", "postgres", 5.0)
    assert judge(lock, [right]) == (0, 0)
    assert judge(lock, [right, right]) == (1, 0)
    assert judge(lock, [Action("restart", "inventory", 3.0), right]) == (1, 1)


def test_what_no_action_mends_makes_every_action_a_false_one() -> None:
    cut = FAULTS["net_partition"]
    assert (cut.is_fault, cut.is_repairable, service_of(cut)) == (True, False, "catalog")
    assert judge(cut, []) == (0, 0)
    assert judge(cut, [Action("restart", "catalog", 3.0), Action("scale", "gateway", 4.0)]) == (2, 1)


def test_what_no_action_mends_counts_apart() -> None:
    mended = Incident("db_lock", 0, resolved=True, ttd_seconds=3.0, mttr_seconds=9.0, root_top1=True, root_top3=True)
    told = Incident("net_partition", 0, ttd_seconds=5.0, root_top1=True, root_top3=True)
    meddled = Incident("net_latency", 0, ttd_seconds=7.0, root_top1=False, root_top3=True, false_actions=1,
                       actions=(Action("restart", "inventory", 3.0),))
    void = Incident("net_latency", 1, voided=True)
    quiet = Incident("noop", 0)
    found = summarise([mended, told, meddled, void, quiet], FAULTS)
    assert (found["resolved"], found["left_alone"], found["censored"]) == (1.0, 0.5, 0)
    assert (found["mttr_median_s"], found["ttd_median_s"]) == (9.0, 5.0)
    assert (found["AC@1"], found["AC@3"], found["incidents"], found["voided"]) == (0.6667, 1.0, 3, 1)
