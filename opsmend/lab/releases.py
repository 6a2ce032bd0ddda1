"""Releases as files, and which one of them each service runs."""

from __future__ import annotations

from pathlib import Path

import msgspec

from opsmend.lab.backends import LabError
from opsmend.lab.processes import write_atomic
from opsmend.lab.settings import Release, ReleaseSettings


class Releases:
    """Per service: release files in a directory, and the history of what ran, newest last.

    A version is `DATE-N` or, after a change of configuration alone, `DATE-N+cM`. Names count up and say
    nothing about the content.
    """

    def __init__(self, root: Path, day: str) -> None:
        self._root = root
        self._day = day
        self._history: dict[str, list[str]] = {}
        self._counts: dict[str, list[int]] = {}

    def add(self, service: str, kind: str, settings: ReleaseSettings) -> Release:
        """A new release file; `kind` is rollout or config. It does not run yet."""
        counts = self._counts.setdefault(service, [0, 1])
        counts[0 if kind == "rollout" else 1] += 1
        version = f"{self._day}-{counts[0]}" + (f"+c{counts[1]}" if counts[1] > 1 else "")
        release = Release(version, kind, f"c{counts[1]}", settings)
        path = self._path(service, version)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, msgspec.json.format(msgspec.json.encode(release)))
        return release

    def _path(self, service: str, version: str) -> Path:
        return self._root / service / f"{version}.json"

    def read(self, service: str, version: str) -> Release:
        """Raises LabError if there is no such version."""
        path = self._path(service, version)
        if "/" in version or not path.is_file():
            raise LabError(f"{service} has no release {version:.60}", reason="unknown_version")
        return msgspec.json.decode(path.read_bytes(), type=Release)

    def current(self, service: str) -> Release:
        return self.read(service, self._history[service][-1])

    def previous(self, service: str) -> str:
        """The version that a roll-back without target goes to; "" if there is none."""
        history = self._history[service]
        return history[-2] if len(history) > 1 else ""

    def put(self, service: str, version: str) -> None:
        """`version` runs now (a roll-out)."""
        self._history.setdefault(service, []).append(version)

    def back(self, service: str, version: str) -> None:
        """`version` runs again (a roll-back): what came after it is no longer "previous"."""
        history = self._history[service]
        if version in history:
            del history[history.index(version) + 1:]
        else:
            history.append(version)

    def history(self, service: str) -> list[str]:
        """Versions that ran, newest last."""
        return list(self._history[service])

    def restore(self, service: str, history: list[str]) -> None:
        """Undo a `put` or `back` that failed."""
        self._history[service] = history
