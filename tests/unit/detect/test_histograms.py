"""Buckets of cumulative histograms become quantiles of the interval, and leave no series of their own in the row."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detect.buckets import Bucket, SeriesTable
from detect.derive import Derivation
from detect.histograms import quantile
from ingest.types import SeriesKey

INF = float("inf")
S = 10**9


def bucket_of(points: dict[int, tuple[int, float]]) -> Bucket:
    return Bucket(points=points)


@pytest.mark.parametrize(("name", "wanted"), [("http_request_duration_seconds_bucket", "http_request_duration_seconds_p"),
                                              ("http.server.duration.bucket", "http.server.duration.p")])
def test_quantiles_of_what_was_added_since_the_last_interval(name: str, wanted: str) -> None:
    table = SeriesTable(100)
    derivation = Derivation(table, 10.0)
    keys = [SeriesKey("cart", name, "a:1", kind="counter", labels=(("le", le), ("route", "/pay")))
            for le in ("0.1", "1", "+Inf")]
    at = [table.index(key) for key in keys]
    before, after = [1000.0, 1000.0, 1000.0], [1010.0, 1018.0, 1020.0]  # since the start all were fast
    derivation.row(bucket_of({i: (10 * S, v) for i, v in zip(at, before, strict=True)}), 10 * S)
    row = derivation.row(bucket_of({i: (20 * S, v) for i, v in zip(at, after, strict=True)}), 20 * S)
    assert np.isnan(row[at]).all()
    found = {key.name: row[table.index(key)] for key in table.keys if key.name.startswith(wanted)}
    assert found == {f"{wanted}50": pytest.approx(0.1), f"{wanted}95": pytest.approx(1.0), f"{wanted}99": pytest.approx(1.0)}
    key = next(k for k in table.keys if k.name == f"{wanted}95")
    assert (key.service, key.instance, key.labels, key.kind) == ("cart", "a:1", (("route", "/pay"),), "gauge")


def test_an_interval_without_requests_has_no_quantile() -> None:
    table = SeriesTable(100)
    derivation = Derivation(table, 10.0)
    at = [table.index(SeriesKey("a", "d_bucket", kind="counter", labels=(("le", le),))) for le in ("1", "+Inf")]
    for n in (1, 2):
        row = derivation.row(bucket_of(dict.fromkeys(at, (n * 10 * S, 5.0))), n * 10 * S)
    assert np.isnan(row).all()


def test_what_only_looks_like_a_bucket_stays() -> None:
    table = SeriesTable(100)
    derivation = Derivation(table, 10.0)
    keys = [SeriesKey("a", "leaky_bucket", kind="counter"), SeriesKey("a", "d_bucket", kind="gauge", labels=(("le", "1"),)),
            SeriesKey("a", "s3_bucket", kind="counter", labels=(("le", "north"),))]
    at = [table.index(key) for key in keys]
    for n in (1, 2):
        row = derivation.row(bucket_of(dict.fromkeys(at, (n * 10 * S, n * 10.0))), n * 10 * S)
    assert np.isfinite(row[at]).all()


@given(values=st.lists(st.floats(0.001, 99.0), min_size=1, max_size=200), q=st.sampled_from([0.5, 0.95, 0.99]))
def test_a_quantile_lies_in_the_bucket_of_the_exact_one(values: list[float], q: float) -> None:
    bounds = [0.01, 0.1, 1.0, 10.0, 100.0, INF]
    buckets = {b: float(sum(v <= b for v in values)) for b in bounds}
    exact = sorted(values)[math.ceil(q * len(values)) - 1]
    upper = next(b for b in bounds if exact <= b)
    lower = max([b for b in bounds if b < upper], default=0.0)
    assert lower <= quantile(q, buckets) <= upper


@given(buckets=st.dictionaries(st.floats(allow_nan=False), st.floats(-1e9, 1e9), max_size=6), q=st.floats(0, 1))
def test_any_buckets_give_a_number(buckets: dict[float, float], q: float) -> None:
    assert isinstance(quantile(q, buckets), float)
