"""Many shapes of one build, none of which has become part of a template: the places in which they all differ are values.

One place at a time (group.py) finds nothing where two words always change together, such as a name and its alias.
Where enough shapes share all separators and values, the places with hardly a word twice are told from those with few
words, and shapes that agree in the latter are one template.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from detect.templates.scan import MASKABLE
from detect.templates.words import WILD, can_vary

if TYPE_CHECKING:
    from detect.templates.group import Shape

_FIRST: Final = 32
"""Shapes of one build at which it is looked at for the first time; again whenever twice as many are left."""
_ENOUGH: Final = 16
"""Shapes that make a template here."""
_SHARE: Final = 4
"""A place is free where at least a quarter of the shapes have a word of their own there."""


@dataclass(slots=True)
class Crowd:
    """The shapes of one build."""

    members: list[Shape] = field(default_factory=list)
    look_at: int = _FIRST

    def add(self, shape: Shape) -> list[tuple[list[Shape], tuple[int, ...]]]:
        """(shapes that are one template, the places that are values), of what has become clear."""
        self.members.append(shape)
        if len(self.members) < self.look_at:
            return []
        self.members = [m for m in self.members if m.into is None]
        found = self._split() if len(self.members) >= _FIRST else []
        taken = {id(m) for members, _ in found for m in members}
        self.members = [m for m in self.members if id(m) not in taken]
        self.look_at = max(_FIRST, 2 * len(self.members))
        return found

    def _split(self) -> list[tuple[list[Shape], tuple[int, ...]]]:
        columns = list(zip(*(m.tokens for m in self.members), strict=True))
        worded = [i for i, column in enumerate(columns) if can_vary(column[0]) and column[0].strip() != WILD]
        free = tuple(i for i in worded if i < MASKABLE and _SHARE * len(set(columns[i])) >= len(self.members))
        if not free or len(worded) - len(free) < max(2, len(worded) // 3):
            return []
        alike: dict[tuple[str, ...], list[Shape]] = defaultdict(list)
        for member in self.members:
            alike[tuple(t for i, t in enumerate(member.tokens) if i not in free)].append(member)
        found = []
        for members in alike.values():
            if len(members) >= _ENOUGH:
                places = tuple(i for i in free if _SHARE * len({m.tokens[i] for m in members}) >= len(members))
                if places and len({_rest(m, places) for m in members}) == 1:
                    found.append((members, places))
        return found


def build_of(tokens: tuple[str, ...]) -> tuple[str, ...]:
    """The tokens with all words alike: equal for shapes that may have changed words alone."""
    return tuple(t if not can_vary(t) or t.strip() == WILD else (" " if t[0] == " " else "") for t in tokens)


def _rest(shape: Shape, places: tuple[int, ...]) -> tuple[str, ...]:
    return tuple(t for i, t in enumerate(shape.tokens) if i not in places)
