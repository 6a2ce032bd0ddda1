"""Three values: fixed, not_fixed, cannot_tell; zero samples are never a success."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detect.types import Breach, Incident, Observations, Signal, SignalKind
from ingest.types import SeriesKey
from remediate.verify import Judgement, VerifyConfig, felt_by, judge, window_of
from rootcause.types import ServiceGraph

NS = 10**9
CONFIG = VerifyConfig(baseline_seconds=40, settle_seconds=10, watch_seconds=30)
FIRST, STARTED, ACTED = 100, 130, 131
Shape = Callable[[int], float]
NAN = float("nan")


def signal(kind: SignalKind, service: str = "cart", series: str = "", **fields: object) -> Signal:
    return Signal("s" + kind + service, "t", "d", kind, service, FIRST * NS, STARTED * NS, 0.9, "k", series=series,
                  usual=0.0, **fields)  # type: ignore[arg-type]


def incident(*signals: Signal) -> Incident:
    return Incident("i", "t", "f", FIRST * NS, STARTED * NS, "open", "critical", "t", ("cart",), signals, (), FIRST * NS)


def seen(shapes: Mapping[SeriesKey, Shape], until: int = 171) -> Observations:
    seconds = np.arange(50, until)
    columns = [[shape(int(s)) for s in seconds] for shape in shapes.values()]
    return Observations(seconds.astype(np.int64) * NS, tuple(shapes), np.array(columns, dtype=float).T.reshape(
        len(seconds), len(shapes)))


def judged(signals: list[Signal], shapes: Mapping[SeriesKey, Shape], felt: frozenset[str] = frozenset(),
           until: int = 171) -> Judgement:
    return judge(incident(*signals), seen(shapes, until), ACTED * NS, STARTED * NS, CONFIG, felt_by=felt)


def broken(well: float, bad: float, until: int = ACTED + 3) -> Shape:
    return lambda s: bad if FIRST <= s < until else well


def key(name: str, service: str = "cart", instance: str = "cart-1", peer: str = "") -> SeriesKey:
    return SeriesKey(service, name, instance, peer)


ERRORS, UP, RESPONSIVE = key("http.server.error_ratio"), key("process.up"), key("process.responsive")


@pytest.mark.parametrize(("signals", "shapes", "verdict"), [
    ([signal("error_ratio")], {ERRORS: broken(0.0, 0.5)}, "fixed"),
    ([signal("error_ratio")], {ERRORS: broken(0.0, 0.5, 999)}, "not_fixed"),
    ([signal("error_ratio")], {ERRORS: broken(0.2, 0.9)}, "fixed"),  # as bad as ever is as good as it gets
    ([signal("error_ratio")], {ERRORS: lambda s: NAN}, "cannot_tell"),
    ([signal("error_ratio")], {}, "cannot_tell"),
    ([signal("error_ratio")], {ERRORS: lambda s: NAN if s > ACTED else broken(0.0, 0.5)(s)}, "cannot_tell"),
    ([signal("error_ratio")], {ERRORS: broken(0.0, 0.5, 120)}, "cannot_tell"),  # it healed by itself
    ([signal("error_ratio")], {ERRORS: lambda s: NAN if FIRST <= s < ACTED else 0.0}, "cannot_tell"),
    ([signal("error_ratio")], {ERRORS: lambda s: NAN if ACTED < s < 168 else broken(0.0, 0.5)(s)}, "cannot_tell"),
    ([signal("process.down")], {UP: broken(1, 0)}, "fixed"),
    ([signal("process.down")], {UP: broken(1, 0), RESPONSIVE: broken(1, 0, 999)}, "not_fixed"),
    ([signal("hang")], {UP: lambda s: 1, RESPONSIVE: broken(1, 0)}, "fixed"),
    ([signal("crash_loop")], {UP: broken(1, 0), key("process.restarts"): lambda s: 0 if s < 100 else 9}, "fixed"),
    ([signal("crash_loop")], {UP: lambda s: s % 9 > 0 or s < 100, key("process.restarts"): lambda s: s // 9},
     "not_fixed"),
    ([signal("latency", series="http.server.latency_p95_seconds")],
     {key("http.server.latency_p95_seconds"): broken(0.05, 2.0)}, "fixed"),
    ([signal("latency", series="http.server.latency_p95_seconds")],
     {key("http.server.latency_p95_seconds"): broken(0.05, 2.0, 999)}, "not_fixed"),
    ([signal("lock_wait", "postgres")], {key("postgresql.lock_waiting", "postgres"): broken(0, 8)}, "fixed"),
    ([signal("lock_wait", "postgres")], {key("postgresql.lock_waiting", "postgres"): broken(0, 8, 999)}, "not_fixed"),
    ([signal("cache_full", "redis")], {key("redis.oom_errors_per_second", "redis"): broken(0, 8)}, "fixed"),
    ([signal("log_rate")], {key("log.lines_per_second"): broken(10, 3000)}, "fixed"),
    ([signal("log_rate")], {key("log.lines_per_second"): broken(10, 3000, 999)}, "not_fixed"),
    ([signal("metric_anomaly", series="queue.depth")], {key("queue.depth"): broken(10, 0)}, "fixed"),
    ([signal("metric_anomaly", series="queue.depth")], {key("queue.depth"): broken(10, 0, 999)}, "not_fixed"),
    ([signal("breach", breach=Breach("db.pool.in_use", 20, "up", 1, 2, 3, 0.9))],
     {key("db.pool.in_use"): broken(4, 17)}, "fixed"),
    ([signal("log_template"), signal("alert")], {ERRORS: broken(0, 0.5)}, "cannot_tell"),
])
def test_verdict(signals: list[Signal], shapes: Mapping[SeriesKey, Shape], verdict: str) -> None:
    found = judged(signals, shapes)
    assert found.verdict == verdict, found.why
    assert found.why


def test_one_of_several_that_stays_bad_decides() -> None:
    found = judged([signal("error_ratio"), signal("process.down")], {ERRORS: broken(0, 0.5, 999), UP: broken(1, 0)})
    assert found.verdict == "not_fixed"
    assert "error_ratio" in found.why


def test_instances_that_come_and_go_are_looked_at_together() -> None:
    old, new = key("process.up", instance="cart-a"), key("process.up", instance="cart-b")
    shapes: dict[SeriesKey, Shape] = {old: lambda s: NAN if s > ACTED else broken(1, 0)(s),
                                      new: lambda s: 1 if s > ACTED + 2 else NAN}
    assert judged([signal("process.down")], shapes).verdict == "fixed"


def test_one_dead_instance_is_not_hidden_by_a_live_one() -> None:
    shapes: dict[SeriesKey, Shape] = {key("process.up", instance="a"): broken(1, 0, 999),
                                      key("process.up", instance="b"): lambda s: 1}
    assert judged([signal("process.down")], shapes).verdict == "not_fixed"


def test_what_users_feel_may_not_become_worse() -> None:
    front = key("http.server.error_ratio", "gateway")
    own = {ERRORS: broken(0, 0.5)}
    felt = frozenset({"cart", "gateway"})
    assert judged([signal("error_ratio")], {**own, front: lambda s: 0.0}, felt).verdict == "fixed"
    worse = judged([signal("error_ratio")], {**own, front: lambda s: 0.8 if s > ACTED else 0.0}, felt)
    assert worse.verdict == "not_fixed"
    assert "became" in worse.why
    # What was bad before, and in no signal of this incident, belongs to another one.
    assert judged([signal("error_ratio")], {**own, front: broken(0, 0.8, 999)}, felt).verdict == "fixed"
    assert judged([signal("error_ratio")], {**own, front: lambda s: 0.8 if s > ACTED else 0.0}).verdict == "fixed"


def test_felt_by_is_the_target_and_what_nobody_calls() -> None:
    graph = ServiceGraph(("bank", "cart", "gateway", "payments", "batch"), frozenset({
        ("gateway", "cart"), ("cart", "payments"), ("payments", "bank")}), frozenset({"bank"}))
    assert felt_by(graph, "cart") == {"gateway", "cart"}
    assert felt_by(ServiceGraph((), frozenset()), "cart") == {"cart"}


def test_the_window_reaches_from_the_baseline_to_the_end_of_the_watch() -> None:
    start, end = window_of(incident(), ACTED * NS, CONFIG)
    assert start <= (FIRST - 40 - 5) * NS
    assert end == (ACTED + 40) * NS


@settings(max_examples=200, deadline=None)
@given(values=st.lists(st.one_of(st.floats(allow_nan=True, allow_infinity=True), st.just(0.0)), min_size=121,
                       max_size=121), kind=st.sampled_from(["error_ratio", "process.down", "lock_wait", "log_rate"]))
def test_fixed_needs_samples_of_the_fault_and_of_the_time_after_it(values: list[float], kind: SignalKind) -> None:
    name = {"error_ratio": "http.server.error_ratio", "process.down": "process.up",
            "lock_wait": "postgresql.lock_waiting", "log_rate": "log.lines_per_second"}[kind]
    found = judged([signal(kind)], {key(name): lambda s: values[s - 50]})
    during = np.isfinite(values[FIRST - 50:STARTED - 50 + 1]).any()
    after = np.isfinite(values[ACTED + 10 - 50:]).any()
    assert found.verdict in ("fixed", "not_fixed", "cannot_tell")
    assert found.verdict != "fixed" or (during and after)


def test_memory_that_is_not_given_back_does_not_undo_a_good_repair() -> None:
    cache, rss = key("redis.oom_errors_per_second", "redis"), key("process.memory.rss", "redis")
    shapes: dict[SeriesKey, Shape] = {cache: broken(0, 8), rss: lambda s: 1e7 if s < FIRST else 3e7}
    signals = [signal("cache_full", "redis"), signal("memory", "redis", rss.name)]
    assert judged(signals, shapes).verdict == "fixed"
    assert judged(signals[1:], shapes).verdict == "not_fixed"  # where memory is all there is, it decides


def test_growth_that_was_met_before_it_hurt_is_fixed_when_most_of_it_is_gone() -> None:
    rss = key("process.memory.rss")
    leak: Shape = lambda s: 6e7 + 1e6 * max(0, s - FIRST) if s < ACTED + 2 else 5.8e7  # noqa: E731
    on = [signal("memory", series=rss.name), signal("breach", breach=Breach(rss.name, 2e8, "up", 1, 2, 3, 0.9))]
    assert judged(on, {rss: leak}).verdict == "fixed"
    assert judged(on, {rss: lambda s: 6e7 + 1e6 * max(0, s - FIRST)}).verdict == "not_fixed"


def test_a_queue_that_drains_is_improving_and_one_that_stands_is_not() -> None:
    latency = key("http.server.latency_p95_seconds")
    draining: Shape = lambda s: 0.05 if s < FIRST else 2.5 if s < ACTED else max(0.05, 2.5 - 0.05 * (s - ACTED))  # noqa: E731
    on = [signal("latency", series=latency.name)]
    found = judged(on, {latency: draining})
    assert (found.verdict, found.is_improving) == ("not_fixed", True)
    stuck = judged(on, {latency: broken(0.05, 2.5, 999)})
    assert (stuck.verdict, stuck.is_improving) == ("not_fixed", False)
