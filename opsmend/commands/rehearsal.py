"""A runbook without the world: the order of the real executors, with what each part would do written down."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, cast

import msgspec

from ingest.errors import OpsmendError
from opsmend.commands.catalogue import describe, params_for
from remediate import conditions
from remediate.actions.base import ActionError
from remediate.catalogue import Catalogue
from remediate.executors.base import RunInput
from remediate.executors.flow import Ending, run_flow
from remediate.executors.work import Prepared, Workshop
from remediate.runbook import Runbook, plan_hash
from remediate.types import Plan, Verdict


class Did(msgspec.Struct, frozen=True):
    """One thing that would happen. `call` is what would be sent or started."""

    what: Literal["do", "skip", "fail", "verify", "undo", "end"]
    step: str = ""
    action: str = ""
    call: str = ""
    why: str = ""


class Rehearsal:
    """Stands in for the Workshop of `run_flow`. `fails` are steps whose action fails; `verdict` is what verification
    would say."""

    def __init__(self, catalogue: Catalogue, verdict: Verdict, fails: frozenset[str] = frozenset()) -> None:
        self._catalogue, self._verdict, self._fails = catalogue, verdict, fails
        self.did: list[Did] = []
        self.ending = Ending("cannot_tell", "")

    def begin(self, given: RunInput) -> str:
        return ""

    def prepare(self, given: RunInput, step_id: str, verdict: str = "") -> Prepared | None:
        step = given.runbook.steps[step_id]
        facts = {**given.plan.facts, "run": {"id": given.run_id, "verdict": verdict}}
        if step.when and not conditions.holds(step.when, facts):
            self.did.append(Did("skip", step_id, step.action, why=step.when))
            return None
        return Prepared({}, 0)

    def act(self, given: RunInput, step_id: str, prepared: Prepared) -> str:
        step = given.runbook.steps[step_id]
        action = self._catalogue.get(step.action)
        if action is None:
            raise ActionError(f"no action {step.action}", reason="unknown_action")
        params = params_for(action, given.plan.target)
        params.update((k, v.replace("{target}", given.plan.target)) for k, v in step.with_.items())
        failed = step_id in self._fails
        self.did.append(Did("fail" if failed else "do", step_id, step.action, describe(action, params)))
        if failed:
            raise ActionError("it fails in this rehearsal", reason="failed")
        return "done"

    def acted_ns(self) -> int:
        return 0

    def settle_and_judge(self, given: RunInput, acted_ns: int) -> tuple[Verdict, str, dict[str, float], dict[str, float]]:
        self.did.append(Did("verify", why=self._verdict))
        return self._verdict, "assumed", {}, {}

    def undo(self, given: RunInput, step_id: str, prepared: Prepared) -> bool:
        action = self._catalogue.get(given.runbook.steps[step_id].action)
        if action is None or not action.is_reversible:
            return False
        self.did.append(Did("undo", step_id, action.name))
        return True

    def refuse(self, given: RunInput, why: str) -> None:
        self.did.append(Did("end", why=why))

    def finish(self, given: RunInput, verdict: Verdict, why: str, before: dict[str, float], after: dict[str, float], *,
               undone: bool, state: str = "finished") -> None:
        self.ending = msgspec.convert(
            {"verdict": verdict, "why": why, "before": before, "after": after, "undone": undone, "state": state}, Ending)
        self.did.append(Did("end", why=f"{state}, {verdict}{', undone' if undone else ''}"))


def rehearse(runbook: Runbook, catalogue: Catalogue, facts: Mapping[str, Any], *, verdict: Verdict = "fixed",
             fails: Sequence[str] = ()) -> Rehearsal:
    """Run it through the real order of steps. Raises OpsmendError for a step that `fails` names and that is none."""
    unknown = sorted(set(fails) - set(runbook.steps))
    if unknown:
        raise OpsmendError(f"{runbook.name}: no step {', '.join(unknown)}", reason="runbook")
    target = str(facts["incident"]["suspect"]["service"])
    plan = Plan(id="rehearsal", incident_id="rehearsal", created_ns=0, runbook=runbook.name, runbook_hash=runbook.hash(),
                hash=plan_hash(runbook, target, {}), title=runbook.title or runbook.name, target=target,
                action=runbook.main_action, params={}, source="human", propensity=1.0, rationale="", risk="low",
                needs_approval=True, facts=dict(facts))
    work = Rehearsal(catalogue, verdict, frozenset(fails))
    run_flow(lambda name, function, *args: function(*args), cast(Workshop, work),
             RunInput(str(uuid.uuid4()), plan, runbook))
    return work


class Expected(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a case expects; what is left out is not looked at."""

    chosen: bool = True
    """Whether the runbook's own `when` holds."""
    steps: list[str] | None = None
    """Steps whose action is called, in order; one that fails is called too."""
    undone: bool | None = None
    ends: Literal["finished", "failed"] | None = None
    verdict: Verdict | None = None


class Case(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One case of a test file. `incident` are the facts that conditions are asked of."""

    case: str
    incident: dict[str, Any]
    expect: Expected
    verdict: Verdict = "fixed"
    fails: list[str] = []


def read_cases(path: Path) -> list[Case]:
    """Raises OpsmendError: not there, not YAML, an unknown key, no case at all."""
    import yaml

    try:
        cases = msgspec.convert(yaml.safe_load(path.read_text()), list[Case])
    except (OSError, yaml.YAMLError, msgspec.ValidationError) as error:
        raise OpsmendError(f"{path}: {error}", reason="runbook") from error
    if not cases:
        raise OpsmendError(f"{path}: no cases", reason="runbook")
    return cases


def check_case(runbook: Runbook, catalogue: Catalogue, case: Case) -> list[str]:
    """What is not as expected; empty when all is."""
    suspect = case.incident.get("suspect")
    if not isinstance(suspect, dict) or not suspect.get("service"):
        raise OpsmendError(f"case '{case.case}': incident.suspect.service is needed", reason="runbook")
    facts = {"incident": case.incident}
    try:
        chosen = not runbook.when or conditions.holds(runbook.when, facts)
    except conditions.ConditionError:
        chosen = False  # as the planner takes it
    if chosen != case.expect.chosen:
        return [f"chosen: expected {case.expect.chosen}, is {chosen}"]
    if not chosen:
        return []
    work = rehearse(runbook, catalogue, facts, verdict=case.verdict, fails=case.fails)
    found = {"steps": [d.step for d in work.did if d.what in ("do", "fail")], "undone": work.ending.undone,
             "ends": work.ending.state, "verdict": work.ending.verdict}
    return [f"{name}: expected {wanted}, is {found[name]}" for name in found
            if (wanted := getattr(case.expect, name)) is not None and wanted != found[name]]
