"""A service with metrics of its own and with spans: each figure has one source."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest

from detect.buckets import Bucket, SeriesTable
from detect.derive import Derivation
from detect.indicators import indicator_of
from detect.stage import Detection, DetectionConfig
from detect.types import Incident, Observations
from ingest.decode import Decoder
from ingest.types import Record, SeriesKey
from rootcause.types import ServiceGraph
from rootcause.window import case_window

T0 = 1_790_000_000
CONFIG = DetectionConfig(bucket_seconds=10.0, allowed_lateness_seconds=5.0)


def metrics(name: str, service: str, points: Iterable[tuple[int, float]], **labels: str) -> list[tuple[int, Record]]:
    return [(t, Record("metrics", 0, t, (T0 + t) * 1000, json.dumps(
        {"labels": {"__name__": name, "service": service, **labels}, "timestamp": f"{T0 + t}", "value": str(value)}).encode()))
            for t, value in points]


def spans(service: str, seconds: int, *, per_second: int, failed: int) -> list[tuple[int, Record]]:
    """`failed` of the `per_second` requests answered each second fail; all take 20 ms."""
    out = []
    for t in range(seconds):
        found = [{"traceId": f"{t:016x}{n:016x}", "spanId": f"{t:08x}{n:08x}", "name": "GET /", "kind": 2,
                  "startTimeUnixNano": str((T0 + t) * 10**9), "endTimeUnixNano": str((T0 + t) * 10**9 + 20_000_000),
                  "status": {"code": 2 if n < failed else 1}} for n in range(per_second)]
        body: dict[str, Any] = {"resourceSpans": [{
            "resource": {"attributes": [{"key": "service.name", "value": {"stringValue": service}}]},
            "scopeSpans": [{"spans": found}]}]}
        out.append((t, Record("traces", 0, t, (T0 + t) * 1000, json.dumps(body).encode())))
    return out


def records(*parts: list[tuple[int, Record]]) -> list[Record]:
    return [record for _, record in sorted((one for part in parts for one in part), key=lambda pair: pair[0])]


def seen(*parts: list[tuple[int, Record]]) -> Observations:
    batch = Decoder().decode(records(*parts))
    assert not batch.dead_letters
    return Detection(CONFIG).step(batch, calls=frozenset()).observations


def told(found: Observations, service: str, indicator: str) -> dict[str, np.ndarray[Any, Any]]:
    """Series -> what it showed, of those that showed something."""
    return {key.name: column for key, column in zip(found.series, found.values.T, strict=True)
            if key.service == service and not key.peer and indicator_of(key) == indicator and np.isfinite(column).any()}


def window_traffic(found: Observations, service: str) -> np.ndarray[Any, Any]:
    now = int(found.ts_ns[-1])
    incident = Incident("", "", "", now, now, "open", "info", "", (), (), (), now)
    window = case_window(incident, ServiceGraph((service,), frozenset(), frozenset(), {}), found, (), baseline_seconds=1e4)
    return window.node_metrics["traffic"][:, window.services.index(service)]


def test_who_told_traffic_is_remembered_by_the_bucket_whatever_the_times_of_other_points() -> None:
    table = SeriesTable(10)
    at = table.index(SeriesKey("cart", "http.server.requests_per_second"))
    other = table.index(SeriesKey("cart", "process.memory.rss"))
    derivation = Derivation(table, 10.0)
    derivation.row(Bucket(points={at: (T0 * 10**9 + 1, 5.0), other: (T0 * 10**9 + 9 * 10**9, 1.0)}), T0 * 10**9)
    assert derivation.counted == {("cart", ""): T0 * 10**9}


def test_traffic_of_a_service_that_has_both_is_counted_once() -> None:
    counted = metrics("shop_requests_total", "cart", [(t, 20.0 * t) for t in range(0, 120, 10)])
    found = seen(counted, spans("cart", 120, per_second=2, failed=0))
    assert window_traffic(found, "cart")[1:] == pytest.approx(20.0), "spans are a tenth of it here: they are sampled"


def test_what_no_metric_tells_is_taken_from_spans() -> None:
    counted = metrics("shop_requests_total", "cart", [(t, 20.0 * t) for t in range(0, 120, 10)])
    found = seen(counted, spans("cart", 120, per_second=4, failed=1))
    assert np.nanmedian(told(found, "cart", "errors")["http.server.error_ratio"]) == 0.25
    assert np.nanmedian(told(found, "cart", "latency")["http.server.latency_p95_seconds"]) == pytest.approx(0.02)


def test_its_own_error_ratio_counts() -> None:
    own = metrics("checkout_error_ratio", "cart", [(t, 0.5) for t in range(0, 120, 10)])
    found = seen(own, spans("cart", 120, per_second=4, failed=1))
    assert list(told(found, "cart", "errors")) == ["checkout_error_ratio"]
    assert np.nanmedian(told(found, "cart", "traffic")["http.server.requests_per_second"]) == pytest.approx(4.0)


def test_traffic_that_comes_seldom_is_waited_for_and_given_up() -> None:
    counted = metrics("shop_requests_total", "cart", [(t, 20.0 * t) for t in range(0, 61, 30)])
    found = seen(counted, spans("cart", 290, per_second=2, failed=0))
    own, others = told(found, "cart", "traffic")["shop_requests_total"], told(found, "cart", "traffic")[
        "http.server.requests_per_second"]
    begin, end = int(np.flatnonzero(np.isfinite(own))[0]), int(np.flatnonzero(np.isfinite(own))[-1])
    from_spans = np.flatnonzero(np.isfinite(others))
    assert not ((from_spans >= begin) & (from_spans < end + 18)).any(), "neither in between nor for 180 s after"
    assert (from_spans >= end + 18).sum() >= 3, "the metric is gone: spans are what there is"


def test_a_minutes_metric_does_not_hide_errors_that_spans_show_at_once() -> None:
    own = metrics("checkout_error_ratio", "cart", [(t, 0.0) for t in range(0, 241, 60)])
    found = seen(own, spans("cart", 240, per_second=4, failed=1))
    assert np.isfinite(told(found, "cart", "errors")["http.server.error_ratio"]).sum() >= 18


@pytest.mark.parametrize("name", ["http_client_requests_total", "promhttp_metric_handler_requests_total"])
def test_what_it_asks_of_others_is_not_its_own_traffic(name: str) -> None:
    asked = metrics(name, "cart", [(t, 7.0 * t) for t in range(0, 120, 10)])
    found = seen(asked, spans("cart", 120, per_second=2, failed=0))
    assert np.nanmedian(told(found, "cart", "traffic")["http.server.requests_per_second"]) == pytest.approx(2.0)


def test_scrapes_are_not_answers() -> None:
    assert indicator_of(SeriesKey("cart", "scrape_duration_seconds")) == "other"


def test_who_told_its_traffic_is_known_after_a_restart() -> None:
    counted = metrics("shop_requests_total", "cart", [(t, 20.0 * t) for t in range(0, 121, 60)])
    all_of_it = records(counted, spans("cart", 260, per_second=2, failed=0))
    half = next(n for n, record in enumerate(all_of_it) if record.timestamp_ms >= (T0 + 170) * 1000)
    whole, first, second = (Detection(CONFIG) for _ in range(3))
    decoder = Decoder()
    one, two = decoder.decode(all_of_it[:half]), decoder.decode(all_of_it[half:])
    whole.step(one, calls=frozenset())
    expected = whole.step(two, calls=frozenset()).observations
    first.step(one, calls=frozenset())
    second.restore(first.snapshot())
    got = second.step(two, calls=frozenset()).observations
    assert got.series == expected.series
    assert np.array_equal(got.values, expected.values, equal_nan=True)
    assert "http.server.requests_per_second" not in told(got, "cart", "traffic"), "it is still waited for"
