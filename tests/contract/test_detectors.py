"""One contract over every detector of the registry: the same input gives the same signals, across a restart too, and
no value of a series makes it raise."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from detect.detectors.base import BucketWindow, Detector
from detect.detectors.registry import DETECTORS, make_detectors
from detect.types import Signal
from ingest.types import Change, ExternalAlert, SeriesKey
from ingest.wire.rows import MAX_VALUE

SECOND = 10**9
START = 1_790_000_000 * SECOND
SERVICES = ("gateway", "orders", "cart")
USUAL = {
    "process.up": 1.0, "process.responsive": 1.0, "process.restarts": 0.0, "http.server.error_ratio": 0.0,
    "http.server.latency_p95_seconds": 0.05, "http.server.requests_per_second": 30.0, "process.cpu.utilization": 0.2,
    "process.memory.rss": 1e8, "db_pool_in_use": 4.0, "db_pool_max": 20.0}
SERIES = tuple(SeriesKey(service, name, f"{service}-1") for service in SERVICES for name in USUAL)
LIMITS = (("db_pool_in_use", "db_pool_max"),)
BUCKETS, FAULT, OVER = 260, 150, 200
ALERT = ExternalAlert("Down", "cart", "f1", "firing", START + FAULT * SECOND, 0, "critical", "cart-1", "cart is down")


def windows() -> list[BucketWindow]:
    """A quiet time, a fault of `cart` that shows in everything, and a quiet time again."""
    dice = np.random.default_rng(5)
    out = []
    for n in range(BUCKETS):
        broken = FAULT <= n < OVER
        row = []
        for key in SERIES:
            value = USUAL[key.name] * (1 + 0.02 * float(dice.standard_normal()))
            if key.name in ("process.up", "process.responsive", "process.restarts", "db_pool_max"):
                value = USUAL[key.name]
            if broken and key.service == "cart":
                value = {"process.up": 0.0, "http.server.error_ratio": 0.7, "http.server.latency_p95_seconds": 4.0,
                         "http.server.requests_per_second": 2.0, "process.cpu.utilization": 1.0,
                         "process.memory.rss": 9e8, "db_pool_in_use": 4.0 + 0.4 * (n - FAULT)}.get(key.name, value)
            row.append(value)
        logs = {(service, "t1"): 5 for service in SERVICES}
        bad: frozenset[tuple[str, str]] = frozenset()
        if broken:
            logs["cart", "t-panic"] = 50
            bad = frozenset({("cart", "t-panic")})
        alerts = () if n not in (FAULT, OVER) else (
            ALERT if n == FAULT else msgspec.structs.replace(ALERT, status="resolved", ends_ns=START + OVER * SECOND),)
        changes = (Change(START + FAULT * SECOND, "cart", "rollout", "v2", "v1", "ci"),) if n == FAULT else ()
        out.append(BucketWindow(START + n * SECOND, SECOND, SERIES, np.array(row), logs, bad, {}, changes, alerts))
    return out


WINDOWS = windows()


def make(name: str) -> Detector:
    (detector,) = make_detectors([name], "tenant", LIMITS)
    return detector


def run(detector: Detector, some: Sequence[BucketWindow]) -> list[list[Signal]]:
    return [list(detector.step(window)) for window in some]


def check(signals: Sequence[Signal], name: str) -> None:
    for signal in signals:
        assert 0.0 <= signal.score <= 1.0
        assert signal.detector == name
        assert signal.tenant == "tenant"
        assert signal.start_ns <= signal.end_ns
        assert signal.value is None or not math.isinf(signal.value)
        assert msgspec.json.decode(msgspec.json.encode(signal), type=Signal).id == signal.id


@pytest.mark.parametrize("name", DETECTORS)
def test_the_same_input_gives_the_same_signals(name: str) -> None:
    one, other = run(make(name), WINDOWS), run(make(name), WINDOWS)
    assert one == other
    signals = [s for found in one for s in found]
    check(signals, name)
    assert any(s.service == "cart" for s in signals), "the fault went unseen"
    assert all(s.start_ns >= START + (FAULT - 30) * SECOND for s in signals if s.service == "cart")


@pytest.mark.parametrize("name", DETECTORS)
def test_ids_are_stable_and_closed_once(name: str) -> None:
    closed: set[str] = set()
    for signal in (s for found in run(make(name), WINDOWS) for s in found):
        assert signal.id not in closed, "came back under the same id"
        if not signal.is_open:
            closed.add(signal.id)
    by_id: dict[str, tuple[str, str, str, int]] = {}
    for signal in (s for found in run(make(name), WINDOWS) for s in found):
        what = (signal.service, signal.peer, signal.key, signal.start_ns)
        assert by_id.setdefault(signal.id, what) == what
    assert len(set(by_id.values())) == len(by_id)


@pytest.mark.parametrize("cut", [1, FAULT - 1, FAULT + 1, FAULT + 20, OVER, OVER + 5])
@pytest.mark.parametrize("name", DETECTORS)
def test_a_restart_in_between_changes_nothing(name: str, cut: int) -> None:
    whole = run(make(name), WINDOWS)
    first = make(name)
    before = run(first, WINDOWS[:cut])
    second = make(name)
    second.restore(first.snapshot())
    assert before + run(second, WINDOWS[cut:]) == whole
    assert make(name).snapshot() == make(name).snapshot()


# Larger values, and infinite ones, do not come out of `ingest` (ingest.wire.rows.MAX_VALUE).
STRANGE = st.sampled_from([float("nan"), 0.0, -1.0, MAX_VALUE, -MAX_VALUE, 1e-308, 5e-324, 1.0, 1e12])
CURVES: dict[str, Callable[[int], float]] = {
    "flat": lambda n: 3.0, "zero": lambda n: 0.0, "missing": lambda n: math.nan,
    "every other": lambda n: [1.0, math.nan][n % 2], "reset": lambda n: float(n % 50),
    "grows": lambda n: 1.5 ** min(n, 500), "huge now and then": lambda n: MAX_VALUE if n % 7 == 0 else 1.0,
    "huge": lambda n: [MAX_VALUE, -MAX_VALUE][n % 2], "negative": lambda n: -float(n),
}


@pytest.mark.parametrize("curve", CURVES)
@pytest.mark.parametrize("name", DETECTORS)
def test_no_curve_raises(name: str, curve: str) -> None:
    detector = make(name)
    for n in range(150):
        window = BucketWindow(START + n * SECOND, SECOND, SERIES, np.full(len(SERIES), CURVES[curve](n)))
        check(detector.step(window), name)
    detector.restore(detector.snapshot())


@pytest.mark.parametrize("name", DETECTORS)
@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(rows=st.lists(st.lists(STRANGE, min_size=len(USUAL), max_size=len(USUAL)), min_size=1, max_size=8),
       gap=st.integers(0, 10_000))
@example(rows=[[math.nan] * 8 + [0.0, 1e-308], [math.nan] * 8 + [1e-308, math.nan]], gap=0)
def test_no_values_raise(name: str, rows: list[list[float]], gap: int) -> None:
    detector = make(name)
    series = SERIES[: len(USUAL)]
    ts_ns = START
    for n in range(60):
        ts_ns += SECOND * (1 + gap * (n == 30))
        check(detector.step(BucketWindow(ts_ns, SECOND, series, np.array(rows[n % len(rows)]))), name)


@pytest.mark.parametrize("name", DETECTORS)
def test_series_that_join_later_and_none_at_all(name: str) -> None:
    detector = make(name)
    for n in range(40):
        some = SERIES[: n * len(SERIES) // 40]
        check(detector.step(BucketWindow(START + n * SECOND, SECOND, some, np.ones(len(some)))), name)
