"""Is a word a constant or a value? Judged by its bytes alone: no regular expressions, no dictionary.

An atom is a run of bytes between white space, brackets and `= : , ; " ' |`. All functions are compiled (see
compiled.py) and run as plain Python as well.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from detect.templates.classes import (
    CLASS,
    DIGIT,
    DOMAIN_HASHES,
    DOT,
    HEX,
    IS_COUNTRY,
    LETTER,
    MARK,
    REVERSED_NUMBERS,
    SLASH,
    SOURCE_NUMBERS,
    fnv,
)
from ingest.compiled import compiled
from ingest.types import Bytes

CONSTANT: Final = 0
VALUE: Final = -1
# Else: a constant that ends at this offset, and a value from there on.

SEED, PRIME = np.uint64(fnv(b"")), np.uint64(0x100000001B3)
_EIGHT, _SLOTS = np.uint64(8), np.uint64(511)
_DOT, _SLASH, _BACKSLASH, _AT, _DASH, _UNDERSCORE, _PLUS, _HASH = 46, 47, 92, 64, 45, 95, 43, 35
_ZERO, _SMALL_V, _LARGE_V, _SMALL_X, _TILDE, _PERCENT, _AMPERSAND, _DOLLAR = 48, 118, 86, 120, 126, 37, 38, 36


@compiled()
def number_of(buffer: Bytes, start: int, end: int) -> np.uint64:
    """Up to eight bytes as one number, first byte lowest."""
    number = np.uint64(0)
    shift = np.uint64(0)
    for i in range(start, min(end, start + 8)):
        number |= np.uint64(buffer[i]) << shift
        shift += np.uint64(8)
    return number


@compiled()
def is_among(words: NDArray[np.uint64], number: np.uint64) -> bool:
    """Is it one of these?"""
    for word in words:  # noqa: SIM110 - compiled
        if word == number:
            return True
    return False


@compiled()
def is_host(buffer: Bytes, start: int, end: int) -> bool:
    """A name that ends in a top-level domain. Class names (com.example.Thing) and files (main.rs) are none."""
    last = end
    while last > start and buffer[last - 1] != _DOT:
        last -= 1
    if last == start or end - last > 8:
        return False
    value = SEED
    for i in range(last, end):
        value = (value ^ np.uint64(buffer[i])) * PRIME
    slot = (value >> _EIGHT) & _SLOTS
    is_country = end - last == 2 and IS_COUNTRY[int(buffer[last]) * 256 + int(buffer[last + 1])]
    if not (is_country or DOMAIN_HASHES[slot] == value):
        return False
    first = start
    while buffer[first] != _DOT:
        first += 1
    dots, odd, others = 0, 0, 0
    for i in range(start, end):
        c = buffer[i]
        kind = CLASS[c]
        dots += c == _DOT
        odd += (c == _DASH) | (kind == DIGIT)
        others += (c != _DASH) & ((kind & (DIGIT | HEX | LETTER | DOT)) == 0)
    if others:
        return False
    if first == start or is_among(REVERSED_NUMBERS, number_of(buffer, start, first)):
        return False
    return not is_country or dots >= 2 or odd > 0


@compiled()
def is_address(buffer: Bytes, start: int, colon: int, end: int) -> bool:
    """A dotted name with a port behind a colon, and no line of a source file."""
    last = colon
    while last > start and buffer[last - 1] != _DOT:
        last -= 1
    if colon - last < 2 or is_among(SOURCE_NUMBERS, number_of(buffer, last, colon)):
        return False
    for i in range(start, colon):
        if not CLASS[buffer[i]] & (HEX | LETTER | DIGIT) and buffer[i] != _DOT and buffer[i] != _DASH:
            return False
    i = colon + 1
    while i < end and CLASS[buffer[i]] == DIGIT:
        i += 1
    return 2 <= i - colon - 1 <= 5 and (i == end or not CLASS[buffer[i]] & (HEX | LETTER))


@compiled()
def _judge_wordy(buffer: Bytes, start: int, end: int) -> int:
    """An atom without digits that has dots, slashes or other marks."""
    slashes, backslashes, dots, at, letters = 0, 0, 0, -1, 0
    for i in range(start, end):
        c = buffer[i]
        if c == _SLASH:
            slashes += 1
        elif c == _BACKSLASH:
            backslashes += 1
        elif c == _DOT:
            dots += 1
        elif c == _AT:
            at = i
        elif CLASS[c] & (HEX | LETTER):
            letters += 1
    if letters == 0:
        return CONSTANT
    if buffer[start] == _SLASH and end - start >= 3:
        return VALUE
    if backslashes > 0 or slashes >= 2 or (slashes == 1 and dots > 0 and buffer[end - 1] != _DOT):
        return VALUE
    if start < at < end - 1:
        return VALUE
    return VALUE if dots > 0 and is_host(buffer, start, end) else CONSTANT


@compiled()
def _is_version(buffer: Bytes, start: int, end: int) -> bool:
    """Digits and dots alone: a version."""
    for i in range(start, end):  # noqa: SIM110 - compiled
        if buffer[i] != _DOT and CLASS[buffer[i]] != DIGIT:
            return False
    return True


@compiled()
def _judge_numeric(buffer: Bytes, start: int, end: int, after_equals: bool) -> int:
    """An atom with digits."""
    digits, letters, other_letters, run, longest = 0, 0, 0, 0, 0
    slashes, backslashes, at, marks = 0, 0, -1, 0
    segment_digits, segment_letters, digit_segments, segments_with_digits, all_digit_segments = 0, 0, 0, 0, 0
    first_digit = -1  # offset of the segment that holds the first digit
    segment_start = start
    for i in range(start, end + 1):
        c = buffer[i] if i < end else _DASH
        kind = CLASS[c]
        if kind == DIGIT:
            digits += 1
            run += 1
            longest = max(longest, run)
            segment_digits += 1
            if first_digit < 0:
                first_digit = segment_start
            continue
        run = 0
        if kind & (HEX | LETTER):
            letters += 1
            segment_letters += 1
            other_letters += kind == LETTER
            continue
        if i < end:
            slashes += c == _SLASH
            backslashes += c == _BACKSLASH
            marks += c in (_HASH, _AT)
            if c == _AT:
                at = i
        if segment_digits > 0:
            segments_with_digits += 1
            if segment_letters == 0:
                digit_segments += 1
            elif i == end or segment_letters > 0:
                all_digit_segments += 1  # mixed
        segment_digits = segment_letters = 0
        segment_start = i + 1
    if letters == 0:
        return VALUE
    first = CLASS[buffer[start]]
    if buffer[start] == _ZERO and end - start > 2 and (buffer[start + 1] | 32) == _SMALL_X and other_letters == 1:
        return VALUE
    before = buffer[first_digit - 1] if first_digit > start else 0
    is_pure_tail = digit_segments > 0 and all_digit_segments == 0
    if slashes > 0:
        if slashes == 1 and before == _SLASH and is_pure_tail and longest < 4:
            return first_digit - start  # PS/2
        return VALUE
    if backslashes > 0:
        return VALUE
    if at == start and end - start > 1:
        return 1  # @0x7f2e
    if at > start and first_digit > at:
        return VALUE if is_host(buffer, at + 1, end) else at + 1 - start
    if is_host(buffer, start, end):
        return VALUE
    if first == DIGIT:
        if letters <= 4 or other_letters == 0 or longest >= 4 or segments_with_digits >= 2 or digits >= letters:
            return VALUE
        return VALUE if after_equals else CONSTANT
    if (buffer[start] == _SMALL_V or buffer[start] == _LARGE_V) and first_digit == start and letters <= 3:
        return VALUE
    if other_letters == 0 and end - start >= 8:
        return VALUE
    if before == _DASH and is_pure_tail and digit_segments >= 2 and first_digit - start >= 3 and _is_version(
            buffer, first_digit, end):
        return first_digit - start  # jetty-6.1.26
    if before in (_DOT, _HASH) and first_digit - start >= 3 and (is_pure_tail or before == _HASH):
        return first_digit - start  # core.2275
    if longest >= 4 or digit_segments > 0 or segments_with_digits >= 2 or digits > letters or after_equals:
        return VALUE
    return CONSTANT


@compiled()
def _judge_plain(buffer: Bytes, start: int, end: int) -> int:
    """What `_judge_numeric` says of an atom without dots, slashes or other marks; counts without
    branches, which random digits would make a processor guess wrong."""
    digits, letters, other_letters, run, longest, turns = 0, 0, 0, 0, 0, 0
    segments, digit_segments, first_digit, segment_start, digits_before, letters_before = 0, 0, -1, start, 0, 0
    for i in range(start, end + 1):
        kind = CLASS[buffer[i]] if i < end else 0
        is_digit = kind & DIGIT
        turns += (run > 0) & ((kind & (HEX | LETTER)) != 0)
        digits += is_digit
        run = (run + 1) * is_digit
        longest = max(longest, run)
        letters += (kind & (HEX | LETTER)) != 0
        other_letters += kind == LETTER
        if not kind & (DIGIT | HEX | LETTER):
            if digits > digits_before:
                segments += 1
                digit_segments += letters == letters_before
                if first_digit < 0:
                    first_digit = segment_start
            segment_start, digits_before, letters_before = i + 1, digits, letters
    if longest >= 4 or segments >= 2:
        return VALUE
    if CLASS[buffer[start]] == DIGIT:
        is_value = letters <= 4 or other_letters == 0 or digits >= letters
        return VALUE if is_value or (other_letters == 1 and buffer[start] == _ZERO
                                     and (buffer[start + 1] | 32) == _SMALL_X) else CONSTANT
    if (buffer[start] == _SMALL_V or buffer[start] == _LARGE_V) and first_digit == start and letters <= 3:
        return VALUE
    if other_letters == 0 and (end - start >= 8 or (end - start >= 6 and digits >= 2 and turns > 0)):
        return VALUE  # f55fa9e
    return VALUE if digit_segments > 0 or digits > letters else CONSTANT


@compiled()
def _has_two_slashes(buffer: Bytes, start: int, end: int) -> bool:
    slashes = 0
    for i in range(start, end):
        slashes += buffer[i] == _SLASH
        if slashes == 2:
            return True
    return False


@compiled()
def judge(buffer: Bytes, start: int, end: int, flags: int, after_equals: bool) -> int:
    """CONSTANT, VALUE, or the offset (from `start`, at least 2) at which a constant ends and a value begins.

    `flags`: the classes of all bytes. Most atoms are decided by these or by a few bytes; the rest is looked at whole.
    """
    if flags & DIGIT:
        if not flags & (HEX | LETTER):
            return VALUE
        if not flags & (DOT | SLASH | MARK):
            if after_equals or (not flags & LETTER and end - start >= 8):
                return VALUE
            return _judge_plain(buffer, start, end)
        if flags & SLASH and _has_two_slashes(buffer, start, end):
            return VALUE
        if not flags & (SLASH | MARK) and is_host(buffer, start, end):
            return VALUE
        return _judge_numeric(buffer, start, end, after_equals)
    if not flags & (SLASH | MARK):
        return VALUE if is_host(buffer, start, end) else CONSTANT
    if buffer[start] == _SLASH and end - start >= 3 and flags & (HEX | LETTER):
        return VALUE
    return _judge_wordy(buffer, start, end)
