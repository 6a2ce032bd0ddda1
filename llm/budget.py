"""Tokens and money per day, kept across restarts."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

import msgspec

from llm.types import LlmError


@dataclass(frozen=True)
class BudgetConfig:
    """What a day may cost. Days are UTC."""

    max_usd_per_day: float = 2.0
    """USD; 0 allows only models that cost nothing."""
    max_tokens_per_day: int = 500_000
    """Input and output together; 0 means no call at all."""
    usd_per_million_input: float = 0.0
    """Price of a million input tokens in USD; 0 for local models."""
    usd_per_million_output: float = 0.0
    """Price of a million output tokens in USD."""


class Spent(msgspec.Struct, frozen=True):
    """What one day has used so far."""

    tokens_in: int = 0
    tokens_out: int = 0
    usd: float = 0.0


class BudgetStore(Protocol):
    """Where a day's use is kept. `day` is an ISO date. Raises LlmError("budget") if it can't be reached:
    a budget that can't be read is spent."""

    def load(self, day: str) -> Spent: ...
    def save(self, day: str, spent: Spent) -> None: ...


class MemoryBudgetStore:
    """Forgets on restart: for tests and one-off commands."""

    def __init__(self) -> None:
        self._days: dict[str, Spent] = {}

    def load(self, day: str) -> Spent:
        return self._days.get(day, Spent())

    def save(self, day: str, spent: Spent) -> None:
        self._days = {day: spent}


class FileBudgetStore:
    """One small JSON file, replaced atomically. For one process."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def load(self, day: str) -> Spent:
        try:
            text = self._path.read_bytes()
        except FileNotFoundError:
            return Spent()
        except OSError as error:
            raise LlmError("budget", f"the budget can't be read: {error}") from error
        try:
            return msgspec.json.decode(text, type=dict[str, Spent]).get(day, Spent())
        except msgspec.DecodeError as error:
            raise LlmError("budget", "the budget file is damaged; delete it to start the day anew") from error

    def save(self, day: str, spent: Spent) -> None:
        new = self._path.with_suffix(".new")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with new.open("wb") as f:
                f.write(msgspec.json.encode({day: spent}))
                f.flush()
                os.fsync(f.fileno())
            new.replace(self._path)
        except OSError as error:
            raise LlmError("budget", f"the budget can't be written: {error}") from error


class Budget:
    """Reserve the worst case before a call, settle the real use after it.

    Calls that run at the same time can't overspend together, and a call that never comes back (crash,
    time-out) stays counted at its worst case. Thread-safe within one process.
    """

    def __init__(self, config: BudgetConfig, store: BudgetStore, now_ns: Callable[[], int]) -> None:
        self._config = config
        self._store = store
        self._now_ns = now_ns
        self._lock = threading.Lock()

    def _day(self) -> str:
        return datetime.fromtimestamp(self._now_ns() // 10**9, UTC).date().isoformat()

    def usd(self, tokens_in: int, tokens_out: int) -> float:
        """The price of a call."""
        c = self._config
        return (tokens_in * c.usd_per_million_input + tokens_out * c.usd_per_million_output) / 1e6

    def spent(self) -> Spent:
        """Today so far, reservations included."""
        with self._lock:
            return self._store.load(self._day())

    def reserve(self, tokens_in: int, tokens_out: int) -> Reservation:
        """Book the worst case. Raises LlmError("budget") if it would exceed the day."""
        with self._lock:
            day = self._day()
            spent = self._store.load(day)
            after = Spent(spent.tokens_in + tokens_in, spent.tokens_out + tokens_out,
                          spent.usd + self.usd(tokens_in, tokens_out))
            if after.tokens_in + after.tokens_out > self._config.max_tokens_per_day:
                raise LlmError("budget", "today's tokens are spent")
            if after.usd > self._config.max_usd_per_day:
                raise LlmError("budget", "today's money is spent")
            self._store.save(day, after)
        return Reservation(day, tokens_in, tokens_out)

    def settle(self, reserved: Reservation, tokens_in: int | None, tokens_out: int | None) -> float:
        """Replace a reservation by the real use; an unreported number stays at its worst case. USD of the call."""
        used_in = reserved.tokens_in if tokens_in is None else max(0, tokens_in)
        used_out = reserved.tokens_out if tokens_out is None else max(0, tokens_out)
        usd = self.usd(used_in, used_out)
        with self._lock:
            spent = self._store.load(reserved.day)
            self._store.save(reserved.day, Spent(
                max(0, spent.tokens_in + used_in - reserved.tokens_in),
                max(0, spent.tokens_out + used_out - reserved.tokens_out),
                max(0.0, spent.usd + usd - self.usd(reserved.tokens_in, reserved.tokens_out))))
        return usd


class Reservation(msgspec.Struct, frozen=True):
    """A booked worst case."""

    day: str
    tokens_in: int
    tokens_out: int
