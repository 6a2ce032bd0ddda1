"""The ledger of repairs in SQL: plans, runs, outcomes, leases and the kill switch.

Implements `remediate.ports.Ledger`. Each method is one transaction.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeVar

import msgspec
import sqlalchemy as sa

from opsmend.store import tables as t
from opsmend.store.bodies import Bodies
from opsmend.store.engine import REFUSED, reading, store_error
from opsmend.store.outbox import add_event
from opsmend.store.rebuilt import rebuilt_outcome, rebuilt_run, rebuilt_step
from remediate.ports import Prior, RepairsControl, Unclear
from remediate.types import Mode, Outcome, Plan, PlanState, Run, StepRecord

_encode = msgspec.json.encode
_PLAN, _RUN = partial(msgspec.json.decode, type=Plan), partial(msgspec.json.decode, type=Run)
_STEP, _OUTCOME = partial(msgspec.json.decode, type=StepRecord), partial(msgspec.json.decode, type=Outcome)
_T = TypeVar("_T")


class SqlLedger:
    """See `remediate.ports.Ledger`, also for what becomes of a row that can't be read; each is told to `bodies`. Raises
    StoreError when the database can't be reached. With `is_shown`, for those who decide nothing, such a row is left out
    of every list."""

    def __init__(self, engine: sa.Engine, *, default_mode: Mode = "observe", bodies: Bodies | None = None,
                 is_shown: bool = False) -> None:
        self._engine = engine
        self._bodies, self._is_shown = bodies or Bodies(), is_shown
        with self._write() as c:
            if c.execute(sa.select(t.repairs_control.c.id)).first() is None:
                c.execute(t.repairs_control.insert().values(
                    id=1, mode=default_mode, stopped=False, changed_by="configuration", changed_ns=time.time_ns()))

    @contextmanager
    def _write(self) -> Iterator[sa.Connection]:
        try:
            with self._engine.begin() as connection:
                yield connection
        except REFUSED as error:
            raise store_error(error) from error

    @contextmanager
    def _read(self) -> Iterator[sa.Connection]:
        try:
            with reading(self._engine) as connection:
                yield connection
        except REFUSED as error:
            raise store_error(error) from error

    def _one(self, table: str, row_id: str, body: bytes, decode: Callable[[bytes], _T]) -> _T:
        found = self._bodies.one(table, row_id, body, decode)
        if found is None:
            raise Unclear(f"row {row_id} of {table} can't be read")
        return found

    def _run(self, c: sa.Connection, row: sa.Row[Any]) -> Run:
        """`row` of `runs`, whole."""
        run = self._bodies.one("runs", row.id, row.body, _RUN)
        if run is None:
            ended = c.execute(sa.select(t.outcomes).where(t.outcomes.c.run_id == row.id)).first()
            run = rebuilt_run(row, ended)
        steps = c.execute(sa.select(t.steps).where(t.steps.c.run_id == run.id).order_by(t.steps.c.position))
        return msgspec.structs.replace(run, steps=tuple(
            self._bodies.one("steps", f"{run.id}/{s.step_id}", s.body, _STEP) or rebuilt_step(run, s.step_id) for s in steps))

    # the kill switch ------------------------------------------------------------------------------
    def control(self) -> RepairsControl:
        with self._read() as c:
            return _control(c)

    def set_control(self, *, mode: Mode | None = None, stopped: bool | None = None, by: str) -> RepairsControl:
        with self._write() as c:
            values: dict[str, object] = {"changed_by": by, "changed_ns": time.time_ns()}
            if mode is not None:
                values["mode"] = mode
            if stopped is not None:
                values["stopped"] = stopped
            c.execute(t.repairs_control.update().values(**values))
            now = _control(c)
            add_event(c, "io.opsmend.repairs.changed", "repairs", now.changed_ns, now)
            return now

    # plans ----------------------------------------------------------------------------------------
    def put_plan(self, plan: Plan) -> bool:
        with self._write() as c:
            if c.execute(sa.select(t.plans.c.id).where(t.plans.c.id == plan.id)).first():
                return False
            c.execute(t.plans.insert().values(id=plan.id, incident_id=plan.incident_id, state=plan.state,
                                              created_ns=plan.created_ns, body=_encode(plan)))
            add_event(c, "io.opsmend.plan.proposed", plan.id, plan.created_ns, plan)
            return True

    def plan(self, plan_id: str) -> Plan | None:
        with self._read() as c:
            row = c.execute(sa.select(t.plans.c.body).where(t.plans.c.id == plan_id)).first()
        return self._one("plans", plan_id, row.body, _PLAN) if row else None

    def plans(self, *, incident_id: str | None = None, state: PlanState | None = None,
              limit: int = 100) -> Sequence[Plan]:
        query = sa.select(t.plans.c.id, t.plans.c.body).order_by(t.plans.c.created_ns.desc(), t.plans.c.id)
        if incident_id is not None:
            query = query.where(t.plans.c.incident_id == incident_id)
        if state is not None:
            query = query.where(t.plans.c.state == state)
        with self._read() as c:
            if incident_id is None or self._is_shown:
                return self._bodies.read(c, query, _PLAN, limit)
            return [self._one("plans", row.id, row.body, _PLAN) for row in c.execute(query.limit(limit))]

    def move_plan(self, plan: Plan, *, expected: PlanState) -> bool:
        with self._write() as c:
            done = c.execute(t.plans.update().where(t.plans.c.id == plan.id, t.plans.c.state == expected)
                             .values(state=plan.state, body=_encode(plan)))
            if done.rowcount != 1:
                return False
            add_event(c, "io.opsmend.plan.updated", plan.id, plan.created_ns, plan)
            return True

    # runs -----------------------------------------------------------------------------------------
    def put_run(self, run: Run) -> None:
        values = {"plan_id": run.plan_id, "incident_id": run.incident_id, "service": run.service,
                  "action": run.action, "state": run.state, "started_ns": run.started_ns,
                  "body": _encode(msgspec.structs.replace(run, steps=()))}
        with self._write() as c:
            if c.execute(t.runs.update().where(t.runs.c.id == run.id).values(**values)).rowcount == 0:
                c.execute(t.runs.insert().values(id=run.id, **values))
            for step in run.steps:
                _put_step(c, step)
            has_ended = run.state in ("finished", "cancelled", "failed")
            kind = "io.opsmend.run.finished" if has_ended else "io.opsmend.run.updated"
            add_event(c, kind, run.id, run.ended_ns or run.started_ns, run)

    def run(self, run_id: str) -> Run | None:
        with self._read() as c:
            row = c.execute(sa.select(t.runs).where(t.runs.c.id == run_id)).first()
            return self._run(c, row) if row else None

    def runs(self, *, service: str | None = None, incident_id: str | None = None, since_ns: int = 0,
             limit: int = 100) -> Sequence[Run]:
        query = (sa.select(t.runs).where(t.runs.c.started_ns >= since_ns)
                 .order_by(t.runs.c.started_ns.desc(), t.runs.c.id))
        if service is not None:
            query = query.where(t.runs.c.service == service)
        if incident_id is not None:
            query = query.where(t.runs.c.incident_id == incident_id)
        with self._read() as c:
            found = []
            for row in c.execute(query.limit(limit)).all():
                try:
                    found.append(self._run(c, row))
                except Unclear:
                    if not self._is_shown:
                        raise
            return found

    def put_step(self, step: StepRecord) -> None:
        with self._write() as c:
            _put_step(c, step)
            add_event(c, "io.opsmend.run.step", step.run_id, step.ended_ns or step.started_ns, step)

    # leases ---------------------------------------------------------------------------------------
    def acquire_service(self, service: str, run_id: str) -> bool:
        with self._write() as c:
            row = c.execute(sa.select(t.service_leases.c.run_id)
                            .where(t.service_leases.c.service == service)).first()
            if row is None:
                c.execute(t.service_leases.insert().values(service=service, run_id=run_id))
                return True
            return bool(row.run_id == run_id)

    def release_service(self, service: str, run_id: str) -> None:
        with self._write() as c:
            c.execute(t.service_leases.delete().where(
                t.service_leases.c.service == service, t.service_leases.c.run_id == run_id))

    def leases(self) -> Sequence[tuple[str, str]]:
        with self._read() as c:
            rows = c.execute(sa.select(t.service_leases).order_by(t.service_leases.c.service))
            return [(row.service, row.run_id) for row in rows]

    # outcomes -------------------------------------------------------------------------------------
    def put_outcome(self, outcome: Outcome) -> None:
        with self._write() as c:
            if c.execute(sa.select(t.outcomes.c.run_id).where(t.outcomes.c.run_id == outcome.run_id)).first():
                return
            c.execute(t.outcomes.insert().values(
                run_id=outcome.run_id, fault_signature=outcome.fault_signature, action=outcome.action,
                verdict=outcome.verdict, ts_ns=outcome.ts_ns, incident_id=outcome.incident_id, service=outcome.service,
                body=_encode(outcome)))
            add_event(c, "io.opsmend.outcome.recorded", outcome.run_id, outcome.ts_ns, outcome)

    def outcome(self, run_id: str) -> Outcome | None:
        with self._read() as c:
            row = c.execute(sa.select(t.outcomes.c.body).where(t.outcomes.c.run_id == run_id)).first()
        return self._one("outcomes", run_id, row.body, _OUTCOME) if row else None

    def outcomes(self, *, incident_id: str | None = None, limit: int = 1000) -> Sequence[Outcome]:
        of = t.outcomes.c
        query = sa.select(t.outcomes).order_by(of.ts_ns.desc(), of.run_id)
        if incident_id is not None:
            query = query.where(of.incident_id.in_((incident_id, "")))  # "": nobody can tell without the body
        found = []
        with self._read() as c:
            for row in c.execute(query.limit(limit)):
                outcome = self._bodies.one("outcomes", row.run_id, row.body, _OUTCOME)
                if outcome is None and not self._is_shown:
                    outcome = rebuilt_outcome(row)
                    if incident_id is not None:
                        raise Unclear(f"outcome {row.run_id} of incident {incident_id} can't be read")
                if outcome is not None and incident_id in (None, outcome.incident_id):
                    found.append(outcome)
        return found

    def prior(self, fault_signature: str, action: str) -> Prior:
        # cannot_tell says nothing about the action, so it is no trial.
        query = (sa.select(t.outcomes.c.verdict, sa.func.count())
                 .where(t.outcomes.c.fault_signature == fault_signature, t.outcomes.c.action == action)
                 .group_by(t.outcomes.c.verdict))
        with self._read() as c:
            counts = {row[0]: int(row[1]) for row in c.execute(query)}
        fixed = counts.get("fixed", 0)
        return Prior(successes=fixed, trials=fixed + counts.get("not_fixed", 0))


def _control(c: sa.Connection) -> RepairsControl:
    row = c.execute(sa.select(t.repairs_control)).one()
    return RepairsControl(mode=row.mode, stopped=row.stopped, changed_by=row.changed_by, changed_ns=row.changed_ns)


def _put_step(c: sa.Connection, step: StepRecord) -> None:
    where = (t.steps.c.run_id == step.run_id, t.steps.c.step_id == step.step_id)
    if c.execute(t.steps.update().where(*where).values(body=_encode(step))).rowcount == 0:
        position = c.execute(sa.select(sa.func.count()).where(t.steps.c.run_id == step.run_id)).scalar_one()
        c.execute(t.steps.insert().values(run_id=step.run_id, step_id=step.step_id, position=position,
                                          body=_encode(step)))
