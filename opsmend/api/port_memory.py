"""The port in memory, on the real stage types: for tests, screenshots and work on the dashboard."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence

import msgspec
import numpy as np

from detect.types import Incident, IncidentState, Observations, Signal
from ingest.errors import Backpressure
from ingest.types import Change, DeadLetter, SeriesKey
from opsmend.api import derive
from opsmend.api.port import (
    AcceptKind,
    ActionInfo,
    AllowRule,
    Conflict,
    Decision,
    IncidentPage,
    IngestStats,
    NotFound,
    ServiceStatus,
    TrustStats,
    not_merged,
    still_open,
)
from opsmend.causes import ConfirmedCause, Culprit, told_apart
from opsmend.store.outbox import Event
from remediate.ports import RepairsControl
from remediate.types import Mode, Outcome, Plan, PlanState, Run
from rootcause.types import Diagnosis, ServiceGraph

_REPLACE = msgspec.structs.replace
_ENDED = ("finished", "cancelled", "failed")


class MemoryPort:
    """Implements `ServicePort`. Thread-safe; `put_*` also tell the listeners of `/events`."""

    def __init__(self, *, now_ns: int = 0) -> None:
        self._lock = threading.RLock()
        self._now_ns = now_ns
        self._incidents: dict[str, Incident] = {}
        self._diagnoses: dict[str, list[Diagnosis]] = {}
        self._causes: dict[str, ConfirmedCause] = {}
        self._plans: dict[str, Plan] = {}
        self._runs: dict[str, Run] = {}
        self._outcomes: dict[str, Outcome] = {}
        self._control = RepairsControl("suggest", False)
        self._events: list[Event] = []
        self.accepted: list[tuple[AcceptKind, bytes, dict[str, str]]] = []
        self.is_full = False
        self.not_ready: dict[str, str] = {}
        self.service_graph = ServiceGraph((), frozenset())
        self.recorded = Observations(np.zeros(0, np.int64), (), np.zeros((0, 0)))
        self.change_log: list[Change] = []
        self.templates: dict[str, str] = {}
        self.dead: list[DeadLetter] = []
        self.stats = IngestStats(0.0, 0.0, 0)
        self.catalogue: tuple[ActionInfo, ...] = ()
        self.allow_list: tuple[AllowRule, ...] = ()

    # writes of the pipeline

    def put_incident(self, incident: Incident) -> None:
        """Insert or replace, and tell."""
        with self._lock:
            word = "updated" if incident.id in self._incidents else "opened"
            self._incidents[incident.id] = incident
            self._tell(f"incident.{word if incident.state == 'open' else incident.state}", incident.id, incident)

    def put_diagnosis(self, diagnosis: Diagnosis) -> None:
        with self._lock:
            self._diagnoses.setdefault(diagnosis.incident_id, []).insert(0, diagnosis)
            self._tell("incident.updated", diagnosis.incident_id, {"incident_id": diagnosis.incident_id})

    def put_plan(self, plan: Plan) -> None:
        with self._lock:
            self._plans[plan.id] = plan
            self._tell(f"plan.{plan.state}", plan.id, plan)

    def put_run(self, run: Run) -> None:
        with self._lock:
            self._runs[run.id] = run
            self._tell("run.finished" if run.state in _ENDED else "run.updated", run.id, run)

    def put_outcome(self, outcome: Outcome) -> None:
        with self._lock:
            self._outcomes[outcome.run_id] = outcome
            self._tell("run.finished", outcome.run_id, outcome)

    def advance(self, now_ns: int) -> None:
        """Move event time."""
        self._now_ns = now_ns

    def _tell(self, what: str, subject: str, body: object) -> None:
        seq = self._events[-1].seq + 1 if self._events else 1
        self._events.append(Event(seq, f"io.opsmend.{what}", subject, self._now_ns,
                                  msgspec.Raw(msgspec.json.encode(body))))
        del self._events[:-20_000]

    # the port

    def now_ns(self) -> int:
        return self._now_ns

    def incidents(self, *, state: IncidentState | None = None, service: str = "", cursor: str = "",
                  limit: int = 50) -> IncidentPage:
        start = int(cursor or 0)
        with self._lock:
            found = [i for i in self._incidents.values()
                     if (state is None or i.state == state) and (not service or service in i.services)]
        found.sort(key=lambda i: (-i.opened_ns, i.id))
        more = start + limit < len(found)
        return IncidentPage(found[start:start + limit], str(start + limit) if more else "")

    def incident(self, incident_id: str) -> Incident | None:
        return self._incidents.get(incident_id)

    def _open(self, incident_id: str) -> Incident:
        return still_open(self._incidents.get(incident_id), incident_id)

    def close_incident(self, incident_id: str, *, by: str, reason: str = "") -> Incident:
        with self._lock:
            closed = _REPLACE(self._open(incident_id), state="closed", closed_ns=self._now_ns, closed_by=by,
                              closed_reason=reason)
            self.put_incident(closed)
            return closed

    def split_incident(self, incident_id: str, signal_ids: Sequence[str], *, by: str) -> Incident:
        with self._lock:
            old, moved = self._open(incident_id), set(signal_ids)
            stay = tuple(s for s in old.signals if s.id not in moved)
            go = tuple(s for s in old.signals if s.id in moved)
            if not stay or len(go) != len(moved):
                raise Conflict("a split takes some of the incident's signals, not all, and no others")
            new = _REPLACE(old, id=f"{incident_id[:-4]}{len(self._incidents):04x}", signals=go, split_from=incident_id,
                           members=tuple(m for m in old.members if m.signal_id in moved))
            self.put_incident(_REPLACE(old, signals=stay,
                                       members=tuple(m for m in old.members if m.signal_id not in moved)))
            self.put_incident(new)
            return new

    def merge_incident(self, incident_id: str, into: str, *, by: str) -> Incident:
        with self._lock:
            old, to = self._open(incident_id), self._open(into)
            if old.id == to.id:
                raise Conflict("an incident can't be merged into itself")
            merged = _REPLACE(to, signals=to.signals + old.signals, members=to.members + old.members,
                              services=tuple(sorted({*to.services, *old.services})))
            self.put_incident(_REPLACE(old, state="merged", merged_into=into))
            self.put_incident(merged)
            return merged

    def confirm_cause(self, incident_id: str, culprits: Sequence[Culprit], *, by: str) -> ConfirmedCause:
        with self._lock:
            not_merged(self._incidents.get(incident_id), incident_id)
            diagnosed = [s for d in self._diagnoses.get(incident_id, ()) for s in d.suspects]
            named = told_apart(culprits, self.service_graph, diagnosed)
            self._causes[incident_id] = ConfirmedCause.of(incident_id, named, by, self._now_ns)
            return self._causes[incident_id]

    def cause(self, incident_id: str) -> ConfirmedCause | None:
        return self._causes.get(incident_id)

    def diagnosis(self, incident_id: str) -> Diagnosis | None:
        return next(iter(self._diagnoses.get(incident_id, ())), None)

    def diagnoses(self, incident_id: str, *, limit: int = 50) -> Sequence[Diagnosis]:
        return self._diagnoses.get(incident_id, [])[:limit]

    def plans(self, *, incident_id: str | None = None, state: PlanState | None = None,
              limit: int = 100) -> Sequence[Plan]:
        with self._lock:
            found = [p for p in self._plans.values() if (incident_id is None or p.incident_id == incident_id)
                     and (state is None or p.state == state)]
        return sorted(found, key=lambda p: (-p.created_ns, p.id))[:limit]

    def plan(self, plan_id: str) -> Plan | None:
        return self._plans.get(plan_id)

    def decide(self, plan_id: str, decision: Decision, *, plan_hash: str, by: str, reason: str = "") -> Plan:
        with self._lock:
            plan = self._plans.get(plan_id)
            if plan is None:
                raise NotFound(f"no plan {plan_id}")
            if plan.hash != plan_hash:
                raise Conflict("this is not the plan you saw: its hash is another one")
            if plan.state != "proposed":
                raise Conflict(f"the plan is {plan.state} already")
            if plan.expires_ns and plan.expires_ns < self._now_ns:
                raise Conflict("the plan has expired")
            decided = _REPLACE(plan, state="approved" if decision == "approve" else "rejected",
                               decided_by=by, decided_reason=reason)
            self.put_plan(decided)
            return decided

    def runs(self, *, incident_id: str | None = None, service: str | None = None, limit: int = 100) -> Sequence[Run]:
        with self._lock:
            found = [r for r in self._runs.values() if (incident_id is None or r.incident_id == incident_id)
                     and (service is None or r.service == service)]
        return sorted(found, key=lambda r: (-r.started_ns, r.id))[:limit]

    def run(self, run_id: str) -> Run | None:
        return self._runs.get(run_id)

    def cancel_run(self, run_id: str, *, by: str) -> Run:
        with self._lock:
            run = self._runs.get(run_id)
            if run is None:
                raise NotFound(f"no run {run_id}")
            if run.state in _ENDED:
                raise Conflict(f"the run is {run.state} already")
            cancelled = _REPLACE(run, state="cancelled", ended_ns=self._now_ns)
            self.put_run(cancelled)
            return cancelled

    def held(self, incident_id: str) -> str:
        return ""  # of what is in memory, all can be read

    def outcome(self, run_id: str) -> Outcome | None:
        return self._outcomes.get(run_id)

    def outcomes(self, *, limit: int = 1000) -> Sequence[Outcome]:
        return sorted(self._outcomes.values(), key=lambda o: (-o.ts_ns, o.run_id))[:limit]

    def control(self) -> RepairsControl:
        return self._control

    def set_control(self, *, mode: Mode | None = None, stopped: bool | None = None, by: str) -> RepairsControl:
        with self._lock:
            self._control = RepairsControl(mode or self._control.mode,
                                           self._control.stopped if stopped is None else stopped, by, self._now_ns)
            self._tell("repairs.changed", "repairs", self._control)
            return self._control

    def actions(self) -> Sequence[ActionInfo]:
        return self.catalogue

    def allowed(self) -> Sequence[AllowRule]:
        return self.allow_list

    def breaches(self) -> Sequence[Signal]:
        found = [(s.breach.eta_ns, s) for i in self.incidents(state="open", limit=1000).items for s in i.signals
                 if s.breach is not None and s.is_open]
        return [s for _, s in sorted(found, key=lambda f: (f[0], f[1].id))]

    def services(self) -> Sequence[ServiceStatus]:
        recent = self.observations(self._now_ns - 120 * 10**9, self._now_ns)
        return derive.service_statuses(self.service_graph, self.incidents(state="open", limit=1000).items, recent)

    def graph(self) -> ServiceGraph:
        return self.service_graph

    def observations(self, start_ns: int, end_ns: int, keep: Callable[[SeriesKey], bool] | None = None, *,
                     with_forecast: bool = False) -> Observations:
        all_of_it = self.recorded
        rows = (all_of_it.ts_ns >= start_ns) & (all_of_it.ts_ns <= end_ns)
        columns = [at for at, key in enumerate(all_of_it.series) if keep is None or keep(key)]
        told = all_of_it.forecast[rows][:, columns] if with_forecast and all_of_it.forecast is not None else None
        return Observations(all_of_it.ts_ns[rows], tuple(all_of_it.series[c] for c in columns),
                            all_of_it.values[rows][:, columns], told)

    def template_text(self, template_id: str) -> str:
        return self.templates.get(template_id, "")

    def changes(self, start_ns: int, end_ns: int) -> Sequence[Change]:
        return sorted((c for c in self.change_log if start_ns <= c.ts_ns <= end_ns), key=lambda c: c.ts_ns)

    def dead_letters(self, *, limit: int = 100) -> Sequence[DeadLetter]:
        return self.dead[:limit]

    def ingest_stats(self) -> IngestStats:
        return self.stats

    def trust(self, *, days: int = 7) -> TrustStats:
        return derive.trust_stats(self._now_ns, self.incidents(limit=100_000).items, self.outcomes(), self._plans,
                                  [d[0] for d in self._diagnoses.values()], days=days)

    def events_since(self, seq: int, *, limit: int = 500) -> Sequence[Event]:
        with self._lock:
            first = self._events[0].seq if self._events else 1
            at = max(0, seq + 1 - first)
            return self._events[at:at + limit]

    def last_seq(self) -> int:
        with self._lock:
            return self._events[-1].seq if self._events else 0

    def accept(self, kind: AcceptKind, body: bytes, headers: Mapping[str, str]) -> int:
        if self.is_full:
            raise Backpressure("the intake is full", retry_after_seconds=2)
        self.accepted.append((kind, body, dict(headers)))
        return 1

    def readiness(self) -> Mapping[str, str]:
        return self.not_ready
