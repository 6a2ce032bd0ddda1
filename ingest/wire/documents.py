"""JSON records as the objects they hold, however they are packed, and lookups in them.

One record may be an object, an array of objects, or one object a line; a decoder sees a list of objects either way.
Names are looked up as written ("log.level") and as a path ({"log": {"level": ...}}): shippers write both.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from ingest.errors import DecodeError
from ingest.wire.rows import DecodeContext, Rows

_BOM = b"\xef\xbb\xbf"
_BLANK = b" \t\r\n"
_KEPT_BYTES = 1 << 20
_decode_lines = msgspec.json.Decoder().decode_lines


class _Last(threading.local):
    """The documents of the last value of this thread: a dozen formats ask for those of one record in turn."""

    value: bytes | None = None
    found: list[dict[str, Any]] | None = None


_last = _Last()


def documents(value: bytes) -> list[dict[str, Any]] | None:
    """The objects of a JSON record; None if it is anything else (an empty array, text, a broken object).

    The result is shared: don't change it. Costs one parse for all callers that ask in a row.
    """
    if _last.value is value:
        return _last.found
    found = _documents(value)
    if len(value) <= _KEPT_BYTES:
        _last.value, _last.found = value, found
    else:
        _last.value = _last.found = None
    return found


def _documents(value: bytes) -> list[dict[str, Any]] | None:
    if value[-1:] == b"\0":
        value = value.replace(b"\0", b"\n")  # GELF over TCP ends each object with it; JSON can't hold it
    if value[:1] not in (b"{", b"["):
        value = value.removeprefix(_BOM)
        if value[:256].lstrip(_BLANK)[:1] not in (b"{", b"["):
            return None
    try:
        whole = msgspec.json.decode(value)
        entries = whole if isinstance(whole, list) else [whole]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        entries = _lines(value) if value.lstrip(_BLANK)[:1] == b"{" else _leniently(value)
    if not entries or not all(type(entry) is dict for entry in entries):
        return None
    return entries


def _lines(value: bytes) -> list[Any]:
    """One object a line; [] if a line is none."""
    try:
        return _decode_lines(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        whole = _leniently(value)
        if whole or b"\n" not in value:
            return whole
    found: list[Any] = []
    for line in value.split(b"\n"):
        if line.strip(_BLANK):
            entries = _leniently(line)
            if len(entries) != 1:
                return []
            found += entries
    return found


def _leniently(value: bytes) -> list[Any]:
    """What Python writes beyond the standard (NaN, Infinity), and text with bytes that are not UTF-8; [] for what is
    no JSON even so. Half of a surrogate pair, which no text may hold, becomes a replacement character."""
    text = value.decode(errors="replace").removeprefix("\ufeff")
    try:
        whole = json.loads(text)
        if "\\u" in text:  # a lone surrogate can't be written anywhere
            whole = json.loads(json.dumps(whole, ensure_ascii=False).encode(errors="replace"))
    except (ValueError, RecursionError):
        return []
    return whole if isinstance(whole, list) else [whole]


def object_in(text: str) -> dict[str, Any] | None:
    """The one JSON object that a text is; None if it is anything else."""
    found = documents(text.encode(errors="replace"))
    return found[0] if found is not None and len(found) == 1 and text.lstrip()[:1] == "{" else None


def dig(entry: Mapping[str, Any], name: str) -> Any:
    """The field of that name, or of that path; None if there is neither."""
    found = entry.get(name)
    if found is not None or "." not in name:
        return found
    head, dot, rest = name.partition(".")
    while dot:
        inner = entry.get(head)
        if isinstance(inner, dict) and (found := dig(inner, rest)) is not None:
            return found
        more, dot, rest = rest.partition(".")
        head = f"{head}.{more}"
    return None


def first(entry: Mapping[str, Any], names: Sequence[str]) -> Any:
    """The first of these fields that is there and neither null nor empty; None if none is."""
    for name in names:
        found = entry.get(name) if "." not in name else dig(entry, name)
        if found is not None and found != "":
            return found
    return None


def first_text(entry: Mapping[str, Any], names: Sequence[str]) -> str:
    """The first of these fields that is a text, and not empty; a number counts as its digits. "" if none is."""
    for name in names:
        found = entry.get(name) if "." not in name else dig(entry, name)
        if isinstance(found, str) and found:
            return found
        if isinstance(found, int) and not isinstance(found, bool):
            return str(found)
    return ""


class Paths(Mapping[str, Any]):
    """An object whose nested fields answer to their paths as well, for `DecodeContext.service_of`."""

    def __init__(self, entry: Mapping[str, Any]) -> None:
        self._entry = entry

    def __getitem__(self, name: str) -> Any:
        found = dig(self._entry, name)
        if found is None:
            raise KeyError(name)
        return found

    def get(self, name: str, default: Any = None) -> Any:
        found = dig(self._entry, name)
        return default if found is None else found

    def __iter__(self) -> Iterator[str]:
        return iter(self._entry)

    def __len__(self) -> int:
        return len(self._entry)


def leaves(entry: Mapping[str, Any], prefix: str = "", depth: int = 0) -> Iterator[tuple[str, Any]]:
    """Every field that is no object, by its path with dots. Objects nested deeper than 8 are left out."""
    for key, inner in entry.items():
        name = f"{prefix}{key}"
        if not isinstance(inner, dict):
            yield name, inner
        elif depth < 8:
            yield from leaves(inner, f"{name}.", depth + 1)


Claims = Callable[[Mapping[str, Any]], bool]
Put = Callable[[Mapping[str, Any], DecodeContext, Rows], None]


def recogniser(claims: Claims) -> Callable[[bytes, DecodeContext], bool]:
    """A format's `recognise`: JSON, and every object in it is one of the format's."""

    def recognise(value: bytes, context: DecodeContext) -> bool:
        found = documents(value)
        return found is not None and all(map(claims, found))

    return recognise


def decoder(put: Put) -> Callable[[bytes, DecodeContext, Rows], None]:
    """A format's `decode`. Raises DecodeError (reason "bad_json") for what is no JSON object."""

    def decode(value: bytes, context: DecodeContext, rows: Rows) -> None:
        found = documents(value)
        if found is None:
            raise DecodeError("no JSON object, array of objects, or object a line", reason="bad_json")
        for entry in found:
            put(entry, context, rows)

    return decode


def text_of(value: bytes) -> str | None:
    """The text that bytes are; None if they are none.

    UTF-8; what is mostly ASCII but holds other bytes (Latin-1, a character cut in the middle) is text as well, with
    replacement characters. NUL bytes make it none, except one at the end (GELF over TCP).
    """
    try:
        text = value.decode()
    except UnicodeDecodeError:
        readable = len(value.translate(None, _NOT_PRINTABLE))
        if readable < 8 or readable < len(value) * 0.7:
            return None
        text = value.decode(errors="replace")
    text = text.removesuffix("\x00")
    return None if "\x00" in text else text


_NOT_PRINTABLE = bytes(set(range(256)) - set(range(32, 127)) - set(b"\t\n\r\x1b"))
