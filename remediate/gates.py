"""The gates: what must hold before anything runs. They are read again before every step, and fail closed.

Each gate gives a GateResult; one that is not passed stops the plan. A gate that can't read what it needs is
not passed. No gate reads anything that a model wrote.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from detect.types import LOG_KINDS
from ingest.errors import OpsmendError
from remediate.catalogue import Catalogue
from remediate.ports import Ledger, Observer
from remediate.runbook import Runbook, plan_hash
from remediate.types import GateResult, Mode, Plan, Run

_MODES = ("observe", "suggest", "auto")
# All that a wrong type, a missing value, a spoilt row or an absent store can raise: none of it opens a gate.
_TROUBLE = (OpsmendError, msgspec.MsgspecError, AttributeError, TypeError, ValueError, LookupError, ArithmeticError,
            RuntimeError, OSError)


@dataclass(frozen=True)
class AllowRule:
    """One entry of `[[repair.allow]]`. `service` "*" is every service."""

    service: str
    actions: tuple[str, ...]
    mode: Mode = "suggest"


@dataclass(frozen=True)
class GateConfig:
    """Limits of what may be done without, and with, a person."""

    allow: tuple[AllowRule, ...] = ()
    actions_per_hour: int = 10
    services_at_once: int = 1
    cooldown_seconds: float = 300.0
    """Between the end of one repair of a service and the start of the next."""
    max_blast_radius: float = 0.5
    """Share of services that an unattended action may touch: its target and those that call it directly."""
    external: frozenset[str] = field(default_factory=frozenset)


@dataclass(frozen=True)
class GateInput:
    """What the gates look at."""

    plan: Plan
    runbook: Runbook
    run_id: str = ""
    """The run that asks, once there is one."""
    approved_hash: str = ""
    """The plan hash that a person approved, "" where nobody did."""
    has_begun: bool = False
    """The run passed the gates of its start: what is asked only once is not asked again."""


def allowed_mode(config: GateConfig, service: str, action: str) -> Mode | None:
    """The most permissive mode the allow-list gives; None where it lists nothing."""
    found = [rule.mode for rule in config.allow if rule.service in (service, "*") and action in _names(rule)
             and rule.mode in _MODES]
    return max(found, key=_MODES.index, default=None)


def _names(rule: AllowRule) -> Sequence[str]:
    # In a string every substring would count as listed.
    if isinstance(rule.actions, str):
        raise TypeError("actions of an allow rule are a list")
    return rule.actions


class Gates:
    """`check(input)` runs every gate, in order. Never raises: an error is a gate that did not pass."""

    def __init__(self, config: GateConfig, ledger: Ledger, observer: Observer, catalogue: Catalogue) -> None:
        self._c, self._ledger, self._observer, self._catalogue = config, ledger, observer, catalogue
        self._gates: tuple[tuple[str, Callable[[GateInput], tuple[bool, str]]], ...] = (
            ("kill_switch", self._kill_switch), ("plan_hash", self._plan_hash), ("unexpired", self._unexpired),
            ("known_action", self._known_action), ("approval", self._approval),
            ("allow_list", self._allow_list), ("external", self._external), ("mode", self._mode),
            ("precondition", self._precondition), ("cooldown", self._cooldown), ("one_run", self._one_run),
            ("services_at_once", self._services_at_once), ("budget", self._budget),
            ("blast_radius", self._blast_radius), ("reversible", self._reversible))

    @property
    def names(self) -> Sequence[str]:
        return [name for name, _ in self._gates]

    def check(self, given: GateInput) -> tuple[GateResult, ...]:
        """All gates; nothing may run unless every one passed."""
        results = []
        for name, gate in self._gates:
            try:
                passed, detail = gate(given)
            except _TROUBLE as error:
                passed, detail = False, f"could not be checked: {type(error).__name__}: {str(error)[:160]}"
            results.append(GateResult(name, passed is True, detail))
        return tuple(results)

    def _kill_switch(self, g: GateInput) -> tuple[bool, str]:
        control = self._ledger.control()
        if control.stopped is not False:
            return False, f"repairs are stopped by {control.changed_by}"
        return True, "repairs are not stopped"

    def _plan_hash(self, g: GateInput) -> tuple[bool, str]:
        plan = g.plan
        if not plan.target or not plan.hash or not isinstance(plan.params, Mapping):
            return False, "the plan is incomplete"
        if plan_hash(g.runbook, plan.target, plan.params) != plan.hash:
            return False, "what would run is not what was planned"
        return True, f"exactly plan {plan.hash[:6]}"

    def _unexpired(self, g: GateInput) -> tuple[bool, str]:
        if g.has_begun:
            return True, "begun in time"
        if not 0 <= self._observer.now_ns() <= g.plan.expires_ns:
            return False, "the plan has expired"
        return True, "the plan stands"

    def _approval(self, g: GateInput) -> tuple[bool, str]:
        # A model may choose among what is eligible; it may not make anything run unattended.
        if g.plan.source not in ("rule", "memory", "policy", "human") and g.approved_hash != g.plan.hash:
            return False, f"chosen by {g.plan.source}: a person must approve"
        return True, f"chosen by {g.plan.source}"

    def _known_action(self, g: GateInput) -> tuple[bool, str]:
        unknown = [s.action for s in g.runbook.steps.values() if s.action not in self._catalogue]
        if unknown or not g.runbook.steps:
            return False, f"not in the catalogue: {', '.join(unknown) or 'no steps'}"
        return True, "every action is in the catalogue"

    def _allow_list(self, g: GateInput) -> tuple[bool, str]:
        for step in g.runbook.steps.values():
            if step.action != "notify" and allowed_mode(self._c, g.plan.target, step.action) is None:
                return False, f"{step.action} is not allowed for {g.plan.target}"
        return True, f"{g.plan.action} is allowed for {g.plan.target}"

    def _external(self, g: GateInput) -> tuple[bool, str]:
        is_external = g.plan.target in self._c.external or g.plan.target in self._observer.graph().external
        if is_external and g.plan.action != "notify":
            return False, f"{g.plan.target} is not ours to repair"
        return True, f"{g.plan.target} is ours"

    def _mode(self, g: GateInput) -> tuple[bool, str]:
        control = self._ledger.control()
        if control.mode not in _MODES:
            return False, "the mode is unknown"
        if control.mode == "observe":
            return False, "mode is observe: nothing runs"
        modes = [allowed_mode(self._c, g.plan.target, s.action) for s in g.runbook.steps.values()
                 if s.action != "notify"]
        if "observe" in modes:
            return False, "the allow-list says observe: nothing runs"
        if g.approved_hash:
            if g.approved_hash != g.plan.hash:
                return False, "another plan was approved"
            return True, "a person approved exactly this plan"
        if control.mode != "auto":
            return False, "mode is suggest: a person must approve"
        if any(mode != "auto" for mode in modes):
            return False, "the allow-list asks for a person's approval"
        return True, "mode is auto"

    def _precondition(self, g: GateInput) -> tuple[bool, str]:
        if g.has_begun:
            return True, "checked when the run began"
        if g.plan.source == "human" and g.approved_hash:
            return True, "a person's own plan"
        action = self._catalogue.get(g.plan.action)
        if action is None:
            return False, "no such action"
        if not action.applies_when:
            return True, "no precondition"
        incident = self._observer.incident(g.plan.incident_id)
        open_kinds = {s.kind for s in self._observer.open_signals(g.plan.target)}
        if incident is not None:
            open_kinds |= {s.kind for s in incident.signals if s.is_open and g.plan.target in (s.service, s.peer)}
            if action.needs_change and incident.state == "open":
                # A bad release may be felt at its callers alone; log text elsewhere says nothing about it.
                open_kinds |= {s.kind for s in incident.signals if s.is_open and s.kind not in LOG_KINDS}
        if not action.needs_change:
            open_kinds -= LOG_KINDS
        fits = sorted(action.applies_when & open_kinds)
        if not fits:
            return False, f"no open signal on {g.plan.target} calls for it"
        return True, f"{fits[0]} is open"

    def _runs(self, since_ns: int = 0, service: str | None = None) -> Sequence[Run]:
        return self._ledger.runs(service=service, since_ns=since_ns, limit=1000)

    def _cooldown(self, g: GateInput) -> tuple[bool, str]:
        if g.plan.action == "notify":
            return True, "telling people needs no cooldown"
        now = self._observer.now_ns()
        for run in self._runs(service=g.plan.target):
            if run.id == g.run_id or run.action == "notify":
                continue
            age = (now - max(run.ended_ns, run.started_ns)) / 1e9
            if not age >= self._c.cooldown_seconds:  # so that NaN is no permission
                return False, f"{g.plan.target} was repaired {age:.0f} s ago; cooldown {self._c.cooldown_seconds:.0f} s"
        return True, "cooldown passed"

    def _one_run(self, g: GateInput) -> tuple[bool, str]:
        holder = dict(self._ledger.leases()).get(g.plan.target)
        if holder is not None and holder != g.run_id:
            return False, f"another repair of {g.plan.target} runs"
        return True, f"no other repair of {g.plan.target}"

    def _services_at_once(self, g: GateInput) -> tuple[bool, str]:
        if g.plan.action == "notify":
            return True, "telling people disturbs no service"
        others = {s for s, run in self._ledger.leases() if run != g.run_id and s != g.plan.target}
        if not len(others) + 1 <= self._c.services_at_once:
            return False, f"{len(others)} other services are being repaired; limit {self._c.services_at_once}"
        return True, f"{len(others)} others are being repaired"

    def _budget(self, g: GateInput) -> tuple[bool, str]:
        now = self._observer.now_ns()
        done = [r for r in self._runs(since_ns=now - 3600 * 10**9) if r.id != g.run_id and r.action != "notify"]
        if not len(done) + 1 <= self._c.actions_per_hour:
            return False, f"{len(done)} repairs in the last hour; limit {self._c.actions_per_hour}"
        return True, f"{len(done)} of {self._c.actions_per_hour} repairs this hour"

    def _blast_radius(self, g: GateInput) -> tuple[bool, str]:
        graph = self._observer.graph()
        total = len(graph.services)
        if total == 0:
            return False, "no service is known: the blast radius can't be told"
        action = self._catalogue.get(g.plan.action)
        touched = 1 + (len(graph.callers(g.plan.target)) if action is None or action.disruption >= 2 else 0)
        share = touched / total
        if not share <= self._c.max_blast_radius and not g.approved_hash and total > 2:
            return False, f"touches {touched} of {total} services, limit {self._c.max_blast_radius:.0%}"
        return True, f"blast radius {touched} of {total} services"

    def _reversible(self, g: GateInput) -> tuple[bool, str]:
        for step in g.runbook.steps.values():
            action = self._catalogue.get(step.action)
            if action is None:
                return False, "no such action"
            is_named = any(rule.service == g.plan.target and step.action in rule.actions and rule.mode == "auto"
                           for rule in self._c.allow)
            if not action.is_reversible and not g.approved_hash and not is_named:
                return False, f"{step.action} can't be undone: it needs approval unless allowed by name"
        return True, "can be undone, or is allowed by name"
