"""Alerts of others: one signal per name, place and onset, at the time the alert says."""

from __future__ import annotations

import numpy as np

from detect.detectors.base import BucketWindow
from detect.detectors.external_alert import ExternalAlertConfig, ExternalAlerts
from detect.types import Signal
from ingest.types import ExternalAlert

S = 10**9
T0 = 1_700_000_000


def alert(starts: float, *, name: str = "Down", service: str = "cart", fingerprint: str = "f", status: str = "firing",
          ends: float = 0, severity: str = "warning") -> ExternalAlert:
    return ExternalAlert(name, service, fingerprint, status, int((T0 + starts) * S), int((T0 + ends) * S) if ends else 0,
                         severity)


def play(steps: dict[int, list[ExternalAlert]], until: int, config: ExternalAlertConfig | None = None) -> list[Signal]:
    """Everything that was said, bucket by bucket."""
    detector = ExternalAlerts(config)
    said = []
    for at in range(0, until, 10):
        said += detector.step(BucketWindow((T0 + at) * S, 10 * S, (), np.zeros(0), alerts=tuple(steps.get(at, ()))))
    return said


def test_it_starts_when_the_alert_says_however_late_it_comes() -> None:
    early, late = play({10: [alert(7.5)]}, 20)[0], play({90: [alert(7.5)]}, 100)[0]
    assert early.id == late.id
    assert early.start_ns == late.start_ns == int((T0 + 7.5) * S)


def test_repeats_and_instances_are_folded_into_the_count() -> None:
    said = play({0: [alert(1, fingerprint=f"f{n}") for n in range(50)], 10: [alert(1, fingerprint="f0")] * 100}, 20)
    assert len({s.id for s in said}) == 1
    assert said[-1].count == 150


def test_the_same_alert_with_a_new_start_is_a_new_onset() -> None:
    said = play({0: [alert(1)], 300: [alert(301)]}, 310)
    assert [(s.is_open, (s.start_ns // S) - T0) for s in said] == [(True, 1), (False, 1), (True, 301)]


def test_one_that_goes_on_is_told_again_only_when_that_is_news() -> None:
    said = play({at: [alert(at + 2), alert(at + 5), alert(at + 8)] for at in range(0, 600, 10)}, 600)
    assert len({s.id for s in said}) == 1
    assert len(said) < 20
    assert said[-1].count > 50


def test_the_same_alert_soon_again_is_a_new_onset_and_another_instance_is_not() -> None:
    """Folded, it could not be told any more which of two faults it is of."""
    for later, onsets in ((alert(13), 2), (alert(5.5), 1), (alert(13, fingerprint="other"), 1)):
        said = play({0: [alert(1)], 10: [later]}, 30)
        assert len({s.start_ns for s in said}) == onsets
    said = play({0: [alert(1)], 10: [alert(13), alert(14, fingerprint="other")]}, 20)
    assert [(s.start_ns // S - T0, s.is_open, s.count) for s in said] == [(1, True, 1), (1, False, 1), (13, True, 2)]


def test_one_that_starts_anew_over_and_over_goes_on() -> None:
    said = play({at: [alert(at)] for at in range(0, 600, 10)}, 600)
    assert sorted({s.start_ns // S - T0 for s in said}) == [0, 10, 20]
    assert said[-1].count > 50
    assert len(said) < 25
    seldom = play({at: [alert(at)] for at in range(0, 600, 30)}, 600)
    assert len({s.id for s in seldom}) == 20


def test_resolved_it_closes_at_once() -> None:
    said = play({0: [alert(1)], 20: [alert(1, status="resolved", ends=15)]}, 60)
    assert [s.is_open for s in said] == [True, False]


def test_one_that_comes_back_again_and_again_is_one_signal() -> None:
    steps: dict[int, list[ExternalAlert]] = {}
    for at in range(0, 600, 60):
        steps[at] = [alert(at + 1)]
        steps[at + 30] = [alert(at + 1, status="resolved", ends=at + 30)]
    said = play(steps, 900)
    assert len({s.id for s in said}) == 2  # the first, and one that is held from when it had come back
    assert said[-1].is_open is False


def test_a_forgotten_one_closes() -> None:
    said = play({0: [alert(1)]}, 400, ExternalAlertConfig(forget_after_seconds=200))
    assert [s.is_open for s in said] == [True, False]


def test_too_many_are_bounded_and_the_oldest_go_first() -> None:
    alerts = [alert(1, name=f"rule{n}", fingerprint=f"f{n}") for n in range(30)]
    said = play({0: alerts}, 20, ExternalAlertConfig(max_alerts=10))
    assert sum(s.is_open for s in said) == 10


def test_a_worse_severity_is_told() -> None:
    said = play({0: [alert(1)], 10: [alert(1, severity="critical")]}, 20)
    assert [s.score for s in said] == [0.6, 0.9]
