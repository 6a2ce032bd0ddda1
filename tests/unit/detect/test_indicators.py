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


@pytest.mark.parametrize(("name", "meaning"), [
    ("system.disk.io_time", "disk"), ("system.disk.operation_time", "disk"), ("system.disk.io", "disk"),
    ("container_fs_io_time_seconds_total", "disk"), ("container_fs_writes_bytes_total", "disk"),
    ("node_disk_io_time_seconds_total", "disk"), ("node_disk_written_bytes_total", "disk"), ("iowait", "disk"),
    ("container_pressure_io_waiting_seconds_total", "disk"), ("container.blockio.io_service_bytes_recursive", "disk"),
    ("system.filesystem.utilization", "space"), ("container_fs_usage_bytes", "space"), ("k8s.pod.filesystem.usage", "space"),
    ("kubelet_volume_stats_used_bytes", "space"), ("disk.percent", "space"),
    ("container_fs_limit_bytes", "limit"), ("kubelet_volume_stats_capacity_bytes", "limit"), ("disk.used", "usage"),
    ("node_filesystem_avail_bytes", "other"), ("kubelet_volume_stats_available_bytes", "other"),
    ("container_fs_inodes_free", "other"), ("system.filesystem.inodes.usage", "other"), ("cpu_iowait", "cpu"),
    ("postgresql.blks_read", "other"), ("redis_used_memory", "usage")])
def test_disks_are_worked_and_filled(name: str, meaning: str) -> None:
    assert indicator_of(SeriesKey("pg", name)) == meaning
