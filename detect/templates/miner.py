"""The template miner: lines in, template numbers out; ids derived from the template's text.

A known line costs a lexer's pass and a lookup in compiled code (scan.py); a new shape goes through Python once
(group.py). Templates are mined per group (service), so that other groups change nothing. The result depends on
the order of lines within a group alone, never on how they were cut into batches.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from detect.templates.group import Change, Group, Shape, root
from detect.templates.lexer import MAX_BYTES, MAX_TOKENS
from detect.templates.scan import scan
from detect.templates.table import Table
from detect.templates.words import WILD
from ingest.types import Bytes, Int32, Int64, Texts

VERSION = "1"
"""Part of every id: another lexer, other ids."""
_ADMITTED: Final = 16
"""Of the new shapes of a group that was full once, one in so many is mined. The others are `<*>`: a service that
logs what people write must not slow the others down."""


@dataclass(frozen=True)
class MinerConfig:
    """Bounds. What is beyond is evicted (and counted), the oldest shapes that stand alone first."""

    max_templates: int = 20_000
    """Distinct shapes of lines over all groups."""
    max_group_templates: int = 5_000
    """The same in one group."""


_AT_ONCE: Final = 4096
"""Lines that become bytes together: few enough to stay in the processor's cache."""


class _Stored(msgspec.Struct, array_like=True):
    tokens: tuple[str, ...]
    shares: bytes


class _StoredGroup(msgspec.Struct, array_like=True):
    misses: int
    is_full: bool
    shapes: list[_Stored]


class _Group:
    """A group's miner, and its snapshot as it grows."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.seed = int.from_bytes(hashlib.blake2b(name.encode(errors="replace"), digest_size=8).digest(), "little")
        self.misses = 0  # since the group was full for the first time
        self.is_full = False
        self.clear()

    def clear(self) -> None:
        self.group = Group()
        self.rest: Shape | None = None
        self.shapes: list[Shape] = []
        self.keys: dict[int, dict[int, int]] = {}  # number -> keys that lead to it, with their masks
        self.stored = bytearray()

    def dump(self) -> list[object]:
        """A `_StoredGroup`, its shapes as one msgpack array."""
        shapes = msgspec.Raw(b"\xdd" + len(self.group.raw).to_bytes(4, "big") + bytes(self.stored))
        return [self.misses, self.is_full, shapes]


class TemplateMiner:
    """`numbers(lines, groups, names)`. Cost: some 200 ns for a line of 100 bytes whose shape is known, 100 us else.

    Numbers are indexes into the miner's table; they hold until the next call. Ids hold for ever, and `resolve` leads
    from the id of a template to that of the one which it has become part of.
    """

    def __init__(self, config: MinerConfig | None = None) -> None:
        self._c = config or MinerConfig()
        self._groups: dict[str, _Group] = {}
        self._table = Table()
        self._shapes: list[Shape | None] = []
        self._free: list[int] = []
        self._gone: list[int] = []  # numbers to be freed when the next call begins
        self._by_id: dict[str, Shape] = {}
        self._raw = 0
        self._merged: deque[tuple[str, Shape]] = deque(maxlen=self._c.max_templates)
        self._tokens = np.zeros((MAX_TOKENS + 1, 3), np.int32)
        self._shares = np.zeros(MAX_TOKENS + 1, np.uint64)
        self._found = np.zeros(2, np.uint64)
        self._dumped: bytes | None = None
        self.evicted = 0

    def __len__(self) -> int:
        return sum(s.into is None and s is not group.rest for group in self._groups.values() for s in group.shapes)

    def numbers(self, lines: Sequence[str], groups: Int32, group_names: Sequence[str]) -> Int32:
        """[n] each line's template as it stands when the line is reached. A group of -1 is the group ""."""
        if isinstance(lines, Texts):
            return self.numbers_of_buffer(lines.buffer, lines.offsets, groups, group_names)
        of = self._begin(group_names)
        out = np.zeros(len(lines), np.int32)
        groups = np.ascontiguousarray(groups, np.int32)
        for start in range(0, len(lines), _AT_ONCE):
            end = start + _AT_ONCE
            self._scan(*_encoded(lines[start:end]), groups[start:end], of, out[start:end])
        return out

    def numbers_of_buffer(self, buffer: Bytes, offsets: Int64, groups: Int32, group_names: Sequence[str]) -> Int32:
        """The same for lines as bytes: line i is `buffer[offsets[i]:offsets[i + 1]]`."""
        of = self._begin(group_names)
        out = np.zeros(len(offsets) - 1, np.int32)
        if not buffer.flags.writeable:  # compiled for arrays that may be written
            buffer = buffer.copy()
        offsets, groups = np.ascontiguousarray(offsets, np.int64), np.ascontiguousarray(groups, np.int32)
        self._scan(np.ascontiguousarray(buffer), offsets, groups, of, out)
        return out

    def _begin(self, group_names: Sequence[str]) -> list[_Group]:
        """Free what the last call left behind. The last group is that of lines without one: index -1."""
        for number in self._gone:
            shape = self._shapes[number]
            if shape is not None and self._by_id.get(shape.id) is shape:
                del self._by_id[shape.id]
            self._shapes[number] = None
        self._free += self._gone
        self._gone.clear()
        if len(self._groups) > 2 * self._c.max_templates:
            self._groups = {name: group for name, group in self._groups.items() if group.group.raw or group.is_full}
        return [self._group(name) for name in (*group_names, "")]

    def _scan(self, buffer: Bytes, offsets: Int64, groups: Int32, of: list[_Group], out: Int32) -> None:
        seeds = np.array([g.seed for g in of], np.uint64)
        table, line = self._table, 0
        with np.errstate(over="ignore"):  # hashes wrap around, also where nothing is compiled
            while (line := scan(buffer, offsets, groups, seeds, line, table.keys, table.numbers, table.places,
                                table.masks, table.mask_counts, self._tokens, self._shares, self._found, out)) < len(out):
                out[line] = self._learn(of[int(groups[line])], buffer)
                line += 1

    def template_id(self, line: str, group: str = "") -> str:
        """The id of one line's template. For tools and tests: a batch is a hundred times cheaper per line."""
        return self.id_of(int(self.numbers([line], np.zeros(1, np.int32), [group])[0]))

    def id_of(self, number: int) -> str:
        """The id of a template as it stands now."""
        return self._identify(root(self._shape(number)))

    def text_at(self, number: int) -> str:
        """The text of a template as it stood when `numbers` returned its number."""
        return self._shape(number).text

    def text(self, template_id: str) -> str:
        """The template as it stands now; "" if it was evicted."""
        shape = self._find(template_id)
        return root(shape).text if shape else ""

    def resolve(self, template_id: str) -> str:
        """The id of what this template has become; itself if it still stands or is unknown."""
        shape = self._find(template_id)
        return self._identify(root(shape)) if shape else template_id

    def take_merged(self) -> list[tuple[str, str, str]]:
        """(group, old id, new id) of the templates that have become part of others since the last call; after `load`
        of all there ever were."""
        merged = [(name, self._identify(shape), self._identify(root(shape))) for name, shape in self._merged]
        self._merged.clear()
        return [(name, old, new) for name, old, new in merged if old != new]

    def _find(self, template_id: str) -> Shape | None:
        shape = self._by_id.get(template_id)
        if shape is None:  # ids are found out when somebody asks
            for other in self._shapes:
                if other is not None:
                    self._identify(other)
            shape = self._by_id.get(template_id)
        return shape

    def _identify(self, shape: Shape) -> str:
        if not shape.id:
            text = f"{VERSION}\0{shape.text}".encode(errors="replace")
            shape.id = hashlib.blake2b(text, digest_size=8).hexdigest()
        there = self._by_id.get(shape.id)
        if there is None or (there.into is not None and shape.into is None):
            self._by_id[shape.id] = shape  # where one group has merged a template and another has not, it stands
        return shape.id

    def _shape(self, number: int) -> Shape:
        shape = self._shapes[number]
        if shape is None:
            raise KeyError(f"template number {number} was given out before the last call")
        return shape

    def _group(self, name: str) -> _Group:
        group = self._groups.get(name)
        if group is None:
            group = self._groups[name] = _Group(name)
        return group

    def _learn(self, group: _Group, buffer: Bytes) -> int:
        """Take in the line at which the scan stopped; its template's number."""
        count = int(self._found[1])
        group.misses += group.is_full
        if group.is_full and group.misses % _ADMITTED:
            self._dumped = None
            return self._rest(group)
        if len(group.group.raw) >= self._c.max_group_templates:
            self._evict(group)
        if self._raw >= self._c.max_templates:
            self._evict(max(self._groups.values(), key=lambda g: (len(g.group.raw), g.name)))
        tokens = []
        for start, end, flags in self._tokens[:count].tolist():
            text = WILD if flags & 1 else buffer[start:end].tobytes().decode(errors="replace")
            tokens.append(f" {text}" if flags & 2 else text)
        return self._add(group, tuple(tokens), self._shares[:count].copy())

    def _rest(self, group: _Group) -> int:
        """The number of what a full group has no room for."""
        if group.rest is None:
            group.rest = Shape((WILD,), (), 0, -1)
            self._apply(group, Change(group.rest, {}, [], 1))
        return group.rest.number

    def _add(self, group: _Group, tokens: tuple[str, ...], shares: NDArray[np.uint64]) -> int:
        values = tuple(shares.tolist())
        shape = Shape(tokens, values, (group.seed + sum(values)) & ((1 << 64) - 1), -1)
        group.stored += msgspec.msgpack.encode(_Stored(tokens, shares.tobytes()))
        self._raw += 1
        self._dumped = None
        for change in group.group.add(shape):
            self._apply(group, change)
        return root(shape).number

    def _apply(self, group: _Group, change: Change) -> None:
        shape = change.shape
        if shape.number < 0:
            shape.number = self._free.pop() if self._free else len(self._shapes)
            if shape.number == len(self._shapes):
                self._shapes.append(None)
            self._shapes[shape.number] = shape
            group.shapes.append(shape)
        fresh = dict(change.keys)
        for mask in filter(None, change.keys.values()):
            self._table.add_mask(change.tokens, mask)
        for member in change.merged:
            fresh |= group.keys.pop(member.number, {})
            self._merged.append((group.name, member))
        group.keys.setdefault(shape.number, {}).update(fresh)
        for key, mask in fresh.items():
            self._table.put(key, shape.number, mask)
        if self._table.is_full:
            self._refill()

    def _refill(self) -> None:
        self._table.refill((key, number, mask) for g in self._groups.values()
                           for number, keys in g.keys.items() for key, mask in keys.items())

    def _evict(self, group: _Group) -> None:
        """Forget half of a group's shapes, those that stand alone and came first before others; the rest is mined
        again in its order, so that a snapshot, which holds shapes only, leads to the same state."""
        raw = group.group.raw
        drop = max(1, len(raw) // 2)
        alone = [s for s in raw if s.into is None]
        doomed = {id(s) for s in (alone + [s for s in raw if s.into is not None])[:drop]}
        survivors = [s for s in raw if id(s) not in doomed]
        group.is_full = True
        self.evicted += drop
        self._raw -= len(raw)
        self._gone += [s.number for s in group.shapes]
        group.clear()
        self._refill()
        for shape in survivors:
            self._add(group, shape.tokens, np.array(shape.shares, np.uint64))

    def dump(self) -> bytes:
        """The complete state. Cost: nothing while no new shape came; else a copy of what is encoded already."""
        if self._dumped is None:
            self._dumped = msgspec.msgpack.encode(
                {"version": VERSION, "evicted": self.evicted,
                 "groups": {name: g.dump() for name, g in self._groups.items() if g.group.raw}})
        return self._dumped

    def load(self, state: object) -> None:
        """Go on from `dump`: the same lines get the same ids as without a break. The state of another version is
        not taken over: its ids would not be found again."""
        self.__init__(self._c)  # type: ignore[misc]
        if not isinstance(state, bytes):  # from before there were versions
            return
        loaded = msgspec.msgpack.decode(state, type=_State)
        self.evicted = loaded.evicted
        if loaded.version != VERSION:
            return
        for name, stored in loaded.groups.items():
            group = self._group(name)
            group.misses, group.is_full = stored.misses, stored.is_full
            for shape in stored.shapes:
                self._add(group, shape.tokens, np.frombuffer(shape.shares, np.uint64))


class _State(msgspec.Struct):
    version: str
    evicted: int
    groups: dict[str, _StoredGroup]


def _encoded(lines: Sequence[str]) -> tuple[Bytes, Int64]:
    """(all bytes, offsets)."""
    joined = "".join(lines)
    lengths = np.fromiter(map(len, lines), np.int64, len(lines))
    if joined.isascii() and lengths.max(initial=0) <= MAX_BYTES:
        data = bytearray(joined, "ascii")
    else:
        cut = [line[:MAX_BYTES].encode(errors="replace") for line in lines]
        data = bytearray(b"".join(cut))
        lengths = np.fromiter(map(len, cut), np.int64, len(cut))
    offsets = np.zeros(len(lines) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return np.frombuffer(data, np.uint8), offsets
