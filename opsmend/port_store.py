"""The API's port on the running service: reads from the store, writes through repair and transport."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import sqlalchemy as sa

from detect.types import Incident, IncidentState, Observations, Signal
from ingest.errors import OpsmendError
from ingest.types import Change, DeadLetter, SeriesKey
from opsmend.api.derive import service_statuses, trust_stats
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
    if_readable,
    not_merged,
    still_open,
)
from opsmend.causes import ConfirmedCause, Culprit, span_ns, told_apart, window_of
from opsmend.corrections import Correction
from opsmend.service import Service
from opsmend.store.causes import CauseLog
from opsmend.store.outbox import Event, events_since, last_seq
from remediate.actions.base import risk_of
from remediate.ports import RepairsControl, Unclear
from remediate.repair import DecisionError
from remediate.types import Mode, Outcome, Plan, PlanState, Run
from rootcause.types import Diagnosis, ServiceGraph

_SAME_BUCKET = 200  # incidents that open in one bucket and so have one opening time: far more than ever do

_PATIENCE_SECONDS = 10.0
"""How long a correction may take: it waits for the batch at hand."""
_OTHERS_SECONDS = 3.0
"""How much longer another member may need."""


class StorePort:
    """See ServicePort. Thread-safe: every method is a transaction of its own."""

    def __init__(self, service: Service) -> None:
        self._s = service
        self._q = service.queries
        self._causes = CauseLog(service.engine, service.bodies)
        self._rates: list[tuple[float, int]] = []

    def now_ns(self) -> int:
        return self._s.observer.now_ns()

    # incidents ------------------------------------------------------------------------------------
    def incidents(self, *, state: IncidentState | None = None, service: str = "", cursor: str = "",
                  limit: int = 50) -> IncidentPage:
        # A cursor names the last row shown: many incidents may have opened in the same bucket.
        opened_ns, _, last_id = cursor.partition(".")
        before, shown = (int(opened_ns) + 1, (-int(opened_ns), last_id)) if cursor else (None, (-(2**63), ""))
        found: list[Incident] = []
        rows = 1000 if service else limit + _SAME_BUCKET
        while len(found) <= limit:
            page = self._q.incidents(state=state, before_ns=before, limit=rows)
            found += [i for i in page if (-i.opened_ns, i.id) > shown and (not service or service in i.services)]
            if len(page) < rows:
                break
            last = page[-1]
            shown = max(shown, (-last.opened_ns, last.id))
            before = last.opened_ns + 1 if last.opened_ns + 1 != before else last.opened_ns
        items = found[:limit]
        more = len(found) > limit
        return IncidentPage(items, f"{items[-1].opened_ns}.{items[-1].id}" if more else "")

    def incident(self, incident_id: str) -> Incident | None:
        return self._q.incident(incident_id)

    def _open(self, incident_id: str) -> Incident:
        return still_open(self._q.incident(incident_id), incident_id)

    def close_incident(self, incident_id: str, *, by: str, reason: str = "") -> Incident:
        self._open(incident_id)
        return self._correct("close", incident_id, by, incident_id, lambda i: i.state == "closed", reason=reason)

    def split_incident(self, incident_id: str, signal_ids: Sequence[str], *, by: str) -> Incident:
        incident, wanted = self._open(incident_id), set(signal_ids)
        moved = tuple(s.id for s in incident.signals if s.id in wanted)
        if wanted - set(moved):
            raise Conflict("some of these alerts are not in this incident any more")
        if not moved or len(moved) == len(incident.signals):
            raise Conflict("a split moves some of the signals, not none and not all")
        return self._correct("split", incident_id, by, str(uuid.uuid4()), lambda i: True, moved)

    def merge_incident(self, incident_id: str, into: str, *, by: str) -> Incident:
        gone, home = self._open(incident_id), self._open(into)
        if gone.id == home.id:
            raise Conflict("an incident can't be merged into itself")
        there = {s.id for s in gone.signals}
        return self._correct("merge", incident_id, by, into, lambda i: there <= {s.id for s in i.signals})

    def _correct(self, kind: Literal["split", "merge", "close"], incident_id: str, by: str, other_id: str,
                 is_done: Callable[[Incident], bool], signal_ids: tuple[str, ...] = (), reason: str = "") -> Incident:
        """Store what a person said (from then on it counts, whatever dies), and wait for what the pipeline makes of it:
        the incident `other_id` as it is then. Raises Conflict where it can't be done any more."""
        correction = Correction(str(uuid.uuid4()), kind, incident_id, by, self.now_ns(), signal_ids, other_id, reason)
        try:
            seq = self._s.corrections.append(correction)
        except sa.exc.SQLAlchemyError as error:
            raise OpsmendError("the store is away: nothing was changed", reason="store", is_transient=True) from error
        self._s.runner.look()
        began, applied = time.monotonic(), 0.0
        while time.monotonic() - began < _PATIENCE_SECONDS:
            found = self._q.incident(other_id)
            if found is not None and is_done(found):
                return found
            if self._s.runner.corrected >= seq:  # by us; of members that share the store another one may have it
                applied = applied or time.monotonic()
                if time.monotonic() - applied > _OTHERS_SECONDS:
                    raise Conflict("the incident has changed meanwhile: look again")
            time.sleep(0.02)
        raise OpsmendError("it is noted, and will be done as soon as telemetry is read again", reason="store",
                           is_transient=True)

    def confirm_cause(self, incident_id: str, culprits: Sequence[Culprit], *, by: str) -> ConfirmedCause:
        incident = not_merged(self._q.incident(incident_id), incident_id)
        diagnosed = [s for d in self._q.diagnoses(incident_id, limit=200) for s in d.suspects]
        named = told_apart(culprits, self.graph(), diagnosed)
        cause = ConfirmedCause.of(incident_id, named, by, self.now_ns())
        start_ns, end_ns = span_ns(incident, cause.at_ns)
        try:
            window = window_of(incident, self.graph(), self._q.observations(start_ns, end_ns),
                               tuple(self._q.changes(start_ns - int(900e9), end_ns)), cause, diagnosed,
                               self._q.incidents(before_ns=incident.opened_ns))
            self._causes.put(cause, window)
        except ValueError as error:
            raise Conflict(str(error)) from error
        except sa.exc.SQLAlchemyError as error:
            raise OpsmendError("the store is away: nothing was noted", reason="store", is_transient=True) from error
        return cause

    def cause(self, incident_id: str) -> ConfirmedCause | None:
        return self._causes.get(incident_id)

    def diagnosis(self, incident_id: str) -> Diagnosis | None:
        """The newest; once a repair of it is under way or has helped, the one that the repair was based on: signs
        that go because they were mended do not make the cause less sure."""
        runs = [r for r in self.runs(incident_id=incident_id, limit=1) if r.verdict in (None, "fixed")]
        plan = if_readable(self.plan, runs[0].plan_id) if runs else None
        if plan is not None and (based_on := self._q.diagnoses(incident_id, limit=1, until_ns=plan.created_ns)):
            return based_on[0]
        return next(iter(self._q.diagnoses(incident_id, limit=1)), None)

    def diagnoses(self, incident_id: str, *, limit: int = 50) -> Sequence[Diagnosis]:
        return self._q.diagnoses(incident_id, limit=limit)

    # repairs --------------------------------------------------------------------------------------
    def plans(self, *, incident_id: str | None = None, state: PlanState | None = None,
              limit: int = 100) -> Sequence[Plan]:
        return self._s.shown.plans(incident_id=incident_id, state=state, limit=limit)

    def held(self, incident_id: str) -> str:
        try:
            self._s.ledger.plans(incident_id=incident_id, limit=200)
            self._s.ledger.outcomes(incident_id=incident_id, limit=200)
        except Unclear as error:
            return str(error)
        return ""

    def plan(self, plan_id: str) -> Plan | None:
        return self._s.ledger.plan(plan_id)

    def decide(self, plan_id: str, decision: Decision, *, plan_hash: str, by: str, reason: str = "") -> Plan:
        try:
            decided = self._s.repair.decide(plan_id, decision, plan_hash=plan_hash, by=by, reason=reason)
        except DecisionError as error:
            if error.reason == "not_found":
                raise NotFound(str(error)) from error
            raise Conflict(str(error)) from error
        self._s.metrics.decided(decided, "approved" if decision == "approve" else "rejected")
        return decided

    def runs(self, *, incident_id: str | None = None, service: str | None = None, limit: int = 100) -> Sequence[Run]:
        return self._s.shown.runs(service=service, incident_id=incident_id, limit=limit)

    def run(self, run_id: str) -> Run | None:
        return self._s.ledger.run(run_id)

    def cancel_run(self, run_id: str, *, by: str) -> Run:
        run = self._s.ledger.run(run_id)
        if run is None:
            raise NotFound(f"no run {run_id}")
        if run.state not in ("running", "verifying", "undoing"):
            raise Conflict(f"the run is {run.state}")
        self._s.executor.cancel(run_id, by=by)
        return run

    def outcome(self, run_id: str) -> Outcome | None:
        return self._s.ledger.outcome(run_id)

    def outcomes(self, *, limit: int = 1000) -> Sequence[Outcome]:
        return self._s.shown.outcomes(limit=limit)

    def control(self) -> RepairsControl:
        return self._s.ledger.control()

    def set_control(self, *, mode: Mode | None = None, stopped: bool | None = None, by: str) -> RepairsControl:
        return self._s.ledger.set_control(mode=mode, stopped=stopped, by=by)

    def actions(self) -> Sequence[ActionInfo]:
        return [ActionInfo(a.name, a.title, a.name.partition(".")[0], risk_of(a, 0.0),
                           "undo" if a.is_reversible else "", tuple(sorted(a.applies_when)), self._s.work.timeout_seconds)
                for a in self._s.catalogue]

    def allowed(self) -> Sequence[AllowRule]:
        return [AllowRule(a.service, tuple(a.actions), a.mode) for a in self._s.settings.repair.allow]

    # the system -----------------------------------------------------------------------------------
    def breaches(self) -> Sequence[Signal]:
        found = [s for i in self._q.incidents(state="open", limit=1000) for s in i.signals if s.breach and s.is_open]
        return sorted(found, key=lambda s: (s.breach.eta_ns if s.breach else 0, s.id))

    def services(self) -> Sequence[ServiceStatus]:
        now = self.now_ns()
        recent = self._q.observations(now - 15 * 10**9, now)
        return service_statuses(self.graph(), self._q.incidents(state="open", limit=1000), recent)

    def graph(self) -> ServiceGraph:
        return self._s.observer.graph()

    def observations(self, start_ns: int, end_ns: int, keep: Callable[[SeriesKey], bool] | None = None, *,
                     with_forecast: bool = False) -> Observations:
        return self._q.observations(start_ns, end_ns, keep, with_forecast=with_forecast)

    def template_text(self, template_id: str) -> str:
        return self._s.runner.pipeline.detection.template_text(template_id)

    def changes(self, start_ns: int, end_ns: int) -> Sequence[Change]:
        return self._q.changes(start_ns, end_ns)

    def dead_letters(self, *, limit: int = 100) -> Sequence[DeadLetter]:
        return self._q.dead_letters(limit)

    def ingest_stats(self) -> IngestStats:
        totals = self._q.totals()
        rows = totals.get("logs", 0) + totals.get("points", 0) + totals.get("spans", 0)
        now = time.monotonic()
        # Over the last ten seconds; over longer where nobody has asked for a while.
        self._rates = [*([r for r in self._rates if now - r[0] < 10] or self._rates[-1:]), (now, rows)]
        first = self._rates[0]
        rate = (rows - first[1]) / (now - first[0]) if now > first[0] else 0.0
        newest = self.now_ns()
        lag = max(0.0, (time.time_ns() - newest) / 1e9) if newest else 0.0
        return IngestStats(rate, lag, totals.get("dead", 0))

    def trust(self, *, days: int = 7) -> TrustStats:
        ended = self._q.incidents(state="closed", limit=1000)
        outcomes = self._s.shown.outcomes()
        plans = {p.id: p for p in self._s.shown.plans(limit=1000)}
        latest = [d for i in ended[:200] if (d := self.diagnosis(i.id)) is not None]
        return trust_stats(self.now_ns(), ended, outcomes, plans, latest, days=days)

    def events_since(self, seq: int, *, limit: int = 500) -> Sequence[Event]:
        return events_since(self._s.engine, seq, limit)

    def last_seq(self) -> int:
        return last_seq(self._s.engine)

    def accept(self, kind: AcceptKind, body: bytes, headers: Mapping[str, str]) -> int:
        return self._s.intake.put(kind, body, headers)

    def readiness(self) -> Mapping[str, str]:
        return self._s.readiness()
