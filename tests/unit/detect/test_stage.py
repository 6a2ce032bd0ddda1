"""The stage as a whole, on made-up telemetry of gateway -> orders -> cart, and mail -> smtp apart."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detect.detectors.registry import DETECTORS, make_detectors
from detect.stage import Detection, DetectionConfig
from detect.types import Incident
from ingest.types import Batch, Change, ExternalAlert, Level, LogBatch, MetricBatch, SeriesKey, TraceBatch, Watermark

# MetricForecast squares the distance of a series' first value from an empty range, which is infinite; the result is
# thrown away. Remove this when it no longer does.
pytestmark = pytest.mark.filterwarnings("ignore:overflow encountered in square:RuntimeWarning")

SECOND = 10**9
START = 1_800_000_000 * SECOND
CALLS = frozenset({("gateway", "orders"), ("orders", "cart"), ("mail", "smtp")})
SERVICES = ("gateway", "orders", "cart", "mail", "smtp")
Row = tuple[int, SeriesKey, float]

def batch(rows: Sequence[Row] = (), changes: Sequence[Change] = (), alerts: Sequence[ExternalAlert] = (),
          logs: Sequence[tuple[int, str, Level, str]] = ()) -> Batch:
    table = tuple(dict.fromkeys(key for _, key, _ in rows))
    at = {key: i for i, key in enumerate(table)}
    names = tuple(dict.fromkeys(s for _, s, _, _ in logs))
    empty = np.zeros(0, np.int64)
    return Batch(
        logs=LogBatch(np.array([t for t, *_ in logs], np.int64),
                      np.array([names.index(s) for _, s, _, _ in logs], np.int32),
                      np.full(len(logs), -1, np.int32), np.array([lv for *_, lv, _ in logs], np.int8),
                      [text for *_, text in logs], [""] * len(logs), names),
        metrics=MetricBatch(np.array([t for t, _, _ in rows], np.int64),
                            np.array([at[k] for _, k, _ in rows], np.int32),
                            np.array([v for *_, v in rows], np.float64), table),
        traces=TraceBatch(empty, empty.astype(np.int32), empty.astype(np.int32), empty, empty.astype(bool),
                          empty.astype(np.int8), [], [], [], (), empty.astype(np.int32), empty.astype(np.int32),
                          empty.astype(np.int8)),
        changes=tuple(changes), alerts=tuple(alerts), dead_letters=(), watermark=Watermark())

Override = Callable[[int, str, str], float | None]

def history(seconds: int, override: Override = lambda t, service, name: None) -> list[Row]:
    """Rows of a healthy system at 1 Hz; `override(second, service, metric)` puts another value in."""
    rng = np.random.default_rng(7)
    rows: list[Row] = []
    for t in range(seconds):
        for service in SERVICES:
            usual = {"process.up": 1.0, "process.responsive": 1.0, "process.restarts": 0.0,
                     "http.server.error_ratio": float(rng.random() < 0.05) * 0.02,
                     "http.server.latency_p95_seconds": 0.05 + 0.005 * float(rng.random()),
                     "http.server.requests_per_second": float(rng.poisson(30))}
            for name, value in usual.items():
                there = override(t, service, name)
                rows.append((START + t * SECOND + 1, SeriesKey(service, name, f"{service}-1"),
                             value if there is None else there))
    return rows

def cuts(rows: Sequence[Row], sizes: Iterable[int]) -> list[list[Row]]:
    out, at = [], 0
    for size in sizes:
        out.append(list(rows[at:at + size]))
        at += size
    out.append(list(rows[at:]))
    return [piece for piece in out if piece]



CONFIG = DetectionConfig(bucket_seconds=1.0, allowed_lateness_seconds=2.0)


def outage(*down: str, since: int = 60) -> Override:
    def override(t: int, service: str, name: str) -> float | None:
        return 0.0 if t >= since and service in down and name == "process.up" else None
    return override


def run(pieces: Sequence[Batch], stage: Detection | None = None) -> dict[str, Incident]:
    """The newest state of every incident."""
    stage = stage or Detection(CONFIG)
    found = {i.id: i for piece in pieces for i in stage.step(piece, CALLS).incidents}
    return found | {i.id: i for i in stage.flush(CALLS).incidents}


def test_a_healthy_system_is_quiet() -> None:
    assert run([batch(history(150))]) == {}


def test_an_innocent_rollout_opens_no_incident() -> None:
    rows = history(120, lambda t, s, n: 0.0 if (t, s, n) == (70, "cart", "process.up") else None)
    rollout = Change(START + 70 * SECOND, "cart", "rollout", "v2", "v1", "deployer")
    assert run([batch(rows, changes=[rollout])]) == {}


def test_a_dead_process_is_a_critical_incident_with_its_name() -> None:
    (incident,) = run([batch(history(90, outage("cart")))]).values()
    assert (incident.severity, incident.title, incident.state) == ("critical", "cart is down", "open")
    assert incident.first_signal_ns == START + 60 * SECOND


def test_users_errors_name_the_incident_and_pull_its_cause_in() -> None:
    def override(t: int, service: str, name: str) -> float | None:
        if t >= 60 and service == "gateway" and name.endswith("error_ratio"):
            return 0.38
        return outage("cart")(t, service, name)
    (incident,) = run([batch(history(90, override))]).values()
    assert incident.title == "gateway fails for 38% of requests"
    assert incident.services == ("cart", "gateway")
    assert {m.signal_id for m in incident.members} == {s.id for s in incident.signals}


def test_two_outages_in_separate_components_are_two_incidents() -> None:
    found = run([batch(history(90, outage("cart", "smtp")))])
    assert sorted(i.services for i in found.values()) == [("cart",), ("smtp",)]


def test_an_incident_closes_after_recovery() -> None:
    def override(t: int, service: str, name: str) -> float | None:
        return 0.0 if 60 <= t < 75 and service == "cart" and name == "process.up" else None
    (incident,) = run([batch(history(110, override))]).values()
    assert incident.state == "closed"
    assert incident.closed_ns > START + 75 * SECOND


@settings(max_examples=8, deadline=None)
@given(st.lists(st.integers(1, 900), max_size=8))
def test_the_cut_into_batches_does_not_matter(sizes: list[int]) -> None:
    rows = history(80, outage("cart", "mail", since=50))
    whole = run([batch(rows)])
    parts = run([batch(piece) for piece in cuts(rows, sizes)])
    assert {i: (x.title, x.services, x.signals) for i, x in parts.items()} == {
        i: (x.title, x.services, x.signals) for i, x in whole.items()}
    assert len(whole) == 2


def test_restored_in_the_middle_it_goes_on_the_same() -> None:
    rows = history(90, outage("cart"))
    pieces = [batch(piece) for piece in cuts(rows, [1500, 400])]
    straight = run(pieces)
    first = Detection(CONFIG)
    seen = {i.id: i for piece in pieces[:2] for i in first.step(piece, CALLS).incidents}
    second = Detection(CONFIG)
    second.restore(first.snapshot())
    assert seen | run(pieces[2:], second) == straight


def test_one_clock_far_in_the_future_stops_nothing() -> None:
    rows = history(90, outage("cart"))
    ahead = (START + 10**6 * SECOND, SeriesKey("mail", "process.up", "mail-9"), 1.0)
    for at in (0, 1, 1000):
        pieces = [batch(rows[:at])] if at else []
        found = run([*pieces, batch([ahead]), *(batch(piece) for piece in cuts(rows[at:], [500]))])
        assert [i.title for i in found.values()] == ["cart is down"]


def test_a_real_gap_is_crossed_without_walking_through_it() -> None:
    stage = Detection(CONFIG)
    stage.step(batch(history(60)), CALLS)
    year = 365 * 86400 * SECOND
    later = [(ts + year, key, value) for ts, key, value in history(60)]
    closed = [len(stage.step(batch(piece), CALLS).observations.ts_ns) for piece in cuts(later, [300, 300])]
    assert 0 < sum(closed) <= 62


def test_a_storm_of_alerts_folds_into_one_incident_per_component() -> None:
    stage = Detection(CONFIG)
    stage.step(batch(history(40)), CALLS)
    alerts = [ExternalAlert(f"rule{n % 300}", SERVICES[n % 5], f"f{n}", "firing", START + 40 * SECOND, 0, "warning")
              for n in range(100_000)]
    found = run([batch(history(45)[-150:], alerts=alerts)], stage)
    assert sorted(i.services for i in found.values()) == [("cart", "gateway", "orders"), ("mail", "smtp")]
    assert sum(s.count for i in found.values() for s in i.signals) >= 100_000


def test_the_cut_into_batches_does_not_move_alerts() -> None:
    alerts = [ExternalAlert(f"rule{n}", SERVICES[n % 3], f"f{n}", "firing", START + (30 + n) * SECOND, 0, "warning")
              for n in range(40)]
    rows = history(90)

    def found(pieces: int) -> list[tuple[str, int, tuple[str, ...], list[tuple[str, int]]]]:
        stage, incidents = Detection(replace(CONFIG, detectors=("external_alert",))), {}
        ends = np.linspace(0, 90, pieces + 1)[1:] * SECOND + START
        for begin, end in zip([0, *ends[:-1]], ends, strict=True):
            piece = batch([r for r in rows if begin <= r[0] < end], alerts=[a for a in alerts if begin <= a.starts_ns < end])
            incidents.update((i.id, i) for i in stage.step(piece, CALLS).incidents)
        incidents.update((i.id, i) for i in stage.flush(CALLS).incidents)
        return sorted((i.id, i.opened_ns, i.services, sorted((s.id, s.start_ns) for s in i.signals))
                      for i in incidents.values())

    whole = found(1)
    assert whole[0][1] == START + 30 * SECOND
    assert [found(pieces) for pieces in (3, 7, 45)] == [whole] * 3


def test_every_registered_detector_survives_a_snapshot() -> None:
    for name in DETECTORS:
        (one,), (other,) = make_detectors([name], "t", ()), make_detectors([name], "t", ())
        other.restore(one.snapshot())
        assert other.snapshot() == one.snapshot()


def test_a_template_that_merges_is_no_new_template() -> None:
    """Errors with a name in them: known since the warm-up, whatever id they get when the name turns into a value."""
    from detect.detectors.base import BucketWindow
    from detect.detectors.logs import Logs, LogsConfig
    from detect.templates.miner import TemplateMiner

    def window(n: int, names: list[str]) -> BucketWindow:
        lines = [f"connection to {name} refused after timeout" for name in names]
        ids = [miner.resolve(miner.template_id(line, "web")) for line in lines]
        counts = {("web", i): 10 for i in ids}
        return BucketWindow(n * 10**10, 10**10, (), np.zeros(0), counts, frozenset(counts), merged=tuple(miner.take_merged()))

    miner, detector = TemplateMiner(), Logs(LogsConfig(warm_up=3))
    for n in range(6):
        assert detector.step(window(n, ["alpha", "beta"])) == []
    assert detector.step(window(6, ["gamma"])) != []  # an error that nobody saw before
    later = [s for n, name in enumerate(["delta", "epsilon", "zeta", "eta"]) for s in detector.step(window(7 + n, [name]))]
    last = miner.template_id("connection to theta refused after timeout", "web")
    assert miner.text(last) == "connection to <*> refused after timeout"
    assert not [s for s in later if s.template_id == last]
