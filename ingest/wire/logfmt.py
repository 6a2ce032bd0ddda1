"""logfmt (`level=info msg="took long" ms=31`): recognised conservatively, because prose has `=` in it as well.

`logfmter` and `logfmt` on PyPI write it or read it without telling whether a line is any; the reading is one regular
expression, so it stands here.
"""

from __future__ import annotations

import re

_PAIR = re.compile(r'([A-Za-z_@][\w.@/\-]{0,99})=(?:"((?:[^"\\]|\\.)*)"|([^\s"=][^\s"]*)|(?=\s|$))')
_BARE = re.compile(r"([A-Za-z_][\w.\-]{0,99})(?=\s|$)")
_MARKS = frozenset({"msg", "message", "level", "lvl", "ts", "time", "t", "severity", "at", "timestamp", "@timestamp", "event"})
_MAX_CHARS = 65536
_MAX_PAIRS = 256
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r"}
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)


def pairs_of(text: str) -> dict[str, str] | None:
    """The pairs of a logfmt line; None if it is none.

    It is one if it is pairs from the first to the last character, at least two of them, and one is a message, level or
    time. Words without a value (`debug`) are allowed among them. Linear in the length; longer than 64 KiB is none.
    """
    text = text.strip()
    if len(text) > _MAX_CHARS or not _PAIR.match(text):
        return None
    found: dict[str, str] = {}
    at, bare = 0, 0
    while at < len(text):
        pair = _PAIR.match(text, at)
        if pair is not None:
            key, quoted, plain = pair.groups()
            if quoted is not None and "\\" in quoted:
                quoted = _ESCAPE.sub(lambda m: _ESCAPES.get(m[1], m[1]), quoted)
            found.setdefault(key, quoted if quoted is not None else plain or "")
            at = pair.end()
        elif (word := _BARE.match(text, at)) is not None:
            bare += 1
            at = word.end()
        else:
            return None
        if at < len(text) and not text[at].isspace():
            return None
        while at < len(text) and text[at].isspace():
            at += 1
        if len(found) > _MAX_PAIRS:
            return None
    return found if len(found) >= 2 and bare <= len(found) // 4 and not _MARKS.isdisjoint(found) else None
