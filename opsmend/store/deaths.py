"""Which role of ours died, and of what. The process ends with it, so the next one tells: as metrics, from the store.

A process that is killed (kill -9, no memory left) notes nothing; whoever starts it again sees its exit code.
"""

from __future__ import annotations

import time

import msgspec
import sqlalchemy as sa
import structlog

from ingest.errors import OpsmendError
from opsmend.store import tables as t
from opsmend.store.engine import REFUSED, reading, store_error

log = structlog.get_logger()


class RoleDied(OpsmendError):
    """A thread that everything depends on ended. `reason` is that of the error, where it is one of ours; else `transport`
    (Kafka), `store`, `memory` or `bug`."""

    def __init__(self, role: str, error: BaseException) -> None:
        said = str(error) if isinstance(error, OpsmendError) else repr(error)
        super().__init__(f"{role} died: {said}", reason=_reason_of(error))
        self.role = role


def _reason_of(error: BaseException) -> str:
    if isinstance(error, OpsmendError):
        return error.reason
    if isinstance(error, REFUSED):
        return store_error(error).reason
    if isinstance(error, MemoryError):
        return "memory"
    return "transport" if type(error).__name__.startswith("Kafka") else "bug"  # of two libraries, both optional


class Death(msgspec.Struct, frozen=True):
    """How often a role died of something, and when last (wall clock)."""

    role: str
    reason: str
    times: int
    last_ns: int


class Deaths:
    """Counted for as long as the store lives; roles and reasons are few. Thread-safe."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine

    def note(self, died: RoleDied) -> None:
        """Count it. A store that is away is logged: whoever notes this is ending, and has nobody to raise to."""
        table = t.role_deaths
        here = [table.c.role == died.role, table.c.reason == died.reason]
        values = {"last_ns": time.time_ns(), "detail": repr(str(died))[:500]}  # repr: no NUL, no lone surrogates
        try:
            with self._engine.begin() as c:
                if c.execute(table.update().where(*here).values(times=table.c.times + 1, **values)).rowcount == 0:
                    c.execute(table.insert().values(role=died.role, reason=died.reason, times=1, **values))
        except REFUSED as error:
            log.error("role.death_not_noted", role=died.role, reason=died.reason, error=str(store_error(error)))

    def all(self) -> list[Death]:
        """By role and reason."""
        c = t.role_deaths.c
        with reading(self._engine) as connection:
            return [Death(r.role, r.reason, r.times, r.last_ns)
                    for r in connection.execute(sa.select(t.role_deaths).order_by(c.role, c.reason))]
