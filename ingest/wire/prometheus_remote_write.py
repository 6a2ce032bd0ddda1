"""Prometheus remote-write 1.0: a snappy block (or the bare bytes) around `prometheus.WriteRequest`.

Prometheus, Grafana Agent and Alloy, Thanos, vmagent, Telegraf and the OpenTelemetry Collector send it over HTTP,
vmagent also to Kafka (`promremotewrite`); VictoriaMetrics' own variant compresses with zstd, which has been taken off
by then. Each sample is a row, each native histogram its count and sum; a sample that is NaN (staleness marker: the
series ended) is a row of NaN. Metadata and exemplars make no rows.

`_bucket` series stay what they are, counters with the label `le`: a hundred histograms of twelve buckets are 1,200
series. They say nothing by themselves; `detect` turns those of one histogram into quantiles.

Remote-write 2.0 is refused: its senders fall back to 1.0 when told (HTTP 415).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any, Final

from ingest.compression import unsnap_block
from ingest.errors import DecodeError
from ingest.types import SeriesKey
from ingest.wire.last_parsed import LastParsed
from ingest.wire.prometheus_labels import label_map, series_of
from ingest.wire.protobuf_shape import LENGTH, Shape, fields, shape_of
from ingest.wire.rows import DecodeContext, Rows

NAME = "prometheus-remote-write"
MAX_BYTES: Final = 64 * 1024 * 1024
"""Of a request, unpacked."""
_MAX_MS: Final = 2**63 // 10**6
_MAX_CACHED: Final = 200_000
_NAN: Final = float("nan")


def recognise(value: bytes, context: DecodeContext) -> bool:
    """A snappy block whose content has the shape of a write request, or that content itself."""
    return _parsed.keep(value) is not None


def decode(value: bytes, context: DecodeContext, rows: Rows) -> None:
    """Raises DecodeError: "bad_remote_write", "unsupported_version", "too_large"."""
    parsed = _parsed.take(value)
    if parsed is None:
        raise DecodeError("no remote-write request, neither as snappy block nor bare", reason="bad_remote_write")
    shape, request = parsed
    if shape == "remote-write-2":
        raise DecodeError("remote-write 2.0; configure the sender for 1.0 (protobuf_message: prometheus.WriteRequest)",
                          reason="unsupported_version")
    if request is None:
        raise DecodeError(f"larger than {MAX_BYTES} bytes when unpacked", reason="too_large")
    for series in request.timeseries:
        key = _series(tuple(series.labels), context)
        for sample in series.samples:
            rows.point(_time(sample.timestamp, context), key, sample.value)
        if series.histograms:
            _put_histograms(series.histograms, key, context, rows)


def _put_histograms(histograms: Sequence[Any], key: SeriesKey, context: DecodeContext, rows: Rows) -> None:
    """Native histograms are cumulative (but for gauge histograms): their buckets would need the interval before."""
    for histogram in histograms:
        ts_ns = _time(histogram.timestamp, context)
        count = histogram.count_float if histogram.HasField("count_float") else float(histogram.count_int)
        is_gap = histogram.sum != histogram.sum  # a staleness marker
        for what, value in (("_count", _NAN if is_gap else count), ("_sum", histogram.sum)):
            own = SeriesKey(key.service, key.name + what, key.instance, key.peer, "" if what == "_count" else key.unit,
                            "counter", key.labels)
            rows.point(ts_ns, own, value, is_extra=what == "_sum")


def _time(milliseconds: int, context: DecodeContext) -> int:
    return milliseconds * 1_000_000 if 0 < milliseconds < _MAX_MS else context.timestamp_ns


_known: dict[tuple[tuple[bytes, ...], tuple[str, ...]], SeriesKey] = {}


def _series(labels: tuple[bytes, ...], context: DecodeContext) -> SeriesKey:
    """By the bytes of the labels, which come again with every sample: four times as fast as reading them."""
    at = (labels, tuple(context.entity_from))
    found = _known.get(at)
    if found is None:
        own = label_map(_pair(label) for label in labels)
        name = own.pop("__name__", "")
        if not name:
            raise DecodeError("a series without a name", reason="bad_remote_write")
        if len(_known) >= _MAX_CACHED:
            _known.clear()
        found = _known[at] = series_of(name, own, context)
    return found


def _pair(label: bytes) -> tuple[str, str]:
    """Name and value of a Label message."""
    texts = {}
    try:
        for field in fields(label):
            if field.wire == LENGTH:
                texts[field.number] = label[field.start:field.end].decode()
    except ValueError as error:  # not protobuf, or not UTF-8
        raise DecodeError(f"a label that is none: {error}", reason="bad_remote_write") from error
    return texts.get(1, ""), texts.get(2, "")


def _parse(value: bytes) -> tuple[Shape, Any] | None:
    """The shape and the request; no request for 2.0, and none for a block that declares too much."""
    if not value:
        return None
    try:
        unpacked = unsnap_block(value, MAX_BYTES)
    except DecodeError:
        return "remote-write", None
    for content in (unpacked, value):
        if not content:
            continue
        shape = shape_of(content)
        if shape == "remote-write-2":
            return shape, None
        if shape == "remote-write":
            request = _write_request()()
            if _is_read(request, content):
                return shape, request
    return None


def _is_read(request: Any, content: bytes) -> bool:
    from google.protobuf.message import DecodeError as ProtobufError

    try:
        request.ParseFromString(content)
    except ProtobufError:
        return False
    return True


@cache
def _write_request() -> Any:
    """The message class, from the field numbers of prometheus' `prompb/remote.proto` and `types.proto`. Labels are
    left as bytes."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    kinds = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="opsmend/remote_write.proto", package="opsmend.remotewrite",
                                              syntax="proto2")

    def message(name: str, *declared: tuple[str, int, int, bool, str]) -> None:
        made = file.message_type.add(name=name)
        for field, number, kind, is_repeated, of in declared:
            made.field.add(name=field, number=number, type=kind, type_name=f".opsmend.remotewrite.{of}" if of else None,
                           label=kinds.LABEL_REPEATED if is_repeated else kinds.LABEL_OPTIONAL)

    message("Sample", ("value", 1, kinds.TYPE_DOUBLE, False, ""), ("timestamp", 2, kinds.TYPE_INT64, False, ""))
    message("Histogram", ("count_int", 1, kinds.TYPE_UINT64, False, ""), ("count_float", 2, kinds.TYPE_DOUBLE, False, ""),
            ("sum", 3, kinds.TYPE_DOUBLE, False, ""), ("timestamp", 15, kinds.TYPE_INT64, False, ""))
    message("TimeSeries", ("labels", 1, kinds.TYPE_BYTES, True, ""), ("samples", 2, kinds.TYPE_MESSAGE, True, "Sample"),
            ("histograms", 4, kinds.TYPE_MESSAGE, True, "Histogram"))
    message("WriteRequest", ("timeseries", 1, kinds.TYPE_MESSAGE, True, "TimeSeries"),
            ("metadata", 3, kinds.TYPE_BYTES, True, ""))
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("opsmend.remotewrite.WriteRequest"))


_parsed = LastParsed(_parse)
