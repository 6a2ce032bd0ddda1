"""What was parsed to recognise a value need not be parsed again to decode it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class LastParsed(threading.local, Generic[T]):
    """Keeps the result of `parse` for the last value of this thread until it is taken."""

    def __init__(self, parse: Callable[[bytes], T | None]) -> None:
        self._parse = parse
        self._value: bytes | None = None
        self._found: T | None = None

    def keep(self, value: bytes) -> T | None:
        """Parse, for `take` to come. None if `parse` says so."""
        if self._value is not value:
            found = self._parse(value)
            self._value, self._found = (value, found) if found is not None else (None, None)
        return self._found if self._value is value else None

    def take(self, value: bytes) -> T | None:
        """The result, from before or new; it is not held any longer."""
        found = self.keep(value)
        self._value = self._found = None
        return found
