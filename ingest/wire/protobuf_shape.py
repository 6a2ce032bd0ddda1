"""Which protobuf message bytes are, told by their shape: field numbers and wire types, a few levels deep.

Bytes of protobuf name no type, and the requests that come here begin alike. What tells them apart lies below: a log
record begins with a fixed-size time, a metric with a name, a span with an id of 16 bytes, a remote-write sample holds
a double and a number. Producers write the fields of a message in any order (the OpenTelemetry Collector: descending).

Only recognition walks the bytes by hand, and only as far as the first records; decoding is protobuf's own.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Final, Literal, NamedTuple

VARINT: Final = 0
FIXED64: Final = 1
LENGTH: Final = 2
FIXED32: Final = 5

Shape = Literal["logs", "metrics", "traces", "remote-write", "remote-write-2", ""]

_LOG: Final = {1: FIXED64, 2: VARINT, 3: LENGTH, 5: LENGTH, 6: LENGTH, 7: VARINT, 8: FIXED32, 9: LENGTH, 10: LENGTH,
               11: FIXED64, 12: LENGTH}
_METRIC: Final = {1: LENGTH, 2: LENGTH, 3: LENGTH, 5: LENGTH, 7: LENGTH, 9: LENGTH, 10: LENGTH, 11: LENGTH, 12: LENGTH}
_SPAN: Final = {1: LENGTH, 2: LENGTH, 3: LENGTH, 4: LENGTH, 5: LENGTH, 6: VARINT, 7: FIXED64, 8: FIXED64, 9: LENGTH,
                10: VARINT, 11: LENGTH, 12: VARINT, 13: LENGTH, 14: VARINT, 15: LENGTH, 16: FIXED32}
_SAMPLE: Final = {1: FIXED64, 2: VARINT}
_EXEMPLAR: Final = {1: LENGTH, 2: FIXED64, 3: VARINT}
_FIRST: Final = frozenset(number << 3 | LENGTH for number in (1, 3, 4, 5))
_FIRST_NEW: Final = 17
"""Field numbers from here on may be of a later version."""
_IN_DOUBT: Final[tuple[Shape, ...]] = ("logs", "metrics", "traces")
"""A span without times is not met; a metric of 16 letters whose points happen to be text might be taken for one."""
_LOOKED_AT: Final = 64
"""Records and groups looked at before bytes without anything telling count as logs."""
_SERIES_LOOKED_AT: Final = 4


class NoProtobuf(ValueError):
    """The bytes are no protobuf message."""


class Field(NamedTuple):
    """A field: number, wire type, and where its content begins and ends (for a varint: its value, twice)."""

    number: int
    wire: int
    start: int
    end: int


def fields(value: bytes, start: int = 0, end: int | None = None) -> Iterator[Field]:
    """The fields of the message in value[start:end], as they come. Raises NoProtobuf where they don't fit."""
    end = len(value) if end is None else end
    while start < end:
        tag, start = _varint(value, start, end)
        number, wire = tag >> 3, tag & 7
        if not 0 < number < 2**29:
            raise NoProtobuf("field number out of range")
        if wire == VARINT:
            content, start = _varint(value, start, end)
            yield Field(number, wire, content, content)
            continue
        if wire == LENGTH:
            size, start = _varint(value, start, end)
        elif wire in (FIXED64, FIXED32):
            size = 8 if wire == FIXED64 else 4
        else:
            raise NoProtobuf("a wire type nobody writes")
        if start + size > end:
            raise NoProtobuf("a field longer than its message")
        yield Field(number, wire, start, start + size)
        start += size


def _varint(value: bytes, start: int, end: int) -> tuple[int, int]:
    number = 0
    for at in range(start, min(end, start + 10)):
        byte = value[at]
        number |= (byte & 127) << (7 * (at - start))
        if byte < 128:
            return number, at + 1
    raise NoProtobuf("a number without an end")


def shape_of(value: bytes) -> Shape:
    """The request that the bytes are; "" if none."""
    if not value or value[0] not in _FIRST:
        return ""
    try:
        return _shape(value)
    except NoProtobuf:
        return ""


def _shape(value: bytes) -> Shape:
    top = list(islice(fields(value), _LOOKED_AT))
    if any(f.wire != LENGTH for f in top):
        return ""
    numbers = {f.number for f in top}
    if numbers <= {4, 5} and 4 in numbers:
        return "remote-write-2" if all(_is_text(value, f) for f in top if f.number == 4) else ""
    if not numbers <= {1, 3}:
        return ""
    if 3 in numbers:
        metadata = (f for f in top if f.number == 3)
        return "remote-write" if all(_is_metadata(value, f) for f in metadata) and _are_series(value, top) else ""
    if _are_series(value, top):
        return "remote-write"
    return _signal(value, top)


def _is_text(value: bytes, field: Field) -> bool:
    try:
        value[field.start:field.end].decode()
    except UnicodeDecodeError:
        return False
    return True


def _is_metadata(value: bytes, field: Field) -> bool:
    """MetricMetadata: type, family name, help, unit."""
    return _holds(value, field, {1: VARINT, 2: LENGTH, 4: LENGTH, 5: LENGTH})


def _are_series(value: bytes, top: list[Field]) -> bool:
    """TimeSeries: pairs of texts, and samples of a double and a number, or native histograms, or exemplars. Zeros are
    not written, so a sample may be empty; a series without labels is none."""
    for series in [f for f in top if f.number == 1][:_SERIES_LOOKED_AT]:
        inner = list(fields(value, series.start, series.end))
        labels = [f for f in inner if f.number == 1]
        if not 0 < len(labels) < len(inner) or any(f.wire != LENGTH or f.number > 4 for f in inner):
            return False
        if not all(_is_label(value, f) for f in labels):
            return False
        if not all(_holds(value, f, _SAMPLE) for f in inner if f.number == 2):
            return False
        if not all(_holds(value, f, _EXEMPLAR) for f in inner if f.number == 3):
            return False
    return True


def _is_label(value: bytes, field: Field) -> bool:
    inner = list(fields(value, field.start, field.end))
    return bool(inner) and all(f.number in (1, 2) and f.wire == LENGTH and _is_text(value, f) for f in inner)


def _signal(value: bytes, top: list[Field]) -> Shape:
    """Groups (resource, scopes), scopes (scope, records), records: the first record that tells decides."""
    kinds: set[Shape] = {"logs", "metrics", "traces"}
    looked = 0
    for group in top:
        for scopes in fields(value, group.start, group.end):
            if scopes.wire != LENGTH or scopes.number not in (1, 2, 3, 1000):
                return ""
            if scopes.number == 1 and not _is_resource(value, scopes):
                return ""
            if scopes.number != 2:
                continue
            for record in fields(value, scopes.start, scopes.end):
                if record.wire != LENGTH or record.number not in (1, 2, 3):
                    return ""
                if record.number != 2:
                    continue
                kinds &= _kinds_of(value, record)
                looked += 1
                if len(kinds) == 1 or looked == _LOOKED_AT:
                    return next((kind for kind in _IN_DOUBT if kind in kinds), "")
                if not kinds:
                    return ""
    return next((kind for kind in _IN_DOUBT if kind in kinds), "")


def _is_resource(value: bytes, field: Field) -> bool:
    """Attributes, each with a key, and how many were dropped; entity references since."""
    return _holds(value, field, {1: LENGTH, 2: VARINT, 3: LENGTH})


def _kinds_of(value: bytes, record: Field) -> set[Shape]:
    """What a record can be. Ids of another length and texts that are none speak against it."""
    inner = list(fields(value, record.start, record.end))
    found: set[Shape] = set()
    if _fits(inner, _LOG) and all(_size(f) in (0, 16) for f in inner if f.number == 9) and all(
            _size(f) in (0, 8) for f in inner if f.number == 10) and all(
            _is_text(value, f) for f in inner if f.number in (3, 12)) and all(
            _is_any_value(value, f) for f in inner if f.number == 5):
        found.add("logs")
    if _fits(inner, _SPAN) and all(_size(f) in (0, 16) for f in inner if f.number == 1) and all(
            _size(f) in (0, 8) for f in inner if f.number in (2, 4)) and all(
            _is_text(value, f) for f in inner if f.number in (3, 5)):
        found.add("traces")
    if _fits(inner, _METRIC) and all(_is_text(value, f) for f in inner if f.number in (1, 2, 3)) and all(
            _is_data(value, f) for f in inner if f.number in (5, 7, 9, 10, 11)):
        found.add("metrics")
    return found


def _fits(inner: list[Field], kinds: dict[int, int]) -> bool:
    return all(kinds.get(f.number) == f.wire or f.number >= _FIRST_NEW for f in inner)


def _size(field: Field) -> int:
    return field.end - field.start


def _is_any_value(value: bytes, field: Field) -> bool:
    """A body: one value of one of seven types. An empty one is no value, which may be as well."""
    kinds = {1: LENGTH, 2: VARINT, 3: VARINT, 4: FIXED64, 5: LENGTH, 6: LENGTH, 7: LENGTH, 8: VARINT}
    return _holds(value, field, kinds)


def _is_data(value: bytes, field: Field) -> bool:
    """Gauge, sum, histogram, ...: points, temporality, whether it is monotonic."""
    return _holds(value, field, {1: LENGTH, 2: VARINT, 3: VARINT})


def _holds(value: bytes, field: Field, kinds: dict[int, int]) -> bool:
    try:
        return all(kinds.get(f.number) == f.wire for f in fields(value, field.start, field.end))
    except NoProtobuf:
        return False
