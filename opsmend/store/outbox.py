"""The outbox: every event is a row of the transaction that made it true.

Server-sent events, webhooks and Kafka topics read from here, so none of them can tell of something
that was rolled back, or miss something that was committed.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import sqlalchemy as sa

from ingest.types import DeadLetter
from opsmend.store import tables as t
from opsmend.store.engine import reading

KEEP_EVENTS = 20_000
"""How many events are kept for those who resume; older ones are deleted."""
KEEP_FOR_RECEIVERS = 10 * KEEP_EVENTS
"""How many are kept, at most, for a receiver that does not take them."""


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
    """Delete all but the newest KEEP_EVENTS, and what a receiver still waits for (up to KEEP_FOR_RECEIVERS)."""
    newest = connection.execute(sa.select(sa.func.max(t.events.c.seq))).scalar_one() or 0
    slowest = connection.execute(sa.select(sa.func.min(t.outlet_cursors.c.seq))).scalar_one()
    below = newest - KEEP_EVENTS
    if slowest is not None:
        below = max(min(below, slowest), newest - KEEP_FOR_RECEIVERS)
    connection.execute(t.events.delete().where(t.events.c.seq <= below))


def cursors(engine: sa.Engine) -> dict[str, int]:
    """Receiver -> the last event it has taken."""
    with reading(engine) as c:
        return {r.sink: r.seq for r in c.execute(sa.select(t.outlet_cursors))}


def set_cursor(engine: sa.Engine, sink: str, seq: int) -> None:
    """`sink` has taken everything up to `seq`."""
    with engine.begin() as c:
        where = t.outlet_cursors.c.sink == sink
        if c.execute(t.outlet_cursors.update().where(where).values(seq=seq)).rowcount == 0:
            c.execute(t.outlet_cursors.insert().values(sink=sink, seq=seq))


def keep_cursors(engine: sa.Engine, sinks: Sequence[str]) -> None:
    """Forget receivers that are configured no more; new ones begin with the next event."""
    with engine.begin() as c:
        newest = c.execute(sa.select(sa.func.max(t.events.c.seq))).scalar_one() or 0
        c.execute(t.outlet_cursors.delete().where(t.outlet_cursors.c.sink.not_in(sinks)))
        known = {r.sink for r in c.execute(sa.select(t.outlet_cursors.c.sink))}
        for sink in sinks:
            if sink not in known:
                c.execute(t.outlet_cursors.insert().values(sink=sink, seq=newest))


def letters_at(engine: sa.Engine, places: Sequence[tuple[str, int, int]]) -> Sequence[DeadLetter]:
    """The dead letters at (topic, partition, offset); those that are gone are left out."""
    found = []
    with reading(engine) as c:
        for topic, partition, offset in places:
            d = t.dead_letters.c
            row = c.execute(sa.select(t.dead_letters).where(
                d.topic == topic, d.partition == partition, d.offset == offset)).first()
            if row is not None:
                found.append(DeadLetter(**row._mapping))
    return found
