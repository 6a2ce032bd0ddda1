"""What the API and the dashboard need from the service: one port, read and write.

The composition root implements it on the store; `opsmend.api.port_memory` implements it in memory
for tests, screenshots and work on the dashboard. Methods are synchronous, are called from worker
threads (so they must be thread-safe) and return within milliseconds. Times are event time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, TypeVar

from detect.types import Incident, IncidentState, Observations, Signal
from ingest.errors import OpsmendError
from ingest.types import Change, DeadLetter, SeriesKey
from opsmend.causes import ConfirmedCause, Culprit
from opsmend.store.outbox import Event
from remediate.ports import RepairsControl, Unclear
from remediate.types import Mode, Outcome, Plan, PlanState, Run
from rootcause.types import Diagnosis, ServiceGraph

AcceptKind = Literal["logs", "metrics", "traces", "alerts", "changes", "prometheus"]
Decision = Literal["approve", "reject"]
ServiceState = Literal["ok", "warning", "critical", "unknown"]
_T = TypeVar("_T")


class NotFound(OpsmendError):
    """There is nothing with this id."""

    reason = "not_found"


class Conflict(OpsmendError):
    """The thing is no longer as the caller saw it: another hash, decided already, closed already."""

    reason = "conflict"


def still_open(incident: Incident | None, incident_id: str) -> Incident:
    """The one that was found, where it may still be changed. Raises NotFound, Conflict."""
    if incident is None:
        raise NotFound(f"no incident {incident_id}")
    if incident.state != "open":
        raise Conflict(f"the incident is {incident.state}")
    return incident


def not_merged(incident: Incident | None, incident_id: str) -> Incident:
    """The one that was found, where what is said of it counts. Raises NotFound, Conflict."""
    if incident is None:
        raise NotFound(f"no incident {incident_id}")
    if incident.state == "merged":
        raise Conflict(f"it was merged into {incident.merged_into}: say it there")
    return incident


def if_readable(read: Callable[[str], _T | None], row_id: str) -> _T | None:
    """For those who show a row beside others: one that can't be read, of which the store has told, is as one that is gone."""
    try:
        return read(row_id)
    except Unclear:
        return None


@dataclass(frozen=True)
class IncidentPage:
    """Incidents, newest first, and where the next page starts ("" on the last)."""

    items: Sequence[Incident]
    next_cursor: str = ""


@dataclass(frozen=True)
class ServiceStatus:
    """One service as it is now. `indicators` maps an indicator (detect.indicators) to its newest value."""

    name: str
    state: ServiceState
    is_external: bool = False
    indicators: Mapping[str, float] = field(default_factory=dict)
    incident_ids: tuple[str, ...] = ()


@dataclass(frozen=True)
class IngestStats:
    """How the intake is doing. `lag_seconds` is how far the newest decided bucket is behind what arrived."""

    lines_per_second: float
    lag_seconds: float
    dead_letters: int


@dataclass(frozen=True)
class TrustStats:
    """The last `days` days. A run without a person's approval that was verified as fixed counts as mended
    without waking anyone, out of all incidents that ended."""

    days: int
    ended: int
    mended_alone: int
    median_mend_seconds: float | None
    wrong_undone: int
    wrong_standing: int
    cannot_tell: int


@dataclass(frozen=True)
class ActionInfo:
    """One entry of the catalogue of actions. `applies_when` are signal kinds; `undo` "" cannot be undone."""

    name: str
    title: str
    kind: str = ""
    risk: str = ""
    undo: str = ""
    applies_when: tuple[str, ...] = ()
    timeout_seconds: float = 0.0


@dataclass(frozen=True)
class AllowRule:
    """One line of the allow-list: nothing runs that no line allows."""

    service: str
    actions: tuple[str, ...]
    mode: Mode


class ServicePort(Protocol):
    """The running service. Raises `NotFound` and `Conflict` where told, OpsmendError "store" when it can't read."""

    def now_ns(self) -> int:
        """Event time up to which everything is decided."""

    def incidents(self, *, state: IncidentState | None = None, service: str = "", cursor: str = "",
                  limit: int = 50) -> IncidentPage:
        """Newest first. A cursor that was not handed out by this method raises ValueError."""

    def incident(self, incident_id: str) -> Incident | None: ...
    def close_incident(self, incident_id: str, *, by: str, reason: str = "") -> Incident:
        """Who closed it and why stays with it. Raises NotFound; Conflict when it is not open."""

    def split_incident(self, incident_id: str, signal_ids: Sequence[str], *, by: str) -> Incident:
        """Move these signals into a new incident, which is returned. Raises NotFound, Conflict."""

    def merge_incident(self, incident_id: str, into: str, *, by: str) -> Incident:
        """Merge into another open incident, which is returned. Raises NotFound, Conflict."""

    def confirm_cause(self, incident_id: str, culprits: Sequence[Culprit], *, by: str) -> ConfirmedCause:
        """What a person found out, of an incident that is open or closed; without a culprit that nothing was wrong. Which
        of them is a host or volume is found out here.
        Raises NotFound; Conflict where it was merged, or nothing can be learned from it."""

    def cause(self, incident_id: str) -> ConfirmedCause | None:
        """What was confirmed last."""

    def diagnosis(self, incident_id: str) -> Diagnosis | None:
        """The latest."""

    def diagnoses(self, incident_id: str, *, limit: int = 50) -> Sequence[Diagnosis]:
        """Newest first."""

    def plans(self, *, incident_id: str | None = None, state: PlanState | None = None,
              limit: int = 100) -> Sequence[Plan]:
        """Newest first."""

    def held(self, incident_id: str) -> str:
        """Why nothing more is planned for it: a plan or outcome of it can't be read, so nobody knows what was tried or
        rejected. "" where all can be read."""

    def plan(self, plan_id: str) -> Plan | None:
        """Raises Unclear where it can't be read; so do `run` and `outcome`."""

    def decide(self, plan_id: str, decision: Decision, *, plan_hash: str, by: str, reason: str = "") -> Plan:
        """Approve (starts the run) or reject exactly the plan with this hash.

        Raises NotFound; Conflict when the hash is another one, it is decided already, or has expired.
        """

    def runs(self, *, incident_id: str | None = None, service: str | None = None, limit: int = 100) -> Sequence[Run]:
        """Newest first, with their steps."""

    def run(self, run_id: str) -> Run | None: ...
    def cancel_run(self, run_id: str, *, by: str) -> Run:
        """Stop before the next step. Raises NotFound; Conflict when it has ended."""

    def outcome(self, run_id: str) -> Outcome | None: ...
    def outcomes(self, *, limit: int = 1000) -> Sequence[Outcome]:
        """Newest first."""

    def control(self) -> RepairsControl: ...
    def set_control(self, *, mode: Mode | None = None, stopped: bool | None = None, by: str) -> RepairsControl: ...
    def actions(self) -> Sequence[ActionInfo]: ...
    def allowed(self) -> Sequence[AllowRule]: ...

    def breaches(self) -> Sequence[Signal]:
        """Open signals with a `breach`, soonest first."""

    def services(self) -> Sequence[ServiceStatus]:
        """By name. `opsmend.api.derive.service_statuses` makes them from what the store has."""

    def graph(self) -> ServiceGraph: ...
    def observations(self, start_ns: int, end_ns: int, keep: Callable[[SeriesKey], bool] | None = None, *,
                     with_forecast: bool = False) -> Observations:
        """Buckets with start_ns <= ts <= end_ns; only the series that `keep` accepts. What had been forecast comes
        along only `with_forecast`."""

    def template_text(self, template_id: str) -> str:
        """The log template, "" if it is no longer kept. Made of log text: whoever shows it escapes it."""

    def changes(self, start_ns: int, end_ns: int) -> Sequence[Change]:
        """Oldest first."""

    def dead_letters(self, *, limit: int = 100) -> Sequence[DeadLetter]: ...
    def ingest_stats(self) -> IngestStats: ...
    def trust(self, *, days: int = 7) -> TrustStats:
        """`opsmend.api.derive.trust_stats` makes them from what the store has."""

    def events_since(self, seq: int, *, limit: int = 500) -> Sequence[Event]:
        """Oldest first."""

    def last_seq(self) -> int: ...
    def accept(self, kind: AcceptKind, body: bytes, headers: Mapping[str, str]) -> int:
        """Take telemetry in; returns the number of records once they are durable.

        `body` is as sent but decompressed; `headers` are lower-case. Raises Backpressure, DecodeError.
        """

    def readiness(self) -> Mapping[str, str]:
        """Component -> "" when it is ready, else what is missing."""
