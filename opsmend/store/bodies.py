"""Rows whose body can't be read: a broken disk, another version. One of them must not hide all others."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import msgspec
import sqlalchemy as sa
import structlog

from remediate.ports import Unclear

log = structlog.get_logger()
UNREADABLE: tuple[type[Exception], ...] = (msgspec.MsgspecError, ValueError, zlib.error)
"""What decoding raises for a body that is no longer what was written; UnicodeDecodeError is a ValueError."""
_NOT_A_STATE: tuple[type[Exception], ...] = (msgspec.MsgspecError, ValueError, LookupError, TypeError, AttributeError,
                                              ArithmeticError)
"""What code that takes a state apart raises where that is not what was written."""
_TOLD = 10_000
_T = TypeVar("_T")


class Unreadable(Unclear):
    """The one row that was asked for by its id can't be read."""


class UnreadableState(Unreadable):
    """What was stored of these stages can't be read, or is no use without what can't."""

    def __init__(self, stages: tuple[str, ...], error: Exception) -> None:
        super().__init__(f"the stored state of {' and '.join(stages)} can't be read: {error!r:.300}")
        self.stages = stages


@contextmanager
def reading_state(*stages: str) -> Iterator[None]:
    """Around whatever reads the stored state of `stages`: raises UnreadableState where it can't be read."""
    try:
        yield
    except _NOT_A_STATE as error:
        raise UnreadableState(stages, error) from error


class Bodies:
    """Reads lists of bodies, without those that can't be read. Each of these is logged and told to `on_unreadable` (with
    the name of its table) once, however often it is met; of the last 10,000. Thread-safe."""

    def __init__(self, on_unreadable: Callable[[str], None] = lambda table: None) -> None:
        self._on_unreadable = on_unreadable
        self._told: dict[tuple[str, str], None] = {}

    def read(self, c: sa.Connection, query: sa.Select[Any], decode: Callable[[bytes], _T],
             limit: int | None = None) -> list[_T]:
        """`query`: an id and a body, in an order without ties. Fewer than `limit` only where there are no more."""
        table, found, offset = query.get_final_froms()[0].description, list[_T](), 0
        while limit is None or len(found) < limit:
            wanted = None if limit is None else limit - len(found)
            rows = c.execute(query.limit(wanted).offset(offset)).all()
            for row_id, body in rows:
                if (one := self.one(table, str(row_id), body, decode)) is not None:
                    found.append(one)
            offset += len(rows)
            if wanted is None or len(rows) < wanted:
                break
        return found

    def one(self, table: str, row_id: str, body: bytes, decode: Callable[[bytes], _T]) -> _T | None:
        """None where it can't be read."""
        try:
            return decode(body)
        except UNREADABLE as error:
            if (table, row_id) not in self._told:
                if len(self._told) >= _TOLD:
                    self._told.clear()
                self._told[table, row_id] = None
                self.tell(table, row_id, error)
            return None

    def tell(self, table: str, row_id: str, error: Exception) -> None:
        """Log it and count it, whether or not it was told of before."""
        log.error("store.unreadable_row", table=table, id=row_id, error=str(error))
        self._on_unreadable(table)
