"""What a series means, from its name."""

from __future__ import annotations

import pytest

from detect.indicators import indicator_of
from ingest.types import SeriesKey


@pytest.mark.parametrize(("name", "meaning"), [
    ("http.server.request.duration.p95", "latency"), ("http_server_request_duration_seconds_p99", "latency"),
    ("http.server.request.duration.count", "traffic"), ("http_server_request_duration_seconds_count", "traffic"),
    ("istio_request_duration_milliseconds_count", "traffic"), ("http.server.request.duration.sum", "other"),
    ("http_request_duration_seconds_sum", "other"), ("go_gc_duration_seconds_count", "other"),
    ("go_gc_duration_seconds", "other"), ("jvm.gc.duration.p95", "other"), ("process_cpu_seconds_total", "cpu"),
    ("http.server.error_ratio", "errors"), ("instance.error_ratio", "other"), ("db_pool_waiting", "saturation")])
def test_the_parts_of_a_histogram_mean_different_things(name: str, meaning: str) -> None:
    assert indicator_of(SeriesKey("cart", name)) == meaning
