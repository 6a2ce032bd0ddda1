"""A bounded set that remembers when each of its members was last seen."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Generic, TypeVar

MOST_LETTERS = 500
"""Of a name, or all names of a member: a longer one is no name of a service (Kubernetes' end at 253), and a table of 20,000
has a size."""
K = TypeVar("K", str, tuple[str, str], tuple[str, str, str])


def room(most: int) -> int:
    """How many are left of a full table: so that not every newcomer costs a sort."""
    return most - most // 10


def is_name(*names: str) -> bool:
    """Whether these may be names."""
    return sum(map(len, names)) <= MOST_LETTERS


def _may_enter(member: str | tuple[str, ...]) -> bool:
    return is_name(member) if isinstance(member, str) else is_name(*member)


class LastSeen(Generic[K]):
    """Member -> event time in nanoseconds; what `is_name` denies never gets in. `is_changed` says whether members
    came or went since `settle`."""

    def __init__(self, most: int) -> None:
        self._most = most
        self.at: dict[K, int] = {}
        self.is_changed = False

    @property
    def is_full(self) -> bool:
        return len(self.at) > self._most

    def see(self, members: Iterable[K], now_ns: int) -> None:
        for member in sorted(members):
            if member not in self.at:
                if not _may_enter(member):
                    continue
                self.is_changed = True
            self.at[member] = now_ns

    def see_by(self, members: Iterable[K], seen_ns: int) -> None:
        """The same, as somebody else tells it: what is known to be newer stays so."""
        for member in members:
            if member not in self.at:
                if not _may_enter(member):
                    continue
                self.is_changed = True
            self.at[member] = max(seen_ns, self.at.get(member, 0))

    def forget(self, before_ns: int) -> None:
        """Drop what was last seen before `before_ns`, and of too many those that were seen longest ago."""
        old = [member for member, seen in self.at.items() if seen < before_ns]
        left = len(self.at) - len(old)
        if left > self._most:
            order = sorted((seen, m) for m, seen in self.at.items() if seen >= before_ns)
            old += [m for _, m in order[: left - room(self._most)]]
        for member in old:
            del self.at[member]
        self.is_changed = self.is_changed or bool(old)

    def settle(self) -> bool:
        """Whether members came or went since this was asked last."""
        changed, self.is_changed = self.is_changed, False
        return changed

    def __contains__(self, member: object) -> bool:
        return member in self.at

    def __len__(self) -> int:
        return len(self.at)
