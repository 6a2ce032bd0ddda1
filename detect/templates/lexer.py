"""A line to tokens and their hashes. Compiled; one pass over the bytes, a second look at odd words only."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from detect.templates.atoms import CONSTANT, VALUE, is_address, judge, number_of
from detect.templates.classes import (
    BREAK,
    CLASS,
    DAY_HASHES,
    DIGIT,
    DOT,
    HARD,
    HEX,
    LETTER,
    MARK,
    MONTH_HASHES,
    SLASH,
    SPACE,
    VALUE_HASHES,
    fnv,
)
from ingest.compiled import compiled
from ingest.types import Bytes

MAX_TOKENS: Final = 128
MAX_BYTES: Final = 4096
"""A longer line is cut."""

_COLON, _SLASH, _BACKSLASH, _DOT, _EQUALS, _BANG, _QUESTION, _HASH = 58, 47, 92, 46, 61, 33, 63, 35
_SEED = np.uint64(fnv(b""))
_PRIME = np.uint64(0x100000001B3)
_MIX = np.uint64(0x9E3779B97F4A7C15)
_MIX2 = np.uint64(0xD6E8FEB86659FD93)
_HALF = np.uint64(32)
_WILD = np.uint64(0x5DEECE66D1234567)
_WORDY = HEX | LETTER
_EIGHT, _SLOTS = np.uint64(8), np.uint64(511)
_NONE = np.uint64(0)
_USER = np.uint64(fnv(b"user"))
_HTTP = np.uint64(int.from_bytes(b"HTTP/", "little"))
_INVALID = np.uint64(fnv(b"invalid"))
_FOR = np.uint64(fnv(b"for"))


@compiled()
def share(token: np.uint64, position: int, spaced: bool) -> np.uint64:
    """What a token adds to its line's hash. A sum, so that one position can be taken out again."""
    x = token + np.uint64(2 * position + spaced + 1) * _MIX
    x = (x ^ (x >> _HALF)) * _MIX2
    x = (x ^ (x >> _HALF)) * _MIX2
    return x ^ (x >> _HALF)


@compiled("uint64(int64, boolean)")
def wild_share(position: int, spaced: bool) -> np.uint64:
    """The same for a value."""
    return share(_WILD, position, spaced)


@compiled()
def _path_end(buffer: Bytes, i: int, end: int) -> int:
    """Where an address ends that may hold colons and commas."""
    while i < end:
        c = buffer[i]
        if CLASS[c] & SPACE or c == 34 or c == 39 or c == 60 or c == 62 or c == 41 or c == 93 or c == 125 or c == 124:
            break
        if (c == 44 or c == 59) and (i + 1 == end or CLASS[buffer[i + 1]] & SPACE):
            break
        i += 1
    while buffer[i - 1] == _DOT or buffer[i - 1] == _COLON or buffer[i - 1] == 44:
        i -= 1
    return i


@compiled()
def _colons_end(buffer: Bytes, start: int, end: int) -> int:
    """The end of a MAC or IPv6 address or the like; `start` if there is none."""
    i, colons, digits, longest, run = start, 0, 0, 0, 0
    while i < end:
        c = buffer[i]
        if c == _COLON:
            colons += 1
            run = 0
        elif CLASS[c] & (DIGIT | HEX):
            run += 1
            longest = max(longest, run)
            digits += CLASS[c] == DIGIT
        else:
            break
        i += 1
    if i < end and CLASS[buffer[i]] == LETTER:
        return start
    if buffer[i - 1] == _COLON and buffer[i - 2] != _COLON:
        i -= 1
        colons -= 1
    return i if colons >= 2 and longest <= 4 and (digits > 0 or colons >= 5) else start


@compiled()
def _date_end(buffer: Bytes, i: int, end: int) -> int:
    """After a month's name: the end of "_7 10:59:53 PDT 2005" or a part of it; -1 if no day follows."""
    while i < end and CLASS[buffer[i]] & SPACE:
        i += 1
    run = i
    while i < end and CLASS[buffer[i]] == DIGIT:
        i += 1
    if i == run or i - run > 2 or (i < end and CLASS[buffer[i]] & _WORDY):
        return -1
    found = i
    for _ in range(3):  # a time, a zone, a year
        j = found
        if j < end and buffer[j] == 44:
            j += 1
        run = j
        while j < end and CLASS[buffer[j]] & SPACE:
            j += 1
        if j in (run, end):
            break
        run, digits, capitals, others = j, 0, 0, 0
        while j < end:
            c = buffer[j]
            if CLASS[c] == DIGIT:
                digits += 1
            elif 65 <= c <= 90:
                capitals += 1
            elif c == _COLON or (c == _DOT and digits >= 6):
                others += 1
            else:
                break
            j += 1
        if j < end and CLASS[buffer[j]] & _WORDY:
            break
        if buffer[j - 1] == _COLON or buffer[j - 1] == _DOT:
            j -= 1
            others -= 1
        is_time = digits >= 4 and others >= 1 and capitals == 0
        is_zone = 3 <= capitals <= 4 and digits == 0 and others == 0 and j < end
        is_year = digits == 4 and j - run == 4 and 49 <= buffer[run] <= 50
        if not (is_time or is_zone or is_year):
            break
        if is_zone:  # only with a year behind it
            k = j
            while k < end and CLASS[buffer[k]] & SPACE:
                k += 1
            if k == end or CLASS[buffer[k]] != DIGIT:
                break
        found = j
    return found


@compiled()
def _wild(n: int, start: int, end: int, spaced: bool, tokens: NDArray[np.int32], shares: NDArray[np.uint64]) -> int:
    """Add a value; one that touches the value before it, or is parted from it by a colon, is the same value."""
    if not spaced and n >= 1:
        if tokens[n - 1, 2] & 1:
            tokens[n - 1, 1] = end
            return n
        if n >= 2 and tokens[n - 1, 2] & 4 and tokens[n - 2, 2] & 1:
            tokens[n - 2, 1] = end
            return n - 1
    tokens[n, 0], tokens[n, 1], tokens[n, 2] = start, end, 1 | (2 if spaced else 0)
    shares[n] = share(_WILD, n, spaced)
    return n + 1


@compiled()
def lex(buffer: Bytes, start: int, end: int, tokens: NDArray[np.int32], shares: NDArray[np.uint64]) -> int:
    """The number of tokens of `buffer[start:end]`.

    `tokens` [MAX_TOKENS, 3]: begin, end, and 1 for a value, 2 for white space before it, 4 for a colon that touches
    what is before it. `shares` [MAX_TOKENS]: what each adds to the line's hash.
    """
    n, i, spaced = 0, start, False
    last_word = word_before = _NONE  # hashes of the two tokens before, 0 for values
    end = min(end, start + MAX_BYTES)
    while i < end and n < MAX_TOKENS:
        c = buffer[i]
        kind = CLASS[c]
        if kind & SPACE:
            spaced = n > 0
            i += 1
            continue
        first = i
        if kind & HARD:
            i += 1
            if (c == 60 or c == 62) and spaced and i < end and CLASS[buffer[i]] == DIGIT:
                continue  # less than one second: part of the number
            tokens[n, 0], tokens[n, 1] = first, i
            tokens[n, 2] = (2 if spaced else 0) | (4 if c == _COLON and not spaced else 0)
            shares[n] = share(np.uint64(c), n, spaced)
            n += 1
            spaced = False
            word_before, last_word = last_word, np.uint64(c)
            continue
        flags, value, letter = 0, _SEED, kind
        if c in (_DOT, _HASH) and i + 1 < end and buffer[i + 1] == c:
            while i < end and buffer[i] == c:
                value = (value ^ np.uint64(c)) * _PRIME
                i += 1
        else:
            while i < end:
                c = buffer[i]
                kind = CLASS[c]
                if kind & (BREAK | DOT | MARK) and (
                        kind & BREAK or (c in (_DOT, _HASH) and i + 1 < end and buffer[i + 1] == c)):
                    break
                flags |= kind
                value = (value ^ np.uint64(c)) * _PRIME
                i += 1
        verdict = CONSTANT
        if i < end and buffer[i] == _COLON:
            if i + 2 < end and buffer[i + 1] == _SLASH and buffer[i + 2] == _SLASH and flags & _WORDY:
                i = _path_end(buffer, i + 3, end)
                verdict = VALUE
            elif i - first == 1 and flags & _WORDY and i + 1 < end and buffer[i + 1] in (_SLASH, _BACKSLASH):
                i = _path_end(buffer, i + 2, end)
                verdict = VALUE
            elif i - first <= 4 and not flags & ~(DIGIT | HEX) and i + 1 < end:
                j = _colons_end(buffer, first, end)
                if j > first:
                    i = j
                    verdict = VALUE
        if verdict == CONSTANT and flags & (DIGIT | DOT | SLASH | MARK):
            last = i
            while last > first + 1 and (buffer[last - 1] == _DOT or buffer[last - 1] == _BANG
                                        or buffer[last - 1] == _QUESTION):
                last -= 1
            after_equals = n > 0 and tokens[n - 1, 1] == first and buffer[first - 1] == _EQUALS
            is_key = last < end and buffer[last] == _EQUALS and letter & _WORDY and not flags & (SLASH | MARK)
            verdict = CONSTANT if is_key else judge(buffer, first, last, flags, after_equals)
            if (verdict == CONSTANT and flags & DOT and last < end and buffer[last] == _COLON
                    and is_address(buffer, first, last, end)):
                verdict = VALUE
            if verdict == VALUE and letter == SLASH and i < end and buffer[i] == _EQUALS:
                i = last = _path_end(buffer, i, end)  # a query
            if verdict != CONSTANT and buffer[first] != _SLASH:  # a path takes the full stop with it
                i = last
        elif verdict == CONSTANT:
            if MONTH_HASHES[(value >> _EIGHT) & _SLOTS] == value:
                j = _date_end(buffer, i, end)
                if j > 0:
                    i = j
                    verdict = VALUE
                    if last_word != 0 and DAY_HASHES[(last_word >> _EIGHT) & _SLOTS] == last_word:
                        n -= 1
                        first = tokens[n, 0]
                        spaced = tokens[n, 2] & 2 != 0
            elif flags == HEX and i - first >= 8:
                verdict = VALUE  # ffffffff
            elif VALUE_HASHES[(value >> _EIGHT) & _SLOTS] == value or (
                    last_word == _USER and spaced and word_before in (_FOR, _INVALID)):
                verdict = VALUE
        if (verdict > 0 and spaced and verdict == 5 and tokens[n - 1, 2] & 1
                and number_of(buffer, first, first + 5) == _HTTP):
            tokens[n - 1, 1] = i  # the rest of a request line
            spaced = False
            continue
        if verdict == VALUE:
            n = _wild(n, first, i, spaced, tokens, shares)
            spaced = False
            word_before, last_word = last_word, _NONE
            continue
        split = i
        if verdict != CONSTANT:
            split = first + verdict
            value = _SEED
            for j in range(first, split):
                value = (value ^ np.uint64(buffer[j])) * _PRIME
        tokens[n, 0], tokens[n, 1], tokens[n, 2] = first, split, 2 if spaced else 0
        shares[n] = share(value, n, spaced)
        n += 1
        spaced = False
        word_before, last_word = last_word, value
        if split < i and n < MAX_TOKENS:
            n = _wild(n, split, i, False, tokens, shares)
            word_before, last_word = last_word, _NONE
    return n
