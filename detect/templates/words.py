"""How much a word looks like a name that somebody chose, and how many of them make a value."""

from __future__ import annotations

from typing import Final

WILD: Final = "<*>"
_SIZES: Final = frozenset(("b", "kb", "mb", "gb", "tb", "kib", "mib", "gib", "tib", "byte", "bytes"))
_TIMES: Final = frozenset((
    "ns", "us", "ms", "s", "sec", "secs", "second", "seconds", "min", "mins", "minute", "minutes", "h", "hour", "hours",
    "d", "day", "days", "msec", "msecs", "millis", "milliseconds", "microseconds"))
_NAMED_BEFORE: Final = frozenset(("user", "host", "login", "hostname", "username"))
_MARKS: Final = frozenset("/\\_@$#-")
_NO_DIGITS: Final = str.maketrans("", "", "0123456789")
FEW, SOME, MANY = 2, 3, 5


def unit_of(word: str) -> str:
    """What a word is a unit of: "size", "time" or ""."""
    lower = word.lower()
    return "size" if lower in _SIZES else "time" if lower in _TIMES else ""


def is_odd(word: str) -> bool:
    """Does it look like an identifier rather than a word of a sentence?"""
    body = word[1:-1] if len(word) > 2 else ""
    return (not word.isascii() or any(c in _MARKS or c.isdigit() for c in word) or "." in body
            or (any(c.isupper() for c in word[1:]) and any(c.islower() for c in word)))


def is_made(word: str) -> bool:
    """Does it look like an identifier that a machine made? Names of classes and settings do not."""
    return any(c.isdigit() or c in "/\\@" for c in word)


def can_vary(token: str) -> bool:
    """Separators and runs of dots can't."""
    return any(c.isalnum() for c in token)


def needed(values: list[str], position: int, before: str) -> int:
    """How many different words at one place, all else equal, make it a value.

    `values`: the words so far, without white space; `before`: the token before them.
    """
    words = [v for v in values if v != WILD]
    if len(words) < len(values):
        return FEW
    if before.endswith("=") or before.lower() in _NAMED_BEFORE:
        return FEW
    if len(words) > 1 and len({w.translate(_NO_DIGITS) for w in words}) == 1:
        return FEW
    if position == 0 and not any(c in _MARKS or c.isdigit() for w in words for c in w):
        return 3 * MANY if any(w.isalpha() and w[1:].islower() for w in words) else 2 * MANY
    if sum(is_odd(w) for w in words) >= SOME or all(is_odd(w) for w in words):
        return SOME
    if position == 0:
        return 3 * MANY
    if all(w.upper() == w for w in words):
        return 2 * MANY
    return MANY
