"""Rows of repairs whose body can't be read, as far as their columns tell.

A limit must count what was done even where nobody can read how it went: columns are written by the statement that writes
the body, and hold all that limits look at. Where they do not tell, the doubt is on the side of doing less.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from remediate.ports import Unclear
from remediate.types import Outcome, Run, StepRecord

_WHY = "what was stored of it can't be read"


def rebuilt_run(row: sa.Row[Any], ended: sa.Row[Any] | None) -> Run:
    """`row` of `runs`; `ended` of `outcomes`, where there is one. Raises Unclear for a run that has ended nobody knows
    when: it may be within every cooldown."""
    if ended is None and row.state in ("finished", "cancelled", "failed"):
        raise Unclear(f"run {row.id} of {row.service} {row.state}, and nobody can read when")
    return Run(row.id, row.plan_id, row.incident_id, row.service, row.action, row.state, row.started_ns,
               ended.ts_ns if ended is not None else 0, (), ended.verdict if ended is not None else None)


def rebuilt_step(run: Run, step_id: str) -> StepRecord:
    """It was attempted, and nobody knows how far it came: the world is asked before it is attempted again."""
    return StepRecord(run.id, step_id, run.action, "running", run.started_ns, 0, 1, error=_WHY)


def rebuilt_outcome(row: sa.Row[Any]) -> Outcome:
    """`row` of `outcomes`. Whether it was undone is not told: it is taken for standing, so that it is not done twice. Raises
    Unclear where it is not told whose it is (rows of before version 9 of the schema, without a run)."""
    if not row.incident_id or not row.service:
        raise Unclear(f"outcome {row.run_id} can't be read, and nobody can tell whose it is")
    return Outcome(row.run_id, "", row.incident_id, row.service, row.action, row.fault_signature, row.verdict, row.ts_ns, _WHY)
