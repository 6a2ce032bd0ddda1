"""Fluent Bit's and Fluentd's records in MessagePack.

A record is a map with its time in it (out_kafka), `[time, map]`, `[[time, metadata], map]` (Fluent Bit 2 and later),
or a message of the forward protocol (`[tag, time, map]`, `[tag, [[time, map], ...]]`, `[tag, packed entries]`); several
follow each other without a separator. Times are integers, doubles, or the EventTime extension (type 0).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import msgpack

from ingest.errors import DecodeError
from ingest.wire.fluent_bit import put
from ingest.wire.rows import DecodeContext, Rows

NAME = "fluent-bit-msgpack"
_FIRST_BYTES = frozenset((*range(0x80, 0xA0), 0xDC, 0xDD, 0xDE, 0xDF))
_MAX_ITEMS = 1 << 20
_EVENT_TIME = 0


def recognise(value: bytes, context: DecodeContext) -> bool:
    """The bytes are maps or arrays of MessagePack from first to last, and a record is found in each."""
    if not value or value[0] not in _FIRST_BYTES:
        return False
    try:
        return any(True for _ in _records(value))
    except DecodeError:
        return False


def decode(value: bytes, context: DecodeContext, rows: Rows) -> None:
    for time, record in list(_records(value)):
        if time is not None and "@timestamp" not in record:
            record = {**record, "@timestamp": time}
        put(record, context, rows)


def _records(value: bytes) -> Iterator[tuple[int | float | None, dict[str, Any]]]:
    count = 0
    for item in _objects(value):
        for found in _of(item):
            count += 1
            yield found
    if not count:
        raise DecodeError("no record", reason="bad_msgpack")


def _objects(value: bytes) -> Iterator[Any]:
    size = max(1, len(value))
    unpacker = msgpack.Unpacker(
        raw=False, unicode_errors="replace", strict_map_key=False, ext_hook=_extension, timestamp=1, max_buffer_size=size,
        max_array_len=min(size, _MAX_ITEMS), max_map_len=min(size, _MAX_ITEMS))
    unpacker.feed(value)
    try:
        yield from unpacker
        is_whole = unpacker.tell() == len(value)
    except (ValueError, TypeError, OverflowError, RecursionError, msgpack.UnpackException) as error:
        raise DecodeError(f"broken MessagePack: {error}", reason="bad_msgpack") from error
    if not is_whole:
        raise DecodeError("MessagePack ends early", reason="bad_msgpack")


def _extension(code: int, data: bytes) -> object:
    if code == _EVENT_TIME and len(data) == 8:
        return int.from_bytes(data[:4], "big") * 10**9 + int.from_bytes(data[4:], "big")
    return None


def _of(item: Any) -> Iterator[tuple[int | float | None, dict[str, Any]]]:
    if isinstance(item, dict):
        yield None, _named(item)
    elif isinstance(item, list) and len(item) >= 2:
        head, second = item[0], item[1]
        if isinstance(head, str):
            yield from _forwarded(item)
        elif isinstance(second, dict) and (time := _time(head)) is not None:
            yield time, _named(second)
        else:
            raise DecodeError("an array that is no record", reason="bad_msgpack")
    else:
        raise DecodeError(f"{type(item).__name__} where a record should be", reason="bad_msgpack")


def _forwarded(item: list[Any]) -> Iterator[tuple[int | float | None, dict[str, Any]]]:
    second = item[1]
    if isinstance(second, list):
        for entry in second:
            yield from _entry(entry)
    elif isinstance(second, (bytes, str)):
        packed = second if isinstance(second, bytes) else second.encode()
        for entry in _objects(packed):
            yield from _entry(entry)
    elif len(item) >= 3 and isinstance(item[2], dict) and (time := _time(second)) is not None:
        yield time, _named(item[2])
    else:
        raise DecodeError("an array that is no record", reason="bad_msgpack")


def _entry(entry: Any) -> Iterator[tuple[int | float | None, dict[str, Any]]]:
    if not (isinstance(entry, list) and len(entry) >= 2 and isinstance(entry[1], dict)):
        raise DecodeError("an entry that is no record", reason="bad_msgpack")
    yield _time(entry[0]), _named(entry[1])


def _time(value: Any) -> int | float | None:
    """In any unit; `[time, metadata]` holds it first."""
    if isinstance(value, list) and value:
        value = value[0]
    is_time = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    return value if is_time and 0 <= value < 1e20 else None


def _named(record: dict[Any, Any]) -> dict[str, Any]:
    """With text for keys and bytes, which MessagePack allows and nobody else does."""
    if not all(isinstance(key, str) for key in record):
        raise DecodeError("a field without a name", reason="bad_msgpack")
    return {key: _text(value) for key, value in record.items()}


def _text(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    if isinstance(value, dict):
        return {k if isinstance(k, str) else str(k): _text(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_text(v) for v in value]
    return value
