"""The outbox: every event is a row of the transaction that made it true.

Server-sent events, webhooks and Kafka topics read from here, so none of them can tell of something
that was rolled back, or miss something that was committed.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import sqlalchemy as sa

from opsmend.store import tables as t
from opsmend.store.engine import reading

KEEP_EVENTS = 20_000
"""How many events are kept for those who resume; older ones are deleted."""


class Event(msgspec.Struct, frozen=True):
    """One event. `type` is a CloudEvents type, `subject` the id of what it is about."""

    seq: int
    type: str
    subject: str
    ts_ns: int
    body: msgspec.Raw


def add_event(connection: sa.Connection, type_: str, subject: str, ts_ns: int, body: object) -> None:
    """Append one event within the caller's transaction."""
    connection.execute(t.events.insert().values(type=type_, subject=subject, ts_ns=ts_ns,
                                                body=msgspec.json.encode(body)))


def events_since(engine: sa.Engine, seq: int, limit: int = 500) -> Sequence[Event]:
    """Events after `seq`, oldest first."""
    with reading(engine) as c:
        rows = c.execute(sa.select(t.events).where(t.events.c.seq > seq).order_by(t.events.c.seq).limit(limit))
        return [Event(r.seq, r.type, r.subject, r.ts_ns, msgspec.Raw(r.body)) for r in rows]


def last_seq(engine: sa.Engine) -> int:
    """The number of the newest event, 0 if there is none."""
    with reading(engine) as c:
        return c.execute(sa.select(sa.func.max(t.events.c.seq))).scalar_one() or 0


def trim_events(connection: sa.Connection) -> None:
    """Delete all but the newest KEEP_EVENTS."""
    newest = connection.execute(sa.select(sa.func.max(t.events.c.seq))).scalar_one() or 0
    connection.execute(t.events.delete().where(t.events.c.seq <= newest - KEEP_EVENTS))
