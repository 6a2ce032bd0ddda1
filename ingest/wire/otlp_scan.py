"""The inner loop over OTLP log requests: protobuf bytes to columns, without a Python object per record.

Compiled by numba. Reading a record through protobuf's Python objects takes 4 us, this 0.3. It takes requests whose
records all have a text for a body; at anything else (a body that is a map, a field of the wrong type or of a later
version, two resources in one group) it stops, and protobuf reads the request. Attributes of records, which are not
kept, are stepped over without a look. Field numbers: opentelemetry-proto, logs/v1/logs.proto.
"""

from __future__ import annotations

from ingest.compiled import compiled
from ingest.types import Bytes, Int64

_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5
GROUP, TIME, SEVERITY, WORD_START, WORD_END, TRACE = range(6)
"""Rows of `numbers`: the record's group, its time (or when it was observed), its severity number, where its severity
text is, and where its trace id is (0: none)."""


@compiled()
def _varint(b: Bytes, at: int, end: int) -> tuple[int, int]:
    """(value, where it ends); (0, -1) if it has no end within 9 bytes."""
    value, shift = 0, 0
    while at < end and shift < 63:
        byte = int(b[at])
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7
    return 0, -1


@compiled()
def _field(b: Bytes, at: int, end: int) -> tuple[int, int, int, int]:
    """The field at `at`: (number, wire type, where its content begins, where it ends). A varint's content is its bytes.
    Number 0 if there is none."""
    tag, at = _varint(b, at, end)
    if at < 0:
        return 0, 0, 0, 0
    number, wire = tag >> 3, tag & 7
    stop = at
    if wire == _VARINT:
        _, stop = _varint(b, at, end)
    elif wire == _LENGTH:
        size, at = _varint(b, at, end)
        if at < 0 or size > end - at:
            return 0, 0, 0, 0
        stop = at + size
    elif wire == _FIXED64:
        stop = at + 8
    elif wire == _FIXED32:
        stop = at + 4
    else:
        return 0, 0, 0, 0
    if stop < 0 or stop > end:
        return 0, 0, 0, 0
    return number, wire, at, stop


@compiled()
def _fixed64(b: Bytes, at: int) -> int:
    """Up to 2^63; what lies beyond is no time and given as 0."""
    if b[at + 7] > 127:
        return 0
    value = 0
    for i in range(7, -1, -1):
        value = (value << 8) | int(b[at + i])
    return value


@compiled()
def _body(b: Bytes, at: int, end: int) -> tuple[int, int]:
    """Where the text of an AnyValue is; (-1, 0) if it is not one text."""
    number, wire, start, stop = _field(b, at, end)
    if number != 1 or wire != _LENGTH or stop != end or start == stop:
        return -1, 0
    return start, stop


@compiled()
def _record(b: Bytes, at: int, end: int, n: int, numbers: Int64, bodies: Int64) -> bool:
    """Read one LogRecord into column n; False if it can't be taken."""
    for i in range(1, 6):
        numbers[i, n] = 0
    bodies[0, n] = -1
    observed = 0
    while at < end:
        number, wire, start, stop = _field(b, at, end)
        if number == 0 or number > 12:
            return False
        if number == 1 or number == 11:
            if wire != _FIXED64:
                return False
            if number == 1:
                numbers[TIME, n] = _fixed64(b, start)
            else:
                observed = _fixed64(b, start)
        elif number == 2:
            if wire != _VARINT:
                return False
            numbers[SEVERITY, n], _ = _varint(b, start, stop)
        elif number == 3:
            if wire != _LENGTH:
                return False
            numbers[WORD_START, n], numbers[WORD_END, n] = start, stop
        elif number == 5:
            if wire != _LENGTH or bodies[0, n] >= 0:
                return False
            bodies[0, n], bodies[1, n] = _body(b, start, stop)
            if bodies[0, n] < 0:
                return False
        elif number == 9:
            if wire != _LENGTH or (stop - start != 16 and stop != start):
                return False
            for i in range(start, stop):
                if b[i] != 0:
                    numbers[TRACE, n] = start
        elif number == 8:
            if wire != _FIXED32:
                return False
        elif number == 7:
            if wire != _VARINT:
                return False
        elif wire != _LENGTH:
            return False
        at = stop
    if numbers[TIME, n] == 0:
        numbers[TIME, n] = observed
    return bool(bodies[0, n] >= 0)


@compiled("int64(Array(uint8, 1, 'C', readonly=True), int64[:,::1], int64[:,::1], int64[:,::1])")
def scan(b: Bytes, numbers: Int64, bodies: Int64, resources: Int64) -> int:
    """Read an ExportLogsServiceRequest. Returns how many records it has; -1 if it can't be taken, -2 if the columns
    are too short.

    Out: `numbers` [6, n] as named above; `bodies` [2, n] where in `b` the texts are; `resources` [2, m] where the
    resource of each group is (0, 0: it has none).
    """
    at, n, m = 0, 0, 0
    while at < len(b):
        number, wire, start, stop = _field(b, at, len(b))
        if number != 1 or wire != _LENGTH:
            return -1
        if m >= resources.shape[1]:
            return -2
        resources[0, m] = resources[1, m] = 0
        while start < stop:
            number, wire, low, high = _field(b, start, stop)
            if wire != _LENGTH or number < 1 or number > 3:
                return -1
            if number == 1:
                if resources[1, m] != 0:
                    return -1
                resources[0, m], resources[1, m] = low, high
            elif number == 2:
                while low < high:
                    number, wire, first, last = _field(b, low, high)
                    if wire != _LENGTH or number < 1 or number > 3:
                        return -1
                    if number == 2:
                        if n >= numbers.shape[1]:
                            return -2
                        if not _record(b, first, last, n, numbers, bodies):
                            return -1
                        numbers[GROUP, n] = m
                        n += 1
                    low = last
            start = high
        m += 1
        at = stop
    return n


@compiled("int64(Array(uint8, 1, 'C', readonly=True), int64[:,::1], int64, uint8[::1], int64[::1])")
def gather(b: Bytes, bodies: Int64, n: int, out: Bytes, offsets: Int64) -> int:
    """Copy the texts one behind the other into `out`, with their `offsets` [n + 1]; returns how long they are."""
    to = 0
    offsets[0] = 0
    for i in range(n):
        for at in range(bodies[0, i], bodies[1, i]):
            out[to] = b[at]
            to += 1
        offsets[i + 1] = to
    return to
