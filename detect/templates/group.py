"""The templates of one group (service): shapes that differ in little become one template.

Everything here happens once per shape, never per line. A shape is a line's tokens with its values as `<*>`. It is
entered under every key that leaves one of its words out; where enough different words meet under such a key, the
place becomes a value and the shapes one template (`words.needed` says how many). Two more ways to meet: the same but
for units and lengths of lists; the same but for all words that look like identifiers. Deterministic: depends on the
order in which shapes first occur in this group, and on nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from detect.templates.crowd import Crowd, build_of
from detect.templates.lexer import wild_share
from detect.templates.scan import MASKABLE
from detect.templates.words import FEW, SOME, WILD, can_vary, is_made, needed, unit_of

_MODULUS = (1 << 64) - 1
_FEW_PEERS = 300
"""Where more shapes have the same number of tokens, those of before a merge are left as they are: it would take long."""


@dataclass(eq=False, slots=True)
class Shape:
    """One shape, or what shapes have merged into."""

    tokens: tuple[str, ...]
    """A leading blank where white space was."""
    shares: tuple[int, ...]
    """What each token adds to the key; () for templates that no line is looked up by."""
    key: int
    number: int
    mask: int = 0
    into: Shape | None = None
    id: str = ""

    @property
    def text(self) -> str:
        return "".join(self.tokens).strip()


@dataclass(slots=True)
class _Family:
    """Shapes that are equal but for some places."""

    members: list[Shape] = field(default_factory=list)
    pattern: Shape | None = None


@dataclass(slots=True)
class Change:
    """What the miner has to enter: keys that lead to a shape, and what has become part of it."""

    shape: Shape
    keys: dict[int, int]
    """With the places (a bit each) that were words in some line."""
    merged: list[Shape]
    tokens: int
    """How many tokens a line of these keys has."""


class Group:
    """`add(shape)`, which yields what changes, in order."""

    def __init__(self) -> None:
        self.raw: list[Shape] = []
        self._families: dict[tuple[int, bool], _Family] = {}
        self._patterns: dict[int, Shape] = {}
        self._by_tokens: dict[tuple[str, ...], Shape] = {}
        self._ports: dict[tuple[str, ...], list[Shape]] = {}
        self._crowds: dict[tuple[str, ...], Crowd] = {}
        self._variants: dict[tuple[str, ...], _Family] = {}
        self._by_length: dict[int, list[Shape]] = {}

    def add(self, shape: Shape) -> Iterator[Change]:
        """Enter a shape that is new. The last change's shape is the new one's template."""
        self.raw.append(shape)
        peers = self._by_length.setdefault(len(shape.tokens), [])
        if len(peers) <= _FEW_PEERS:
            peers.append(shape)
        yield Change(shape, {shape.key: 0}, [], len(shape.tokens))
        yield from self._enter(shape)

    def _enter(self, shape: Shape) -> Iterator[Change]:
        yield from self._by_place(shape)
        if shape.into is None:
            yield from self._by_identifiers(shape)
        if shape.into is None:
            yield from self._by_variant(shape)
        yield from self._by_port(shape)
        if shape.into is None and shape.shares:
            for members, places in self._crowds.setdefault(build_of(shape.tokens), Crowd()).add(shape):
                yield from self._merge(members, places, _without(members[0], places))

    def _by_place(self, shape: Shape) -> Iterator[Change]:
        if not shape.shares:
            return
        for position in range(min(MASKABLE, len(shape.tokens))):
            if not _may_vary(shape.tokens, position):
                continue  # separators and keys
            key = _without(shape, (position,))
            pattern = self._patterns.get(key)
            if pattern is not None:
                if pattern is not shape:
                    yield self._widen(pattern, shape, (position,))
                    return
                continue
            family = self._families.setdefault((key, True), _Family())
            if not any(m is shape for m in family.members):
                family.members.append(shape)
            members = [m for m in family.members if m.into is None]
            if len(members) < FEW:
                continue
            words = [m.tokens[position].strip() for m in members]
            before = _before(shape.tokens, position)
            if all(w == WILD for w in words) or len(members) < needed(words, position, before):
                continue
            yield from self._merge(members, (position,), key)
            return

    def _by_identifiers(self, shape: Shape) -> Iterator[Change]:
        if not shape.shares:
            return
        places = tuple(i for i, t in enumerate(shape.tokens[:MASKABLE])
                       if t.strip() != WILD and is_made(t) and not _is_key(shape.tokens, i))
        if len(places) < 2 or len(places) >= sum(can_vary(t) for t in shape.tokens):
            return
        key = _without(shape, places)
        pattern = self._patterns.get(key)
        if pattern is not None:
            if pattern is not shape:
                yield self._widen(pattern, shape, places)
            return
        family = self._families.setdefault((key, False), _Family())
        if not any(m is shape for m in family.members):
            family.members.append(shape)
        members = [m for m in family.members if m.into is None]
        if len(members) >= 2 * SOME:
            yield from self._merge(members, places, key)

    def _by_port(self, shape: Shape) -> Iterator[Change]:
        """A plain name with a port is an address where an address was seen in the same place."""
        self._by_tokens.setdefault(shape.tokens, shape)
        waiting = [m for m in self._ports.pop(shape.tokens, []) if root(m) is not root(shape)]
        if waiting:
            yield self._join(shape, [root(m) for m in waiting])
        address = _address(shape.tokens)
        if address is None:
            return
        like = self._by_tokens.get(address)
        if like is None:
            self._ports.setdefault(address, []).append(shape)
        elif root(like) is not root(shape):
            yield self._join(like, [root(shape)])

    def _merge(self, members: list[Shape], places: tuple[int, ...], key: int) -> Iterator[Change]:
        like = members[0]
        tokens, shares = list(like.tokens), list(like.shares)
        mask = 0
        for member in members:
            mask |= member.mask
        for i in places:
            spaced = tokens[i].startswith(" ")
            tokens[i] = f" {WILD}" if spaced else WILD
            shares[i] = int(wild_share(i, spaced))
            mask |= 1 << i
        pattern = Shape(tuple(tokens), tuple(shares), key, -1, mask)
        same = next((m for m in members if m.key == key), None)
        if same is not None:  # a line had a value there from the start
            same.mask |= mask
            pattern = same
            members = [m for m in members if m is not same]
        self._patterns[key] = pattern
        yield self._join(pattern, [*members, *self._fitting(pattern)], {key: mask | pattern.mask})
        yield from self._enter(pattern)

    def _fitting(self, pattern: Shape) -> list[Shape]:
        """Shapes of before whose lines would be the pattern's if they came now."""
        peers = self._by_length.get(len(pattern.tokens), [])
        if len(peers) > _FEW_PEERS:
            return []
        places = tuple(i for i in range(min(MASKABLE, len(pattern.tokens))) if pattern.mask >> i & 1)
        return [p for p in peers if p.into is None and p is not pattern and _without(p, places) == pattern.key
                and all(_may_vary(p.tokens, i) for i in places)]

    def _by_variant(self, shape: Shape) -> Iterator[Change]:
        key, slots = _variant(shape.tokens)
        if not slots:
            return
        family = self._variants.setdefault(key, _Family())
        if any(m is shape for m in family.members) or shape is family.pattern:
            return
        family.members.append(shape)
        members = [m for m in family.members if m.into is None]
        if family.pattern is not None:
            members = [m for m in members if m is not family.pattern]
            members.append(family.pattern)
        if len(members) < FEW:
            return
        tokens = _common(key, [_variant(m.tokens)[1] for m in members])
        pattern = next((m for m in members if m.tokens == tokens), None)
        if pattern is None:
            pattern = Shape(tokens, (), 0, -1)
        family.pattern = pattern
        yield self._join(pattern, [m for m in members if m is not pattern])

    def _widen(self, pattern: Shape, shape: Shape, places: tuple[int, ...]) -> Change:
        """A shape joins a pattern whose values were values from the start in these places."""
        for place in places:
            pattern.mask |= 1 << place
        return self._join(pattern, [shape], {pattern.key: pattern.mask})

    def _join(self, pattern: Shape, members: list[Shape], keys: dict[int, int] | None = None) -> Change:
        target = root(pattern)
        members = [m for m in members if m is not target and m.into is None]
        for member in members:
            member.into = target
        return Change(target, keys or {}, members, len(pattern.tokens))


def root(shape: Shape) -> Shape:
    """What a shape has become."""
    while shape.into is not None:
        shape = shape.into
    return shape


def _may_vary(tokens: tuple[str, ...], position: int) -> bool:
    """No separator and no key."""
    return (can_vary(tokens[position]) or tokens[position].strip() == WILD) and not _is_key(tokens, position)


def _is_key(tokens: tuple[str, ...], position: int) -> bool:
    """Is its value behind it?"""
    return position + 1 < len(tokens) and tokens[position + 1].strip() == "="


def _before(tokens: tuple[str, ...], position: int) -> str:
    """The token before a word and its quotation mark."""
    if position > 1 and tokens[position - 1].strip() in ('"', "'"):
        position -= 1
    return tokens[position - 1].strip() if position else ""


def _without(shape: Shape, places: tuple[int, ...]) -> int:
    key = shape.key
    for i in places:
        key += int(wild_share(i, shape.tokens[i].startswith(" "))) - shape.shares[i]
    return key & _MODULUS


def _variant(tokens: tuple[str, ...]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """(tokens without units, bracketed sizes and the tails of lists; what was left out after each value)."""
    kept: list[str] = []
    slots: list[tuple[str, ...]] = []
    i = 0
    while i < len(tokens):
        if tokens[i].strip() == "(" and i + 1 < len(tokens) and tokens[i + 1] == ")":
            kept += [tokens[i], WILD, ")"]
            slots.append(("",))
            i += 2
            continue
        kept.append(tokens[i])
        is_value = tokens[i].strip() == WILD
        i += 1
        if not is_value:
            continue
        first = i
        while i < len(tokens) and tokens[i] == f" {WILD}":
            i += 1
        if i < len(tokens) and tokens[i].startswith(" ") and unit_of(tokens[i].strip()):
            i += 1
            if (i + 3 < len(tokens) and tokens[i] == " (" and tokens[i + 1] == WILD and unit_of(tokens[i + 2].strip())
                    and tokens[i + 3] == ")"):
                i += 4
        slots.append(tokens[first:i])
    return tuple(kept), slots


def _address(tokens: tuple[str, ...]) -> tuple[str, ...] | None:
    """With the first "name:<*>" between blanks as one value; None without any."""
    for i in range(len(tokens) - 2):
        if (tokens[i + 1] == ":" and tokens[i + 2] == WILD and can_vary(tokens[i]) and (i == 0 or tokens[i][0] == " ")
                and (i + 3 == len(tokens) or tokens[i + 3][0] == " ")):
            return (*tokens[:i], f" {WILD}" if tokens[i][0] == " " else WILD, *tokens[i + 3:])
    return None


def _unit(left_out: tuple[str, ...]) -> str:
    return next(filter(None, (unit_of(token.strip()) for token in left_out)), "")


def _common(key: tuple[str, ...], slots: list[list[tuple[str, ...]]]) -> tuple[str, ...]:
    """The tokens with what all have in common after each value. A size that is told in several units is told so
    everywhere in its line."""
    out: list[str] = []
    at = 0
    vary = {_unit(one) for each in zip(*slots, strict=True) if len(set(each)) > 1 for one in each} - {""}
    for token in key:
        out.append(token)
        if token.strip() == WILD:
            left_out = {s[at] for s in slots}
            if len(left_out) == 1 and not vary & {_unit(one) for one in left_out}:
                same = next(iter(left_out))
                if same == ("",):
                    out.pop()
                else:
                    out.extend(same)
            at += 1
    return tuple(out)
