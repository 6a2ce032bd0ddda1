"""The inner loop of `json_lines`: flat JSON objects, one a line, to columns, without a Python object per line.

Compiled by numba; 1.3 ns a byte against the 5 of msgspec's typed decoder and the lists that follow it. It takes less
than JSON: it stops at the first line that has a field it was not told of, lacks one, has a field twice, holds an object
or a list, a number where text belongs, a pair of surrogates, a time that is no RFC 3339 or number, or is not JSON. Then
the block is read by others. What it takes it takes exactly (tests/unit/ingest/test_json_lines.py). The caller makes
sure that the bytes are UTF-8.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from ingest.compiled import compiled
from ingest.types import Int32, Int64
from ingest.wire.iso_times import _one

Bytes = NDArray[np.uint8]
IGNORED, MESSAGE, TIME, LEVEL, SERVICE, INSTANCE, TRACE, CONSTANT = range(8)
"""What a field is for. CONSTANT: it must be the text that it is compared with."""
_QUOTE, _BACKSLASH, _NEWLINE, _COLON, _COMMA, _OPEN, _CLOSE = 34, 92, 10, 58, 44, 123, 125
_MAX_DISTINCT: Final = 2048
_SLOTS: Final = 8192
_MAX_EXACT: Final = 2**53
_MAX_BEFORE_DIGIT: Final = 922_337_203_685_477_579

_IS_PLAIN = np.array([c >= 32 and c not in (_QUOTE, _BACKSLASH) for c in range(256)])
"""Bytes that stand for themselves within a string."""


@compiled()
def _space(b: Bytes, at: int, end: int) -> int:
    while at < end and (b[at] == 32 or b[at] == 9 or b[at] == 13):
        at += 1
    return at


@compiled()
def _string_end(b: Bytes, at: int, end: int) -> int:
    """Where the quote is that ends the string whose first byte is at `at`; -1 if it holds an escape; -2 if it is none."""
    while at < end and _IS_PLAIN[b[at]]:
        at += 1
    if at >= end or b[at] < 32:
        return -2
    return at if b[at] == _QUOTE else -1


@compiled()
def _hex4(b: Bytes, at: int) -> int:
    value = 0
    for i in range(at, at + 4):
        c = b[i]
        if 48 <= c <= 57:
            digit = c - 48
        elif 97 <= (c | 32) <= 102:
            digit = (c | 32) - 87
        else:
            return -1
        value = value * 16 + digit
    return value


@compiled()
def _copy_string(b: Bytes, at: int, end: int, out: Bytes, to: int) -> tuple[int, int]:
    """Copy a string without its escapes: (where its closing quote is, where the copy ends); (-1, 0) if it is none or
    holds a surrogate."""
    while at < end:
        c = b[at]
        if _IS_PLAIN[c]:
            out[to] = c
            to += 1
            at += 1
            continue
        if c == _QUOTE:
            return at, to
        if c != _BACKSLASH or at + 1 >= end:
            return -1, 0
        e = b[at + 1]
        at += 2
        if e in (_QUOTE, _BACKSLASH, 47):
            out[to] = e
        elif e == 110:
            out[to] = 10
        elif e == 116:
            out[to] = 9
        elif e == 114:
            out[to] = 13
        elif e == 98:
            out[to] = 8
        elif e == 102:
            out[to] = 12
        elif e == 117:
            if at + 4 > end:
                return -1, 0
            code = _hex4(b, at)
            if code < 0 or 0xD800 <= code <= 0xDFFF:
                return -1, 0
            at += 4
            if code < 0x80:
                out[to] = code
            elif code < 0x800:
                out[to] = 0xC0 | (code >> 6)
                to += 1
                out[to] = 0x80 | (code & 63)
            else:
                out[to] = 0xE0 | (code >> 12)
                out[to + 1] = 0x80 | ((code >> 6) & 63)
                to += 2
                out[to] = 0x80 | (code & 63)
        else:
            return -1, 0
        to += 1
    return -1, 0


@compiled()
def _number(b: Bytes, at: int, end: int) -> tuple[int, int, int, int]:
    """A JSON number: (where it ends, digits as a whole number, decimal places, 1 for one that is plain to read). Plain
    are those without sign and exponent whose digits fit into 63 bits. (-1, ...) if it is none."""
    plain = 1
    if at < end and b[at] == 45:
        plain = 0
        at += 1
    first = at
    value, places = 0, 0
    while at < end and 48 <= b[at] <= 57:
        if value > _MAX_BEFORE_DIGIT:
            plain = 0
        else:
            value = value * 10 + (b[at] - 48)
        at += 1
    if at == first or (b[first] == 48 and at - first > 1):
        return -1, 0, 0, 0
    if at < end and b[at] == 46:
        at += 1
        first = at
        while at < end and 48 <= b[at] <= 57:
            if value > _MAX_BEFORE_DIGIT:
                plain = 0
            else:
                value = value * 10 + (b[at] - 48)
            places += 1
            at += 1
        if at == first:
            return -1, 0, 0, 0
    if at < end and (b[at] | 32) == 101:
        plain = 0
        at += 1
        if at < end and (b[at] == 43 or b[at] == 45):
            at += 1
        first = at
        while at < end and 48 <= b[at] <= 57:
            at += 1
        if at == first:
            return -1, 0, 0, 0
    return at, value, places, plain


@compiled()
def _is(b: Bytes, at: int, end: int, word: Bytes) -> bool:
    if end - at < len(word):
        return False
    same = True
    for i in range(len(word)):
        same &= b[at + i] == word[i]
    return same


@compiled()
def _power(exponent: int) -> int:
    value = 1
    for _ in range(exponent):
        value *= 10
    return value


@compiled()
def _moment(value: int, places: int) -> int:
    """Nanoseconds of a number that is seconds, ms, us or ns by its magnitude; -1 beyond the years they can tell."""
    if places == 0:
        if value < 100_000_000_000:
            return value * 1_000_000_000 if value < 9_200_000_000 else -1
        if value < 100_000_000_000_000:
            return value * 1_000_000 if value < 9_200_000_000_000 else -1
        if value < 100_000_000_000_000_000:
            return value * 1000 if value < 9_200_000_000_000_000 else -1
        return value
    if places > 15:
        return -1
    power = _power(places)
    whole = value // power
    if 2**30 <= whole < 2**31 and places <= 11:
        # Of today's seconds: the nearest float has 22 binary places, and these are had exactly.
        scaled = (value - whole * power) * 2**22
        binary = scaled // power
        twice = 2 * (scaled - binary * power)
        if twice > power or (twice == power and binary % 2 == 1):
            binary += 1
        return int(np.rint((whole + binary / 4194304.0) * 1e9))
    if value >= _MAX_EXACT:
        return -1
    number = value / float(power)  # both exact, so the quotient is the nearest float, as any parser's
    scale = 1e9 if number < 1e11 else 1e6 if number < 1e14 else 1e3 if number < 1e17 else 1.0
    if number * scale >= 9.2e18:
        return -1
    return int(np.rint(number * scale))


@compiled()
def _intern(b: Bytes, start: int, end: int, slots: Int32, starts: Int64, ends: Int64, count: int) -> int:
    """The number of a text among the distinct ones; `count` for a new one (put in its place); -1 if there are too many."""
    h = np.uint64(14695981039346656037)
    for i in range(start, end):
        h = (h ^ np.uint64(b[i])) * np.uint64(1099511628211)
    at = np.int64((h ^ (h >> np.uint64(29))) & np.uint64(_SLOTS - 1))
    while slots[at] >= 0:
        known = slots[at]
        if ends[known] - starts[known] == end - start:
            same = True
            for i in range(end - start):
                if b[starts[known] + i] != b[start + i]:
                    same = False
                    break
            if same:
                return int(known)
        at = (at + 1) & (_SLOTS - 1)
    if count >= _MAX_DISTINCT:
        return -1
    slots[at] = count
    starts[count] = start
    ends[count] = end
    return count


@compiled("int64(Array(uint8, 1, 'C', readonly=True), Array(uint8, 1, 'C', readonly=True), int64[::1], int64[::1], int64, "
          "Array(uint8, 1, 'C', readonly=True), uint8[::1], int64[::1], int64[::1], int32[:,::1], int64[:,::1], "
          "int64[:,::1], int64[::1], int64[:,::1])")
def scan(b: Bytes, key_bytes: Bytes, key_offsets: Int64, roles: Int64, needed: int, constant: Bytes,
         message: Bytes, message_offsets: Int64, ts_ns: Int64, interned: Int32, starts: Int64, ends: Int64,
         distinct: Int64, trace: Int64) -> int:
    """Read all lines of `b`. Returns how many there were, or -1 if one can't be taken.

    `key_bytes`, `key_offsets` [k+1] and `roles` [k] are the fields; `needed` has the bits of those that must be there.
    Out: `message` with `message_offsets` [n+1]; `ts_ns` [n]; `interned` [3, n] the number of the line's level, service
    and instance among the distinct ones, whose places in `b` are `starts`, `ends` [3, m], `distinct` [3] of them (-1:
    the field is absent); `trace` [2, n] where the trace id is in `b`.
    """
    slots = np.full((3, _SLOTS), -1, np.int32)
    fields = len(roles)
    size = len(b)
    n, at, to = 0, 0, 0
    message_offsets[0] = 0
    while at < size:
        if n >= len(ts_ns):
            return -1
        seen = 0
        expected = 0
        pending = to
        interned[0, n] = interned[1, n] = interned[2, n] = -1
        trace[0, n] = trace[1, n] = 0
        end = size
        at = _space(b, at, end)
        if at >= end:
            break
        if b[at] == _NEWLINE:
            at += 1
            continue
        if b[at] != _OPEN:
            return -1
        at = _space(b, at + 1, end)
        while True:
            if at >= end or b[at] != _QUOTE:
                return -1
            start = at + 1
            stop = _string_end(b, start, end)
            if stop < 0:
                return -1
            found = -1
            for turn in range(fields):
                candidate = expected + turn
                if candidate >= fields:
                    candidate -= fields
                low = key_offsets[candidate]
                length = key_offsets[candidate + 1] - low
                if length == stop - start:
                    same = True
                    for i in range(length):
                        if key_bytes[low + i] != b[start + i]:
                            same = False
                            break
                    if same:
                        found = candidate
                        break
            if found < 0 or seen & (1 << found):
                return -1
            seen |= 1 << found
            expected = found + 1
            at = _space(b, stop + 1, end)
            if at >= end or b[at] != _COLON:
                return -1
            at = _space(b, at + 1, end)
            if at >= end:
                return -1
            role = roles[found]
            if b[at] == _QUOTE:
                start = at + 1
                if role == MESSAGE:
                    stop, copied = _copy_string(b, start, end, message, to)
                    if stop < 0 or copied == to:
                        return -1
                    pending = copied
                elif role == IGNORED:
                    stop = start
                    while True:
                        if stop >= end or b[stop] < 32:
                            return -1
                        if b[stop] == _QUOTE:
                            break
                        if b[stop] == _BACKSLASH:  # checked by copying it to where the message will grow
                            stop, _ = _copy_string(b, start, end, message, pending)
                            if stop < 0:
                                return -1
                            break
                        stop += 1
                else:
                    stop = _string_end(b, start, end)
                    if stop < 0:
                        return -1
                    if role == TIME:
                        ts_ns[n] = _one(b, start, stop)
                        if ts_ns[n] < 0:
                            return -1
                    elif role == TRACE:
                        trace[0, n] = start
                        trace[1, n] = stop
                    elif role == CONSTANT:
                        if stop - start != len(constant) or not _is(b, start, stop, constant):
                            return -1
                    else:
                        which = role - LEVEL
                        if stop == start and which == 1:
                            return -1
                        number = _intern(b, start, stop, slots[which], starts[which], ends[which], distinct[which])
                        if number < 0:
                            return -1
                        if number == distinct[which]:
                            distinct[which] += 1
                        interned[which, n] = number
                at = stop + 1
            elif role in (TIME, IGNORED):
                if b[at] == 116 or b[at] == 102 or b[at] == 110:  # true, false, null
                    if role == TIME:
                        return -1
                    length = 5 if b[at] == 102 else 4
                    if end - at < length:
                        return -1
                    if length == 5:
                        if b[at + 1] != 97 or b[at + 2] != 108 or b[at + 3] != 115 or b[at + 4] != 101:
                            return -1
                    elif b[at] == 116:
                        if b[at + 1] != 114 or b[at + 2] != 117 or b[at + 3] != 101:
                            return -1
                    elif b[at + 1] != 117 or b[at + 2] != 108 or b[at + 3] != 108:
                        return -1
                    at += length
                else:
                    stop, value, places, plain = _number(b, at, end)
                    if stop < 0:
                        return -1
                    if role == TIME:
                        if plain == 0:
                            return -1
                        ts_ns[n] = _moment(value, places)
                        if ts_ns[n] < 0:
                            return -1
                    at = stop
            else:
                return -1
            at = _space(b, at, end)
            if at >= end:
                return -1
            if b[at] == _COMMA:
                at = _space(b, at + 1, end)
                continue
            if b[at] != _CLOSE:
                return -1
            break
        if seen & needed != needed:
            return -1
        at = _space(b, at + 1, end)
        if at < size:
            if b[at] != _NEWLINE:
                return -1
            at += 1
        n += 1
        to = pending
        message_offsets[n] = to
    return n
