"""Which of the members that share a store we are.

Several `opsmend run` may share a PostgreSQL store and a consumer group. Each takes the lowest seat that is free, and
has it as long as it lives: its stage states and observations stand under its number. The first seat (0) is the one that
repairs and sends events; a store that can have one member only (SQLite) has no other.
"""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.pool import NullPool

from opsmend.store.engine import StoreError

_LOCK_SPACE = 0x6F70736D  # "opsm": of all advisory locks of the database, these are ours
_SEATS = 64


class Seat:
    """Taken when made, free again when closed or when the process dies. Raises StoreError if all are taken."""

    def __init__(self, engine: sa.Engine) -> None:
        self.number = 0
        self._connection: sa.Connection | None = None
        if engine.dialect.name != "postgresql":
            return
        # A connection of its own: the lock lives as long as it, and pools lend connections to others.
        own = sa.create_engine(engine.url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
        self._connection = own.connect()
        for number in range(_SEATS):
            if self._connection.execute(sa.select(sa.func.pg_try_advisory_lock(_LOCK_SPACE, number))).scalar_one():
                self.number = number
                return
        self.close()
        raise StoreError(f"[store] url: {_SEATS} members share this store already")

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
