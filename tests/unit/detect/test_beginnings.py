"""A counter that is there with the first thing that it counts: seen at once, and never a burst for want of a past."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence

import numpy as np
import pytest

from detect.config import DetectionConfig
from detect.stage import Detection
from ingest.decode import Decoder
from ingest.types import Record
from opsmend.runners.quix_envelope import rows_of
from opsmend.runners.quix_sharding import Sharding

T0 = 1_790_000_000
CONFIG = DetectionConfig(bucket_seconds=10.0, allowed_lateness_seconds=0.0)
Counter = tuple[str, dict[str, str], float]
"""(name, labels, value)"""


def otlp(second: int, counters: Sequence[Counter], *, start: int | None = None, instance: str = "cart-1",
         scope: str = "") -> Record:
    """One export of a service's counters; `start`: since when all of them say that they count."""
    of_start = {} if start is None else {"startTimeUnixNano": str((T0 + start) * 10**9)}
    metrics = [{"name": name, "sum": {"aggregationTemporality": 2, "isMonotonic": True, "dataPoints": [{
        "attributes": [{"key": k, "value": {"stringValue": v}} for k, v in labels.items()], "asDouble": value,
        "timeUnixNano": str((T0 + second) * 10**9), **of_start}]}} for name, labels, value in counters]
    body = {"resourceMetrics": [{
        "resource": {"attributes": [{"key": "service.name", "value": {"stringValue": "cart"}},
                                    {"key": "service.instance.id", "value": {"stringValue": instance}}]},
        "scopeMetrics": [{"scope": {"name": scope}, "metrics": metrics}]}]}
    return Record("t", 0, second, (T0 + second) * 1000, json.dumps(body).encode())


def clock(seconds: int) -> list[Record]:
    """Time goes on, by somebody else's logs."""
    return [Record("t", 1, s, (T0 + s) * 1000, b'{"type":"log","service":"other","ts":%d,"message":"x"}' % (T0 + s))
            for s in range(seconds)]


def rates(records: Sequence[Record], seconds: int, name: str = "http_requests_total", **labels: str) -> list[float]:
    """Per bucket, NaN where unknown."""
    detection = Detection(CONFIG)
    every = sorted([*clock(seconds), *records], key=lambda r: r.timestamp_ms)
    seen = detection.step(Decoder().decode(every), calls=frozenset()).observations
    rows = [n for n, key in enumerate(seen.series) if key.name == name and set(labels.items()) <= set(key.labels)]
    return np.nansum(seen.values[:, rows], 1, where=np.isfinite(seen.values[:, rows]), initial=0).tolist() if rows else []


def scrapes(seconds: int, first_failure: int, failures: Callable[[int], float], *, step: int = 10) -> list[Record]:
    return [otlp(s, [("http_requests_total", {"code": "200"}, 1000.0 + 5 * s),
                     *([("http_requests_total", {"code": "500"}, failures(s))] if s >= first_failure else [])])
            for s in range(5, seconds, step)]


def test_the_first_failures_are_counted_in_the_bucket_that_they_are_in() -> None:
    found = rates(scrapes(100, 45, lambda s: 30.0 if s >= 45 else 0.0), 100, code="500")
    assert found[4] == pytest.approx(3.0) and found[5:9] == [0.0] * 4, "30 in the 10 s since the last scrape, then none"


def test_scraped_twice_a_minute_it_is_the_rate_of_the_half_minute() -> None:
    found = rates(scrapes(200, 95, lambda s: 60.0, step=30), 200, code="500")
    assert max(found) == found[9] == pytest.approx(2.0)


def test_failures_with_a_metric_of_their_own_belong_to_that_of_all() -> None:
    ends = {"client": "front", "server": "cart"}
    records = [otlp(s, [("traces_service_graph_request_total", ends, 10.0 * s),
                        *([("traces_service_graph_request_failed_total", ends, 50.0)] if s >= 45 else [])])
               for s in range(5, 100, 10)]
    assert rates(records, 100, "client.error_ratio")[4] == pytest.approx(0.5)


def test_the_first_scrape_of_a_target_is_no_burst() -> None:
    new = [otlp(s, [("http_requests_total", {"code": "500"}, 10.0**6)], instance="cart-2") for s in range(45, 100, 10)]
    assert sum(rates([*scrapes(100, 999, float), *new], 100, code="500")) == 0
    labelled = [otlp(s, [("http_requests_total", {"code": "500", "pod": "b"}, 10.0**6)]) for s in range(45, 100, 10)]
    assert sum(rates([*scrapes(100, 999, float), *labelled], 100, code="500")) == 0, "nor where a label names the place"


def test_labels_that_are_changed_on_the_way_are_no_burst() -> None:
    before = [otlp(s, [("http_requests_total", {"code": "200"}, 10.0**6 + s)]) for s in range(5, 45, 10)]
    after = [otlp(s, [("http_requests_total", {"code": "200", "zone": "a"}, 10.0**6 + s)]) for s in range(45, 100, 10)]
    found = rates([*before, *after], 100)
    assert max(found) == pytest.approx(1.0)


def test_a_start_of_ours_from_nothing_makes_no_burst() -> None:
    found = rates(scrapes(100, 0, lambda s: 10.0**6), 100, code="500")
    assert sum(found) == 0
    old = [otlp(s, [("http_requests_total", {"code": "500"}, 10.0**6)], start=-3600) for s in range(5, 100, 10)]
    assert sum(rates(old, 100)) == 0, "it says itself that it is old"
    young = [otlp(s, [("http_requests_total", {"code": "500"}, 10.0**6)], start=-5) for s in range(5, 100, 10)]
    assert sum(rates(young, 100)) == 0, "it began before we listened: what it counts since may have been told already"


def test_a_start_of_ours_from_the_store_goes_on_the_same() -> None:
    every = sorted([*clock(100), *scrapes(100, 45, lambda s: 30.0)], key=lambda r: r.timestamp_ms)
    decoder, whole = Decoder(), Detection(CONFIG)
    expected = whole.step(decoder.decode(every), calls=frozenset()).observations
    for cut in range(40, 100, 7):
        first, second = Detection(CONFIG), Detection(CONFIG)
        first.step(decoder.decode(every[:cut]), calls=frozenset())
        second.restore(first.snapshot())
        seen = second.step(decoder.decode(every[cut:]), calls=frozenset()).observations
        rows = len(seen.ts_ns)
        at = [seen.series.index(key) for key in expected.series]
        assert np.array_equal(seen.values[:, at], expected.values[-rows:], equal_nan=True)


def test_a_target_that_began_while_we_listened_is_counted_from_its_start() -> None:
    began = [otlp(s, [("http_requests_total", {"code": "500"}, 40.0)], start=41) for s in range(45, 100, 10)]
    assert rates(began, 100)[4] == pytest.approx(4.0), "of a bucket at least: 40 in 10 s, not 40 in 4 s"
    scraper = [otlp(s, [("http_requests_total", {"code": "500"}, 10.0**6)], start=41,
                    scope="github.com/open-telemetry/opentelemetry-collector-contrib/receiver/prometheusreceiver")
               for s in range(45, 100, 10)]
    assert sum(rates(scraper, 100)) == 0, "a scraper says when it scraped first"


def remote_write(second: int, created: float) -> list[Record]:
    labels = {"job": "cart", "instance": "cart:80", "code": "500"}
    at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(T0 + second))
    return [Record("t", 0, second * 2, (T0 + second) * 1000, json.dumps({
        "name": name, "value": str(value), "timestamp": at, "labels": {"__name__": name, **labels}}).encode())
        for name, value in (("http_requests_total", 40.0), ("http_requests_created", created))]


def test_prometheus_tells_it_with_created() -> None:
    young = [r for s in range(45, 60, 10) for r in remote_write(s, T0 + 41)]
    found = rates(young, 80)
    assert found and found[4] == pytest.approx(4.0)
    old = [r for s in range(45, 60, 10) for r in remote_write(s, T0 - 900)]
    assert sum(rates(old, 80)) == 0


def test_a_shard_is_told_as_well() -> None:
    batch = Decoder().decode([otlp(45, [("a_total", {}, 1.0), ("b_total", {}, 40.0)], start=41)])
    assert sorted(batch.metrics.begun.values()) == [(T0 + 41) * 10**9] * 2
    sharding = Sharding("default", 4, envelope_rows=1, envelope_bytes=10_000)
    told = [rows_of(envelope) for _, envelope in sharding.split(batch, T0 * 10**9, {}, ())]
    begun = {one.metrics.series_table[i].name: at for one in told for i, at in one.metrics.begun.items()}
    assert begun == dict.fromkeys(("a_total", "b_total"), (T0 + 41) * 10**9)
