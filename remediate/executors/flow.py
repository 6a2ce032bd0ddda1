"""The order of a run, once for all executors. `call(name, function, *args)` makes each part durable, or not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from remediate.actions.base import ActionError
from remediate.executors.base import RunInput
from remediate.executors.work import Stopped, Workshop

Call = Callable[..., Any]


def run_flow(call: Call, work: Workshop, given: RunInput) -> str:
    """Run a plan to its outcome; the verdict, or "refused"."""
    if why := call("begin", _begin, work, given):
        call("refuse", lambda w, g: w.refuse(g, why), work, given)
        return "refused"
    done: list[tuple[str, dict[str, Any]]] = []
    failure, stopped = "", False
    for step_id in given.runbook.order():
        answer = call(f"{step_id}.prepare", _prepare, work, given, step_id)
        if answer["error"]:
            failure, stopped = answer["error"], answer["stopped"]
            break
        answer = {**call(f"{step_id}.act", _act, work, given, step_id), "snapshot": answer["snapshot"]}
        if answer["error"]:
            failure, stopped = answer["error"], answer["stopped"]
            break
        done.append((step_id, answer["snapshot"]))
    if failure:
        return str(call("finish", _finish_failed, work, given, failure, stopped, bool(done)))
    acted_ns = call("acted", lambda w, g: w.acted_ns(), work, given)
    verdict, why, before, after = call("verify", lambda w, g, at: w.settle_and_judge(g, at), work, given, acted_ns)
    undone = False
    if verdict == "not_fixed" and given.runbook.undo == "on_not_fixed":
        results = [call(f"{step_id}.undo", _undo, work, given, step_id, snapshot)
                   for step_id, snapshot in reversed(done)]
        undone = bool(results) and all(results)
    call("finish", lambda w, g: w.finish(g, verdict, why, before, after, undone=undone), work, given)
    return str(verdict)


def _begin(work: Workshop, given: RunInput) -> str:
    return work.begin(given)


def _prepare(work: Workshop, given: RunInput, step_id: str) -> dict[str, Any]:
    try:
        return {"snapshot": work.prepare(given, step_id), "error": "", "stopped": False}
    except Stopped as error:
        return {"snapshot": {}, "error": str(error), "stopped": True}
    except ActionError as error:
        # No snapshot, no action: what can't be undone is not done unattended.
        return {"snapshot": {}, "error": f"snapshot: {error}", "stopped": False}


def _act(work: Workshop, given: RunInput, step_id: str) -> dict[str, Any]:
    try:
        return {"effect": work.act(given, step_id), "error": "", "stopped": False}
    except (Stopped, ActionError) as error:
        return {"effect": "", "error": str(error), "stopped": isinstance(error, Stopped)}


def _undo(work: Workshop, given: RunInput, step_id: str, snapshot: dict[str, Any]) -> bool:
    return work.undo(given, step_id, snapshot)


def _finish_failed(work: Workshop, given: RunInput, failure: str, stopped: bool, acted: bool) -> str:
    verdict = "cannot_tell" if stopped and acted else "not_fixed" if acted else "cannot_tell"
    state = "cancelled" if stopped else "failed"
    work.finish(given, msgspec.convert(verdict, str), failure, {}, {}, undone=False, state=state)
    return verdict
