"""What `remediate` needs from the shell: a durable ledger, and eyes on the live system.

The shell implements these (`opsmend/store/`); tests use `remediate.ledger_memory`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec

from detect.types import Incident, Observations, Signal
from ingest.errors import OpsmendError
from remediate.types import Mode, Outcome, Plan, PlanState, Run, StepRecord
from rootcause.types import ServiceGraph


class Unclear(OpsmendError):
    """Something that was stored, and that what to do depends on, can't be read: nothing is done."""

    reason = "unreadable"


class RepairsControl(msgspec.Struct, frozen=True):
    """The kill switch, one row: `stopped` true means nothing may start, and running runs stop before
    their next step."""

    mode: Mode
    stopped: bool
    changed_by: str = ""
    changed_ns: int = 0


class Prior(msgspec.Struct, frozen=True):
    """How often an action fixed a fault signature here."""

    successes: int
    trials: int


class Ledger(Protocol):
    """Plans, runs and outcomes, durable. Every method is one transaction and safe across processes.

    Raises OpsmendError with reason "store" when the store can't be reached, "store_busy" when it has no time: callers treat
    that as "do nothing" (gates fail closed).

    Of a row that can't be read (a broken disk, another version): limits count runs, so a run is given as far as its columns
    tell, and counts as before; that is all that cooldown and budget look at. What is decided of one incident rests on its
    plans (what a person rejected) and outcomes (what was tried and did not help): where one of these can't be read, asking
    for those of that incident raises Unclear, and that incident is left to people. In lists over all incidents a plan is
    left out, as nothing can be done with it; an outcome is given as far as its columns tell.
    """

    def control(self) -> RepairsControl: ...
    def set_control(self, *, mode: Mode | None = None, stopped: bool | None = None, by: str) -> RepairsControl: ...

    def put_plan(self, plan: Plan) -> bool:
        """Insert; False if a plan with this id is there already (ids are derived from content)."""

    def plan(self, plan_id: str) -> Plan | None:
        """Raises Unclear."""

    def plans(self, *, incident_id: str | None = None, state: PlanState | None = None,
              limit: int = 100) -> Sequence[Plan]:
        """Newest first. Raises Unclear if `incident_id` is given."""

    def move_plan(self, plan: Plan, *, expected: PlanState) -> bool:
        """Replace the stored plan if it is still in state `expected` (compare and set)."""

    def put_run(self, run: Run) -> None:
        """Insert or replace."""

    def run(self, run_id: str) -> Run | None: ...
    def runs(self, *, service: str | None = None, incident_id: str | None = None, since_ns: int = 0,
             limit: int = 100) -> Sequence[Run]:
        """Newest first, with their steps."""

    def put_step(self, step: StepRecord) -> None:
        """Insert or replace (run_id, step_id)."""

    def acquire_service(self, service: str, run_id: str) -> bool:
        """Take the one lease of a service; True also if `run_id` holds it already."""

    def release_service(self, service: str, run_id: str) -> None: ...
    def leases(self) -> Sequence[tuple[str, str]]:
        """(service, run_id) of all held leases."""

    def put_outcome(self, outcome: Outcome) -> None:
        """Insert once per run_id; a repeat changes nothing."""

    def outcome(self, run_id: str) -> Outcome | None:
        """Raises Unclear."""

    def outcomes(self, *, incident_id: str | None = None, limit: int = 1000) -> Sequence[Outcome]:
        """Newest first. Raises Unclear if `incident_id` is given, or nobody can tell whose one is."""

    def prior(self, fault_signature: str, action: str) -> Prior: ...


class Observer(Protocol):
    """The live system as the pipeline sees it."""

    def now_ns(self) -> int:
        """Event time up to which everything is decided (never the wall clock)."""

    def window(self, start_ns: int, end_ns: int) -> Observations: ...
    def open_signals(self, service: str) -> Sequence[Signal]: ...
    def incident(self, incident_id: str) -> Incident | None: ...
    def graph(self) -> ServiceGraph: ...
