"""What counts as the limit of what."""

import pytest

from detect.limits import Limit, companions, limits_of
from ingest.types import SeriesKey


def key(name: str, service: str = "db") -> SeriesKey:
    return SeriesKey(service, name, f"{service}-1")


def test_companions_by_name_within_one_instance() -> None:
    use, top, other = key("db.pool.in_use"), key("db.pool.max"), key("db.pool.max", "cart")
    assert companions((use, top, other)) == ((use, top),)
    assert limits_of((use, top, other), ()) == (Limit(use, top),)


def test_a_configured_limit_comes_before_one_by_name() -> None:
    use, top = key("db.pool.in_use"), key("db.pool.max")
    assert limits_of((use, top), (("db.pool.in_use", 50.0),)) == (Limit(use, 50.0),)


def test_a_limit_of_one_service_is_of_no_other_and_comes_before_that_of_all() -> None:
    cart, db = key("process.memory.rss", "cart"), key("process.memory.rss")
    assert limits_of((cart, db), (("cart/process.memory.rss", 7.0),)) == (Limit(cart, 7.0),)
    named = (("cart/process.memory.rss", 7.0), ("process.memory.rss", 9.0))
    assert limits_of((cart, db), named) == (Limit(cart, 7.0), Limit(db, 9.0))
    use, top, other = key("jobs.waiting"), key("jobs.most"), key("jobs.waiting", "cart")
    assert limits_of((use, top, other), (("db/jobs.waiting", "jobs.most"),)) == (Limit(use, top),)


@pytest.mark.parametrize(("usage", "limit"), [
    ("jobs.queue.depth", "jobs.queue.max"), ("process.fds.open", "process.fds_limit"),
    ("heap_memory_used_bytes", "heap_memory_limit_bytes"), ("worker_threads_count", "worker_threads_max")])
def test_companions_of_series_that_are_no_usage_by_name(usage: str, limit: str) -> None:
    assert limits_of((key(usage), key(limit)), ()) == (Limit(key(usage), key(limit)),)


@pytest.mark.parametrize(("name", "limit", "is_floor"), [
    ("disk.used_percent", 100.0, False), ("node_filesystem_utilization", 1.0, False), ("heap_used_ratio", 1.0, False),
    ("disk_free_percent", 0.0, True), ("certificate.days_left", 0.0, True), ("quota_remaining", 0.0, True)])
def test_shares_of_a_whole_and_what_is_left_of_it(name: str, limit: float, is_floor: bool) -> None:
    assert limits_of((key(name),), ()) == (Limit(key(name), limit, is_floor),)


@pytest.mark.parametrize("name", [
    "process.cpu.utilization", "http.server.error_ratio", "redis.cache_hit_ratio", "http.server.latency_p95_seconds",
    "process.memory.rss", "db.pool.max", "http.server.requests_per_second"])
def test_what_has_no_limit_by_its_name(name: str) -> None:
    assert limits_of((key(name),), ()) == ()
