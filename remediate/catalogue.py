"""The closed catalogue: what can be done at all. A new action is a file and a line here."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ingest.errors import OpsmendError
from remediate.actions.actuator import ProcessKill, ProcessRestart, ProcessScale, ReleaseRollback
from remediate.actions.base import Action
from remediate.actions.cache import PurgePrefix
from remediate.actions.notify import Notify
from remediate.actions.postgres import TerminateBlocker

BUILT_IN: tuple[type[Action], ...] = (
    ProcessRestart, ProcessKill, ProcessScale, ReleaseRollback, TerminateBlocker, PurgePrefix, Notify)


class Catalogue:
    """Actions by name."""

    def __init__(self, own: Iterable[Action] = ()) -> None:
        self._actions: dict[str, Action] = {}
        for action in (*(make() for make in BUILT_IN), *own):
            if action.name in self._actions:
                raise OpsmendError(f"two actions are named '{action.name}'", reason="configuration")
            self._actions[action.name] = action

    def get(self, name: str) -> Action | None:
        return self._actions.get(name)

    def __iter__(self) -> Iterator[Action]:
        return iter(self._actions.values())

    def __contains__(self, name: object) -> bool:
        return name in self._actions
