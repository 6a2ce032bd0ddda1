"""OTLP's JSON encoding as typed documents that answer like the protobuf messages, so that one code reads both.

By the specification: lowerCamelCase, 64-bit numbers as text (numbers are taken as well), enums as numbers (their names
are taken as well), ids in hexadecimal, unknown fields ignored. `null` is the default, as protobuf's JSON has it.
"""

from __future__ import annotations

from typing import Any, ClassVar

import msgspec
from msgspec import UNSET, Struct, UnsetType

# 64 bits do not fit into a float; a time of a careless producer may come as one nevertheless.
Number = int | float | None
_Text = str | None


class Message(Struct, rename="camel"):
    """What protobuf's messages have and decoders ask for."""

    oneof: ClassVar[tuple[str, ...]] = ()

    def WhichOneof(self, group: str) -> str | None:  # noqa: N802
        """The field of the one group this message has that is set."""
        return next((name for name in self.oneof if getattr(self, name) is not UNSET
                     and getattr(self, name) is not None), None)

    def HasField(self, name: str) -> bool:  # noqa: N802
        return getattr(self, name) is not UNSET and getattr(self, name) is not None


class ArrayValue(Message):
    values: list[AnyValue] | None = None


class KeyValueList(Message):
    values: list[KeyValue] | None = None


class AnyValue(Message):
    string_value: str | UnsetType | None = UNSET
    bool_value: bool | UnsetType | None = UNSET
    int_value: int | UnsetType | None = UNSET
    double_value: float | UnsetType | None = UNSET
    array_value: ArrayValue | UnsetType | None = UNSET
    kvlist_value: KeyValueList | UnsetType | None = UNSET
    bytes_value: str | UnsetType | None = UNSET
    oneof: ClassVar = ("string_value", "bool_value", "int_value", "double_value", "array_value", "kvlist_value",
                       "bytes_value")


class KeyValue(Message):
    key: _Text = ""
    value: AnyValue | None = None


class Resource(Message):
    attributes: list[KeyValue] | None = None


class LogRecord(Message):
    time_unix_nano: Number = 0
    observed_time_unix_nano: Number = 0
    severity_number: int | str | None = 0
    severity_text: _Text = ""
    body: AnyValue | None = None
    attributes: list[KeyValue] | None = None
    trace_id: _Text = ""
    event_name: _Text = ""


class ScopeLogs(Message):
    log_records: list[LogRecord] | None = None


class ResourceLogs(Message):
    resource: Resource | None = None
    scope_logs: list[ScopeLogs] | None = None


class Point(Message):
    attributes: list[KeyValue] | None = None
    time_unix_nano: Number = 0
    start_time_unix_nano: Number = 0
    flags: int | None = 0


class NumberPoint(Point):
    as_double: float | UnsetType | None = UNSET
    as_int: int | UnsetType | None = UNSET
    oneof: ClassVar = ("as_double", "as_int")


class _Distribution(Point):
    count: int | None = 0
    sum: float | UnsetType | None = UNSET
    min: float | UnsetType | None = UNSET
    max: float | UnsetType | None = UNSET


class HistogramPoint(_Distribution):
    bucket_counts: list[int] | None = None
    explicit_bounds: list[float] | None = None


class Buckets(Message):
    offset: int | None = 0
    bucket_counts: list[int] | None = None


class ExponentialPoint(_Distribution):
    scale: int | None = 0
    zero_count: int | None = 0
    zero_threshold: float | None = 0.0
    positive: Buckets | None = None
    negative: Buckets | None = None


class ValueAtQuantile(Message):
    quantile: float | None = 0.0
    value: float | None = 0.0


class SummaryPoint(_Distribution):
    quantile_values: list[ValueAtQuantile] | None = None


class Gauge(Message):
    data_points: list[NumberPoint] | None = None


class Sum(Gauge):
    aggregation_temporality: int | str | None = 0
    is_monotonic: bool | None = False


class Histogram(Message):
    data_points: list[HistogramPoint] | None = None
    aggregation_temporality: int | str | None = 0


class ExponentialHistogram(Message):
    data_points: list[ExponentialPoint] | None = None
    aggregation_temporality: int | str | None = 0


class Summary(Message):
    data_points: list[SummaryPoint] | None = None


class Metric(Message):
    name: _Text = ""
    unit: _Text = ""
    gauge: Gauge | UnsetType | None = UNSET
    sum: Sum | UnsetType | None = UNSET
    histogram: Histogram | UnsetType | None = UNSET
    exponential_histogram: ExponentialHistogram | UnsetType | None = UNSET
    summary: Summary | UnsetType | None = UNSET
    oneof: ClassVar = ("gauge", "sum", "histogram", "exponential_histogram", "summary")


class Scope(Message):
    name: _Text = ""


class ScopeMetrics(Message):
    scope: Scope | None = None
    metrics: list[Metric] | None = None


class ResourceMetrics(Message):
    resource: Resource | None = None
    scope_metrics: list[ScopeMetrics] | None = None


class Status(Message):
    code: int | str | None = 0


class Span(Message):
    trace_id: _Text = ""
    span_id: _Text = ""
    parent_span_id: _Text = ""
    name: _Text = ""
    kind: int | str | None = 0
    start_time_unix_nano: Number = 0
    end_time_unix_nano: Number = 0
    attributes: list[KeyValue] | None = None
    status: Status | None = None


class ScopeSpans(Message):
    spans: list[Span] | None = None


class ResourceSpans(Message):
    resource: Resource | None = None
    scope_spans: list[ScopeSpans] | None = None


class Requests(Message):
    """A JSON document: one of the three requests, or several."""

    resource_logs: list[ResourceLogs] | UnsetType | None = UNSET
    resource_metrics: list[ResourceMetrics] | UnsetType | None = UNSET
    resource_spans: list[ResourceSpans] | UnsetType | None = UNSET


_decode = msgspec.json.Decoder(Requests, strict=False).decode


def parse(value: bytes) -> Requests:
    """Raises msgspec.ValidationError for wrong types, msgspec.DecodeError for what is no JSON, RecursionError."""
    return _decode(value)


def converted(document: dict[str, Any]) -> Requests:
    """The same of a parsed document."""
    return msgspec.convert(document, Requests, strict=False)
