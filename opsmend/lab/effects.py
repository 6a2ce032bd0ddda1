"""What the actuator did, by idempotency key; on disk, so that no restart repeats an effect."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec


class Effect(msgspec.Struct, frozen=True):
    """One answered request."""

    key: str
    ts_ns: int
    service: str
    verb: str
    actor: str
    effect: str
    changed: bool


class Effects:
    """An append-only file of effects. A half-written last line is ignored and overwritten by nothing."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._by_key: dict[tuple[str, str, str], Effect] = {}
        for effect in read_effects(path):
            self._by_key[effect.service, effect.verb, effect.key] = effect

    def find(self, service: str, verb: str, key: str) -> Effect | None:
        return self._by_key.get((service, verb, key))

    def add(self, effect: Effect) -> None:
        """Durable on return."""
        with self._path.open("ab") as file:
            file.write(b"\n" if self._needs_newline() else b"")
            file.write(msgspec.json.encode(effect) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        self._by_key[effect.service, effect.verb, effect.key] = effect

    def _needs_newline(self) -> bool:
        if not self._path.exists() or not (size := self._path.stat().st_size):
            return False
        with self._path.open("rb") as file:
            file.seek(size - 1)
            return file.read(1) != b"\n"

    def recent_keys(self, service: str, limit: int = 100) -> list[str]:
        """Keys that were answered for this service, oldest first."""
        return [e.key for e in self._by_key.values() if e.service == service][-limit:]


def read_effects(path: Path) -> list[Effect]:
    """All whole lines of an effects file; none if it is not there."""
    effects = []
    for line in path.read_bytes().splitlines() if path.exists() else []:
        try:
            effects.append(msgspec.json.decode(line, type=Effect))
        except msgspec.DecodeError:
            continue  # torn by a crash while writing: its request was never answered
    return effects
