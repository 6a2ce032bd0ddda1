"""The order of a run, once for all executors. `call(name, function, *args)` makes each part durable, or not.

    begin -> (prepare -> act) per step -> acted -> verify -> undo per step -> steps after the verdict -> finish
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import msgspec

from remediate.actions.base import ActionError
from remediate.conditions import ConditionError
from remediate.executors.base import RunInput
from remediate.executors.work import Prepared, Stopped, Workshop
from remediate.types import Verdict

Call = Callable[..., Any]


class Answer(msgspec.Struct, frozen=True):
    """How one part of a step went. `kind` "skipped": its condition did not hold."""

    kind: Literal["done", "skipped", "failed", "stopped"]
    text: str = ""
    prepared: Prepared | None = None


class Ending(msgspec.Struct, frozen=True):
    """How the run as a whole went, up to and without what follows the verdict."""

    verdict: Verdict
    why: str
    before: dict[str, float] = {}
    after: dict[str, float] = {}
    undone: bool = False
    state: Literal["finished", "failed", "cancelled"] = "finished"


def run_flow(call: Call, work: Workshop, given: RunInput) -> str:
    """Run a plan to its outcome; the verdict, or "refused"."""
    if why := call("begin", lambda w, g: w.begin(g), work, given):
        call("refuse", lambda w, g: w.refuse(g, why), work, given)
        return "refused"
    steps, late = given.runbook.phases()
    done: list[tuple[str, Prepared]] = []
    trouble = _steps(call, work, given, steps, "", done)
    ending = _verified(call, work, given, done) if trouble is None else _broken_off(call, work, given, trouble, done)
    if ending.state != "cancelled":
        # What follows the verdict tells people; it can't change the verdict any more.
        _steps(call, work, given, late, ending.verdict, [])
    call("finish", lambda w, g, e: w.finish(g, e.verdict, e.why, e.before, e.after, undone=e.undone, state=e.state),
         work, given, ending)
    return str(ending.verdict)


def _steps(call: Call, work: Workshop, given: RunInput, steps: list[str], verdict: str,
           done: list[tuple[str, Prepared]]) -> Answer | None:
    """Run them in order; the answer at which it ended early, None at the end of the list."""
    for step_id in steps:
        answer = _answer(call(f"{step_id}.prepare", _prepare, work, given, step_id, verdict))
        prepared = answer.prepared
        if answer.kind == "skipped":
            continue
        if answer.kind == "done" and prepared is not None:
            answer = _answer(call(f"{step_id}.act", _act, work, given, step_id, prepared))
            if answer.kind == "done":
                done.append((step_id, prepared))
                continue
        return answer
    return None


def _verified(call: Call, work: Workshop, given: RunInput, done: list[tuple[str, Prepared]]) -> Ending:
    if not done:
        return Ending("cannot_tell", "no step had anything to do")
    if all(given.runbook.steps[step_id].action == "notify" for step_id, _ in done):
        return Ending("cannot_tell", "people were told; nothing was repaired")
    acted_ns = call("acted", lambda w, g: w.acted_ns(), work, given)
    verdict, why, before, after = call("verify", lambda w, g, at: w.settle_and_judge(g, at), work, given, acted_ns)
    undone = verdict == "not_fixed" and _undone(call, work, given, done)
    return Ending(verdict, why, before, after, undone)


def _broken_off(call: Call, work: Workshop, given: RunInput, trouble: Answer,
                done: list[tuple[str, Prepared]]) -> Ending:
    """A step failed, or a gate closed. What was done before is undone, unless a person said stop."""
    if trouble.kind == "stopped":
        return Ending("cannot_tell", trouble.text, state="cancelled")
    undone = bool(done) and _undone(call, work, given, done)
    return Ending("not_fixed" if done else "cannot_tell", trouble.text, undone=undone, state="failed")


def _undone(call: Call, work: Workshop, given: RunInput, done: list[tuple[str, Prepared]]) -> bool:
    """Undo in reverse; True when every step was brought back."""
    if given.runbook.undo != "on_not_fixed":
        return False
    results = [call(f"{step_id}.undo", lambda w, g, s, p: w.undo(g, s, p), work, given, step_id, prepared)
               for step_id, prepared in reversed(done)]
    return all(results)


def _answer(raw: Any) -> Answer:
    return raw if isinstance(raw, Answer) else msgspec.convert(raw, Answer)


def _prepare(work: Workshop, given: RunInput, step_id: str, verdict: str) -> Answer:
    try:
        prepared = work.prepare(given, step_id, verdict)
    except Stopped as error:
        return Answer("stopped", str(error))
    except (ActionError, ConditionError) as error:
        # No snapshot, no action: what can't be undone is not done unattended.
        return Answer("failed", f"{step_id}: {error}")
    return Answer("skipped") if prepared is None else Answer("done", prepared=prepared)


def _act(work: Workshop, given: RunInput, step_id: str, prepared: Prepared) -> Answer:
    try:
        return Answer("done", work.act(given, step_id, prepared))
    except Stopped as error:
        return Answer("stopped", str(error))
    except ActionError as error:
        return Answer("failed", f"{step_id}: {error}")
