"""The causes that people confirmed, each with its window."""

from __future__ import annotations

import msgspec
import sqlalchemy as sa

from opsmend.causes import ConfirmedCause, packed, unpacked
from opsmend.store import tables as t
from opsmend.store.engine import reading
from rootcause.types import CaseWindow

_KEPT = 1000


class CauseLog:
    """One per incident, the newest word; the newest 1,000 are kept. Thread-safe; every method is a transaction. All
    raise sqlalchemy errors when the store is away."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine

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
        return msgspec.json.decode(row.body, type=ConfirmedCause) if row else None

    def all(self) -> list[tuple[ConfirmedCause, CaseWindow]]:
        """Oldest first."""
        table = t.confirmed_causes
        with reading(self._engine) as c:
            return [(msgspec.json.decode(row.body, type=ConfirmedCause), unpacked(row.window))
                    for row in c.execute(sa.select(table).order_by(table.c.at_ns, table.c.incident_id))]
