"""The model versions of one service: all that were made, which one is in use, and the way back.

    <directory>/<version>/forecaster.safetensors, forecaster.json      one folder a version, written before it counts
    <directory>/champion.json                                          which one counts; replaced in one rename

A process that is killed at any moment leaves the old champion or the new one, never half of either. The shipped
weights are the version that is always there: they are in use as long as no other was promoted, and where those that
were can't be read. What was rolled back is remembered, by its name and by its numbers: only a person puts it to use again.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from detect.forecaster.weights import BadWeights, Weights
from ingest.errors import OpsmendError

_KEPT_EVENTS = 100
_KEPT_REFUSED = 100
KEPT_VERSIONS = 8


class NoVersion(OpsmendError):
    """There is no such version, or none to go back to."""

    def __init__(self, message: str) -> None:
        super().__init__(message, reason="model")


class RolledBack(OpsmendError):
    """The version was rolled back, or has the numbers of one that was, and no person asks for it."""

    def __init__(self, message: str) -> None:
        super().__init__(message, reason="rolled_back")


@dataclass
class _Champion:
    version: str = ""
    """Empty: the shipped weights."""
    before: list[str] = field(default_factory=list)
    """What to go back to, the last one first."""
    events: list[dict[str, Any]] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)
    """What was rolled back, the last one last: version -> digest of its weights."""


class ModelVersions:
    """Reads and writes one directory; safe for several processes at once. `version` "" is the shipped one."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._file = directory / "champion.json"

    def champion(self) -> Weights:
        """The weights in use. Versions that can't be read are passed over, back to the shipped ones."""
        state = self._read()
        for version in (state.version, *state.before):
            with contextlib.suppress(OSError, BadWeights):
                return self.load(version)
        return Weights.load()

    def load(self, version: str) -> Weights:
        """One version; raises OSError or BadWeights."""
        if "/" in version or version.startswith("."):
            raise NoVersion(f"'{version}' is no version")
        return Weights.load(self.directory / version) if version else Weights.load()

    def previous(self) -> str | None:
        """What `rollback` would go back to; None: nothing was promoted."""
        state = self._read()
        return state.before[0] if state.before else None

    def current(self) -> str:
        """The version that was promoted last; "" for the shipped one."""
        return self._read().version

    def events(self) -> list[dict[str, Any]]:
        """Promotions and roll-backs, the newest last: at_ns, what, version, before, reason, by_hand."""
        return self._read().events

    def rolled_back_by_hand(self) -> str:
        """The version that a person went back from, where nothing was promoted since; else ""."""
        for event in reversed(self._read().events):
            if event["what"] == "promoted":
                return ""
            if event.get("by_hand"):
                return str(event["before"])
        return ""

    def stamp(self) -> tuple[int, int]:
        """Changes when the champion does; costs one look at a file."""
        try:
            at = self._file.stat()
        except OSError:
            return 0, 0
        return at.st_mtime_ns, at.st_ino

    def cards(self) -> list[dict[str, Any]]:
        """Of all versions that can be read, by the time they were made."""
        found = []
        for card in sorted(self.directory.glob("[!.]*/forecaster.json")):
            with contextlib.suppress(OSError, ValueError):
                found.append(json.loads(card.read_text()))
        return sorted(found, key=lambda card: (card.get("made_ns", 0), str(card.get("version"))))

    def add(self, weights: Weights) -> None:
        """Write a version; it is not in use yet. One that is there already stays as it is."""
        target = self.directory / weights.version
        if target.exists():
            return
        self.directory.mkdir(parents=True, exist_ok=True)
        half = self.directory / f".{weights.version}.{os.getpid()}"
        weights.save(half)
        for path in half.iterdir():
            _sync(path)
        with contextlib.suppress(FileExistsError):
            half.rename(target)
        _sync(self.directory)

    def unused(self, version: str) -> str:
        """`version`, or with -2, -3, ... behind it where that name is taken: tuned twice on the same minute's data."""
        name, k = version, 1
        while (self.directory / name).exists():
            k += 1
            name = f"{version}-{k}"
        return name

    def promote(self, version: str, *, reason: str, now_ns: int, by_hand: bool = False) -> None:
        """Put `version` to use. Raises OSError or BadWeights if it can't be loaded, RolledBack if that was rolled back and
        no person asks for it: then nothing changes."""
        digest = self.load(version).digest()
        with self._changing() as state:
            if not by_hand and (version in state.refused or digest in state.refused.values()):
                raise RolledBack(f"{version} was rolled back, or is the same as one that was")
            state.refused = {v: d for v, d in state.refused.items() if version != v and digest != d}
            if state.version != version:
                self._event(state, "promoted", version, reason, now_ns, by_hand)
                state.before = [state.version, *(v for v in state.before if v not in (version, state.version))]
                state.before, state.version = state.before[:KEPT_VERSIONS], version
        self._prune()

    def rollback(self, *, reason: str, now_ns: int, by_hand: bool = False) -> str:
        """Back to the version before; returns it ("" for the shipped one). Raises NoVersion if there is none."""
        with self._changing() as state:
            while state.before:
                version = state.before.pop(0)
                try:
                    self.load(version)
                except (OSError, BadWeights):
                    continue
                self._refuse(state)
                self._event(state, "rolled_back", version, reason, now_ns, by_hand)
                state.version = version
                return version
            raise NoVersion("no version to go back to: the shipped one is in use")

    def _refuse(self, state: _Champion) -> None:
        digest = ""  # of one that can't be read
        with contextlib.suppress(OSError, BadWeights):
            digest = self.load(state.version).digest()
        state.refused.pop(state.version, None)
        state.refused[state.version] = digest
        state.refused = dict([*state.refused.items()][-_KEPT_REFUSED:])

    @staticmethod
    def _event(state: _Champion, what: str, version: str, reason: str, now_ns: int, by_hand: bool) -> None:
        state.events = [*state.events, {"at_ns": now_ns, "what": what, "version": version, "before": state.version,
                                        "reason": reason, "by_hand": by_hand}][-_KEPT_EVENTS:]

    def _read(self) -> _Champion:
        try:
            return _Champion(**json.loads(self._file.read_text()))
        except (OSError, ValueError, TypeError):
            return _Champion()

    @contextlib.contextmanager
    def _changing(self) -> Iterator[_Champion]:
        """Read, change, replace; one process at a time. Nothing is written if the caller raises."""
        self.directory.mkdir(parents=True, exist_ok=True)
        with (self.directory / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            state = self._read()
            yield state
            half = self.directory / ".champion.json"
            half.write_text(json.dumps(asdict(state), indent=2) + "\n")
            _sync(half)
            half.replace(self._file)
            _sync(self.directory)

    def _prune(self) -> None:
        """Versions that are neither in use nor a way back go, but for the newest few."""
        state = self._read()
        needed = {state.version, *state.before}
        old = [str(card["version"]) for card in self.cards() if str(card["version"]) not in needed]
        for version in old[:-KEPT_VERSIONS]:
            shutil.rmtree(self.directory / version, ignore_errors=True)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
