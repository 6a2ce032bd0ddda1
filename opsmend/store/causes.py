"""The causes that people confirmed, each with its window."""

from __future__ import annotations

from functools import partial

import msgspec
import sqlalchemy as sa

from opsmend.causes import ConfirmedCause, packed, unpacked
from opsmend.store import tables as t
from opsmend.store.bodies import Bodies
from opsmend.store.engine import reading
from rootcause.types import CaseWindow

_KEPT = 1000
_TABLE = t.confirmed_causes.name
_cause = partial(msgspec.json.decode, type=ConfirmedCause)


class CauseLog:
    """One per incident, the newest word; the newest 1,000 are kept. Thread-safe; every method is a transaction. All
    raise sqlalchemy errors when the store is away. One that can't be read is left out (see `Bodies`)."""

    def __init__(self, engine: sa.Engine, bodies: Bodies | None = None) -> None:
        self._engine = engine
        self._bodies = bodies or Bodies()

    def put(self, cause: ConfirmedCause, window: CaseWindow) -> None:
        """Keep it in place of what was said before of this incident."""
        table, values = t.confirmed_causes, {"at_ns": cause.at_ns, "body": msgspec.json.encode(cause), "window": packed(window)}
        with self._engine.begin() as c:
            c.execute(table.delete().where(table.c.incident_id == cause.incident_id))
            c.execute(table.insert().values(incident_id=cause.incident_id, **values))
            kept = sa.select(table.c.incident_id).order_by(table.c.at_ns.desc(), table.c.incident_id).limit(_KEPT)
            c.execute(table.delete().where(table.c.incident_id.not_in(kept)))

    def get(self, incident_id: str) -> ConfirmedCause | None:
        with reading(self._engine) as c:
            row = c.execute(sa.select(t.confirmed_causes.c.body)
                            .where(t.confirmed_causes.c.incident_id == incident_id)).first()
        return self._bodies.one(_TABLE, incident_id, row.body, _cause) if row else None

    def all(self) -> list[tuple[ConfirmedCause, CaseWindow]]:
        """Oldest first."""
        table, found = t.confirmed_causes, []
        with reading(self._engine) as c:
            for row in c.execute(sa.select(table).order_by(table.c.at_ns, table.c.incident_id)):
                cause = self._bodies.one(_TABLE, row.incident_id, row.body, _cause)
                window = self._bodies.one(_TABLE, row.incident_id, row.window, unpacked) if cause is not None else None
                if cause is not None and window is not None:
                    found.append((cause, window))
        return found
