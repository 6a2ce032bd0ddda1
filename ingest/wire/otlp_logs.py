"""OTLP log requests by the block: what surrounds the compiled loop of `otlp_scan`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ingest.types import Int64, Level, Texts
from ingest.wire.otlp import attributes_of
from ingest.wire.otlp_resource import instance_of, placement_of
from ingest.wire.otlp_scan import GROUP, SEVERITY, TIME, TRACE, WORD_END, WORD_START, gather, scan
from ingest.wire.rows import DecodeContext, LogColumns, Rows, level_of, number_level
from ingest.wire.wrapped import unwrap_rows, wrapped_in

_RECORD_BYTES = 16
"""No log record with a text is shorter: so many columns are made."""


@dataclass(frozen=True)
class ScannedLogs:
    """The records of one request."""

    value: bytes
    numbers: Int64  # [6, n], see otlp_scan
    text: Texts
    resources: Int64  # [2, m]


def scan_logs(value: bytes) -> ScannedLogs | None:
    """None for what is no request of log records with texts, or where numba is absent."""
    if not hasattr(scan, "py_func") or value[:1] != b"\x0a":
        return None
    buffer = np.frombuffer(value, np.uint8)
    most = len(value) // _RECORD_BYTES + 1
    numbers, bodies, resources = np.empty((6, most), np.int64), np.empty((2, most), np.int64), np.empty((2, most), np.int64)
    n = scan(buffer, numbers, bodies, resources)
    if n <= 0:
        return None
    texts, offsets = np.empty(len(value), np.uint8), np.empty(n + 1, np.int64)
    size = gather(buffer, bodies, n, texts, offsets)
    found = Texts(texts[:size], offsets)
    try:
        found.check()
    except UnicodeDecodeError:
        return None
    return ScannedLogs(value, numbers[:, :n], found, resources[:, :int(numbers[GROUP, n - 1]) + 1])


def put_scanned(found: ScannedLogs, context: DecodeContext, rows: Rows) -> bool:
    """Append the rows; False, and none, if many lines have to be unwrapped or a resource can't be read."""
    from google.protobuf.message import DecodeError as ProtobufError
    from opentelemetry.proto.resource.v1.resource_pb2 import Resource

    level = _levels(found)
    wrapped = wrapped_in(found.text, context, has_levels=bool(level.all()))
    if len(wrapped) > len(found.text) // 4:
        return False
    try:
        resources = [attributes_of(Resource.FromString(found.value[a:b])) for a, b in found.resources.T.tolist()]
    except ProtobufError:
        return False
    group = found.numbers[GROUP]
    for resource in resources:
        rows.placement(placement_of(resource, context.service_of(resource), instance_of(resource)))
    service = np.array([rows.names[context.service_of(r)] for r in resources], np.int32)[group]
    instance = np.array([rows.names[instance_of(r)] for r in resources], np.int32)[group]
    times = found.numbers[TIME]
    times = np.where(times > 0, times, context.timestamp_ns)
    trace_id = None
    if found.numbers[TRACE].any():
        trace_id = [found.value[at:at + 16].hex() if at else "" for at in found.numbers[TRACE].tolist()]
    columns = LogColumns(times, service, level, found.text, instance, trace_id)
    rows.log_columns(unwrap_rows(columns, wrapped, rows, lambda _: context) if wrapped else columns)
    return True


def _levels(found: ScannedLogs) -> np.ndarray[tuple[int], np.dtype[np.int8]]:
    """[n] by the number, else by the word."""
    number = found.numbers[SEVERITY]
    known = np.array([int(number_level(i)) for i in range(25)], np.int8)
    level = known[np.where((number >= 0) & (number <= 24), number, 0)]
    for i in np.flatnonzero((level == 0) & (found.numbers[WORD_END] > 0)).tolist():
        word = found.value[found.numbers[WORD_START, i]:found.numbers[WORD_END, i]].decode(errors="replace")
        level[i] = int(level_of(word) if word else Level.UNSET)
    return level
