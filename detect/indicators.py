"""From a metric's name to what it means: one table, used by detectors, root cause and verification."""

from __future__ import annotations

import re
from typing import Final, Literal, get_args

from ingest.types import SeriesKey

Indicator = Literal[
    "up",  # 1 the process runs, 0 it does not
    "responsive",  # 1 it answers its health check in time
    "restarts",  # cumulative or per-interval restarts
    "errors",  # share of requests that fail, 0..1
    "latency",  # seconds, a high quantile or mean
    "traffic",  # requests per second
    "saturation",  # used share of a bounded resource, 0..1, or waiters on it
    "usage",  # absolute use of a bounded resource (its limit is a companion series)
    "limit",  # the companion: what `usage` may not cross
    "cpu",  # cores or share
    "memory",  # bytes
    "disk",  # how much a disk is worked: share of time, seconds, bytes or operations per second
    "space",  # taken of a disk or volume: a share, or bytes
    "lock_wait",  # sessions waiting, or seconds waited
    "cache_full",  # refused or evicted writes per second
    "other",
]
INDICATORS: Final[tuple[str, ...]] = get_args(Indicator)

# First match wins. Names are lower-cased with every separator made "_".
_PATTERNS: Final[tuple[tuple[str, Indicator], ...]] = (
    (r"^(scrape|promhttp)_", "other"),  # of whoever collects, not of the service that is collected from
    (r"(^|_)gc_|^instance_|(latency|duration|response_time|seconds)(_[a-z]+)?_sum$", "other"),
    (r"(latency|duration|response_time)(_[a-z]+)?_count$", "traffic"),  # of a histogram: how many were measured
    (r"(^|_)(responsive|health_check|probe_success|healthy)$", "responsive"),
    (r"(^|_)up$", "up"),
    (r"restarts?(_total)?$", "restarts"),
    (r"(error|failure|fail|5xx)_?(ratio|rate|share)$|_errors?_ratio$", "errors"),
    (r"oom_errors|evicted|evictions|rejected_writes", "cache_full"),
    (r"lock_wait|blocked_sessions|blockers|oldest_transaction|locks?_waiting", "lock_wait"),
    (r"(_max|_limit|_size|_capacity)(_bytes|_connections)?$|_max_bytes$|max_connections$", "limit"),
    (r"(disk|diskio|blkio|fs|filesystem|volume(_stats)?)_(free|avail|available|inodes?|files)(_|$)", "other"),
    (r"(^|_)(disk|fs|filesystem|volume(_stats)?)_(usage|utili[sz]ation|percent)(_|$)"
     r"|(^|_)volume_stats_used_bytes|(^|_)disk_(full|space)", "space"),
    (r"(^|_)pressure_io_|^io_?wait", "disk"),
    (r"(waiting|queue_length|acquire_.*seconds|_timeouts)|(_used|_use|utilization|saturation)_?ratio$|_pending$",
     "saturation"),
    (r"^(disk|diskio|disk_io)$|(^|_)(disk|diskio|blkio|blockio|fs)_(io|busy|util|operations?|ops|pending|queue|wait|weighted|reads?|"
     r"writes?|writing|written|throughput|latency|device_usage|time|bytes)(_|$)", "disk"),
    (r"cpu", "cpu"),
    (r"in_use|connections_active|(disk|fs|filesystem)_used|(cache|redis|heap)_?memory_used|used_memory", "usage"),
    (r"memory|rss", "memory"),
    (r"latency|duration|_p\d\d(_seconds)?$|response_time", "latency"),
    (r"(requests?|calls|rps|qps|queries|traffic)(_per_second|_total|_count|_rate)?$", "traffic"),
)
_RULES: Final = tuple((re.compile(pattern), indicator) for pattern, indicator in _PATTERNS)
_SEPARATORS: Final = re.compile(r"[^a-z0-9]+")


def indicator_of(key: SeriesKey) -> Indicator:
    """The meaning of a series, from its name alone.

    >>> indicator_of(SeriesKey("cart", "http.server.error_ratio"))
    'errors'
    """
    name = _SEPARATORS.sub("_", key.name.lower())
    for pattern, indicator in _RULES:
        if pattern.search(name):
            return indicator
    return "other"
