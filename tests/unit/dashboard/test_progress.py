"""The five steps, and whether an incident needs a person."""

import msgspec
import pytest
from dashboard_scene import S, T, ident, incident, plan, signal

from opsmend.dashboard.progress import Progress, progress
from remediate.types import GateResult, Outcome, Plan, Run, StepRecord
from rootcause.types import Diagnosis

OPEN = incident("x", "x", "warning", [(signal("x", "latency", "a", T - 60 * S), "started it")], opened=T - 40 * S)
CLOSED = msgspec.structs.replace(OPEN, state="closed", closed_ns=T)
KNOWN = Diagnosis(OPEN.id, T, (), 0.1, False, "", "")
UNKNOWN = msgspec.structs.replace(KNOWN, cannot_tell=True)
PLAN = plan("p", OPEN.id, "Restart a", "a", "process.restart", T)
RUN = Run("r", PLAN.id, OPEN.id, "a", "process.restart", "running", T - 30 * S,
          steps=(StepRecord("r", "do", "process.restart", "done"),))
OUTCOME = Outcome("r", PLAN.id, OPEN.id, "a", "process.restart", "", "not_fixed", T, "worse", undone=True)


def of(plan: Plan, **changes: object) -> Plan:
    return msgspec.structs.replace(plan, **changes)


def ran(**changes: object) -> Run:
    return msgspec.structs.replace(RUN, **changes)


BLOCKED = of(PLAN, state="blocked", gates=(GateResult("cooldown", False, "cooldown: 40 s left"),))


@pytest.mark.parametrize(("given", "marks", "caption", "needs"), [
    ((OPEN, None, [], None, None), "done on - - -", "diagnosing, 40 s", False),
    ((OPEN, UNKNOWN, [], None, None), "done on - - -", "cannot tell yet, 40 s", False),
    ((OPEN, KNOWN, [], None, None), "done done - - -", "no repair fits; watching", False),
    ((OPEN, KNOWN, [PLAN], None, None), "done done on - -", "plan waits for you", True),
    ((OPEN, KNOWN, [BLOCKED], None, None), "done done bad - -", "plan blocked: cooldown: 40 s left", False),
    ((OPEN, KNOWN, [of(PLAN, state="rejected", decided_by="ana")], None, None), "done done bad - -",
     "rejected by ana", True),
    ((OPEN, KNOWN, [of(PLAN, state="running")], None, None), "done done done on -", "repair starts", False),
    ((OPEN, KNOWN, [of(PLAN, state="running")], RUN, None), "done done done on -", "repair runs", False),
    ((OPEN, KNOWN, [], ran(state="verifying"), None), "done done done done on", "verifying the repair", False),
    ((OPEN, KNOWN, [], ran(state="undoing"), None), "done done done bad bad", "putting back what was", False),
    ((CLOSED, KNOWN, [], ran(state="finished", verdict="fixed", ended_ns=T), None), "done done done done done",
     "1 min to mend", False),
    ((OPEN, KNOWN, [], ran(state="finished", verdict="not_fixed", ended_ns=T), OUTCOME), "done done done done bad",
     "not fixed, state restored; needs a person", True),
    ((CLOSED, KNOWN, [], ran(state="finished", verdict="not_fixed", ended_ns=T), OUTCOME), "done done done done bad",
     "not fixed, state restored", False),
    ((OPEN, KNOWN, [], ran(state="cancelled", steps=()), None), "done done done bad bad", "stopped; needs a person", True),
    ((CLOSED, KNOWN, [], None, None), "done done - - -", "ended by itself", False)])
def test_progress(given: tuple[object, ...], marks: str, caption: str, needs: bool) -> None:
    found: Progress = progress(*given, T)  # type: ignore[arg-type]
    assert " ".join(m or "-" for m in found.marks) == marks
    assert (found.caption, found.needs_person) == (caption, needs)
    assert found.described.startswith("found: done, diagnosed: ")


def test_what_is_left_to_people_says_so_unless_a_plan_waits_or_runs() -> None:
    def captions(*given: object) -> tuple[str, bool]:
        found = progress(*given, T, held="row p of plans can't be read")  # type: ignore[arg-type]
        return found.caption, found.needs_person

    left = ("left to people: row p of plans can't be read", True)
    assert captions(OPEN, KNOWN, [], None, None) == left
    assert captions(OPEN, KNOWN, [], ran(state="finished", verdict="fixed", ended_ns=T), None) == left
    assert captions(OPEN, KNOWN, [PLAN], None, None) == ("plan waits for you", True)
    assert captions(OPEN, KNOWN, [], RUN, None) == ("repair runs", False)
    assert captions(CLOSED, KNOWN, [], None, None) == ("ended by itself", False)


def test_only_an_open_incident_offers_its_plan() -> None:
    assert progress(OPEN, KNOWN, [PLAN], None, None, T).plan is PLAN
    assert progress(CLOSED, KNOWN, [PLAN], None, None, T).plan is None
    assert progress(OPEN, KNOWN, [PLAN], None, None, T, stopped=True).caption == "plan waits; repairs are stopped"
    assert ident("p") == PLAN.id
