"""From what was done during a fault to numbers: right, false and harmful actions, and the summary."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

import msgspec

from opsmend.lab.deployer import Deployer
from opsmend.lab.effects import Effect
from opsmend.lab.faults import Fault
from opsmend.lab.layout import Layout

_TERMINATED = b"terminating connection due to administrator command"
_DELETING = ("del", "unlink", "flushall", "flushdb")


class Action(msgspec.Struct, frozen=True):
    """Something that was done to the system, by whomever, and had an effect."""

    verb: str
    target: str
    after_seconds: float


class Incident(msgspec.Struct, frozen=True):
    """One measured fault. Times in seconds after the injection; `mttr_seconds` is the cap if not resolved."""

    fault: str
    repetition: int
    voided: bool = False
    void_reason: str = ""
    resolved: bool = False
    relapsed: bool = False
    """It was mended, and then it was not."""
    breach_seconds: float | None = None
    """When the customers first had reason to complain; None: never."""
    ttd_seconds: float | None = None
    mttr_seconds: float | None = None
    censored: bool = False
    suspects: tuple[str, ...] = ()
    root_top1: bool | None = None
    root_top3: bool | None = None
    actions: tuple[Action, ...] = ()
    false_actions: int = 0
    harmful_actions: int = 0
    bad_requests: int = 0
    left_broken: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    """What the policy says that it planned and did."""


class ServerCounts(msgspec.Struct, frozen=True):
    """Traces of actions that do not go through the actuator."""

    terminated: int
    deleted: int

    @classmethod
    def read(cls, layout: Layout, deployer: Deployer) -> ServerCounts:
        """Sessions PostgreSQL was told to end, and deleting commands Redis has run, so far."""
        terminated = deleted = 0
        if deployer.ready.postgres_port and layout.postgres_log.exists():
            terminated = layout.postgres_log.read_bytes().count(_TERMINATED)
        if deployer.ready.redis_port:
            with deployer.redis() as client:
                stats: dict[str, Any] = client.info("commandstats")
            deleted = sum(int(stats.get(f"cmdstat_{name}", {}).get("calls", 0)) for name in _DELETING)
        return cls(terminated, deleted)


def actions_of(effects: Sequence[Effect], before: ServerCounts, after: ServerCounts, since_ns: int,
               seen_after_seconds: float) -> tuple[Action, ...]:
    """Everything that was done, in order. What the servers' counters show carries the time it was seen."""
    actions = [Action(e.verb, e.service, round((e.ts_ns - since_ns) / 1e9, 2)) for e in effects if e.changed]
    restarted = {a.target for a in actions if a.verb in ("restart", "kill")}
    if after.terminated > before.terminated and "postgres" not in restarted:
        actions.append(Action("terminate", "postgres", round(seen_after_seconds, 2)))
    if after.deleted > before.deleted and "redis" not in restarted:
        actions.append(Action("purge", "redis", round(seen_after_seconds, 2)))
    return tuple(sorted(actions, key=lambda a: a.after_seconds))


def judge(fault: Fault, actions: Sequence[Action]) -> tuple[int, int]:
    """(false, harmful) actions. The first right repair is right; a right one repeated is false, as the
    first had been enough; harmful ones are false as well."""
    false = harmful = 0
    is_repaired = False
    for action in actions:
        pair = (action.verb, action.target)
        if pair in fault.right and not is_repaired:
            is_repaired = True
            continue
        false += 1
        harmful += pair in fault.harmful
    return false, harmful


def summarise(incidents: Sequence[Incident], faults: dict[str, Fault]) -> dict[str, float | int | None]:
    """The summary of a bench. Void runs count nowhere but in `voided`; unresolved ones enter the times to
    repair with the cap. Faults that no action mends enter `left_alone` (nothing was done) in place of `resolved` and
    the times to repair. Runs without a fault enter `noop_actions` alone."""
    valid = [i for i in incidents if not i.voided]
    real = [i for i in valid if faults[i.fault].is_fault]
    ttds = [i.ttd_seconds for i in real if i.ttd_seconds is not None]
    mendable = [i for i in real if faults[i.fault].is_repairable]
    hopeless = [i for i in real if not faults[i.fault].is_repairable]
    mttrs = sorted(i.mttr_seconds for i in mendable if i.mttr_seconds is not None)
    named = [i for i in real if i.root_top1 is not None]

    def share(hits: int, of: int) -> float | None:
        return round(hits / of, 4) if of else None

    return {
        "incidents": len(real), "noop_runs": len(valid) - len(real),
        "resolved": share(sum(i.resolved for i in mendable), len(mendable)),
        "left_alone": share(sum(not i.actions for i in hopeless), len(hopeless)),
        "detected": share(len(ttds), len(real)),
        "censored": sum(i.censored for i in mendable),
        "relapsed": sum(i.relapsed for i in mendable),
        "false_actions": sum(i.false_actions for i in real),
        "harmful_actions": sum(i.harmful_actions for i in real),
        "noop_actions": sum(len(i.actions) for i in valid if not faults[i.fault].is_fault),
        "ttd_median_s": round(statistics.median(ttds), 2) if ttds else None,
        "mttr_median_s": round(statistics.median(mttrs), 2) if mttrs else None,
        "mttr_p90_s": round(mttrs[min(len(mttrs) - 1, int(0.9 * len(mttrs)))], 2) if mttrs else None,
        "AC@1": share(sum(bool(i.root_top1) for i in named), len(real)) if named else None,
        "AC@3": share(sum(bool(i.root_top3) for i in named), len(real)) if named else None,
        "bad_requests": sum(i.bad_requests for i in real),
        "voided": len(incidents) - len(valid),
    }
