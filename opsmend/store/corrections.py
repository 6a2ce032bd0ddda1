"""The log of what people corrected."""

from __future__ import annotations

from functools import partial

import msgspec
import sqlalchemy as sa

from opsmend.corrections import Correction
from opsmend.store import tables as t
from opsmend.store.bodies import Bodies
from opsmend.store.engine import reading

_RACES = 8
_KEPT = 10_000


class CorrectionLog:
    """Append-only, numbered from 1 in the order of commits. Thread-safe; every method is a transaction. One that can't be
    read is left out (see `Bodies`): it stays in its table, and those after it count."""

    def __init__(self, engine: sa.Engine, bodies: Bodies | None = None) -> None:
        self._engine = engine
        self._bodies = bodies or Bodies()

    def append(self, correction: Correction) -> int:
        """Its number. The newest 10,000 are kept. Raises sqlalchemy errors when the store is away."""
        table = t.corrections
        for attempt in range(_RACES):
            try:
                with self._engine.begin() as c:
                    seq = int(c.execute(sa.select(sa.func.max(table.c.seq))).scalar_one() or 0) + 1
                    c.execute(table.insert().values(seq=seq, id=correction.id, at_ns=correction.at_ns,
                                                    body=msgspec.json.encode(correction)))
                    c.execute(table.delete().where(table.c.seq <= seq - _KEPT))
                return seq
            except sa.exc.IntegrityError:  # another process took the number
                if attempt == _RACES - 1:
                    raise
        raise AssertionError("unreachable")

    def after(self, seq: int) -> list[tuple[int, Correction]]:
        """Those with a higher number, in order."""
        query = sa.select(t.corrections).where(t.corrections.c.seq > seq).order_by(t.corrections.c.seq)
        with reading(self._engine) as c:
            found = [(row.seq, self._bodies.one("corrections", str(row.seq), row.body,
                                                partial(msgspec.json.decode, type=Correction))) for row in c.execute(query)]
        return [(seq, correction) for seq, correction in found if correction is not None]
