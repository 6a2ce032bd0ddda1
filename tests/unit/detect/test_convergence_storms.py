"""Storms of alerts in one system: runs are cut into faults, ids stay, and people have the last word."""

from __future__ import annotations

import msgspec
import numpy as np

from detect.convergence.converge import Convergence, ConvergenceConfig
from detect.detectors.base import BucketWindow
from detect.detectors.external_alert import ExternalAlerts
from detect.types import Incident
from ingest.types import ExternalAlert

S = 10**9
T0 = 1_700_000_000
SERVICES = ("front", "cart", "orders", "pay", "mail", "db")
CALLS = frozenset({("front", "cart"), ("front", "orders"), ("cart", "db"), ("orders", "db"), ("orders", "pay"),
                   ("orders", "mail"), ("pay", "db")})


def fault(at: float, seed: int, count: int = 60, rules: int = 12) -> list[ExternalAlert]:
    """Alerts all over the system that thin out after `at`; each rule and service fires once."""
    rng = np.random.default_rng(seed)
    keys = rng.permutation(rules * len(SERVICES))[:count]
    starts = at + np.sort(rng.exponential(40.0, count))
    return [ExternalAlert(f"rule{k // len(SERVICES)}", SERVICES[k % len(SERVICES)], f"f{k}", "firing",
                          int((T0 + t) * S), 0, "warning") for k, t in zip(keys.tolist(), starts.tolist(), strict=True)]


class Service:
    """The detector and the convergence, fed with alerts by the time they come in."""

    def __init__(self) -> None:
        self.detector, self.convergence = ExternalAlerts(), Convergence(ConvergenceConfig(), "t")
        self.now = 0
        self.said: list[Incident] = []

    def play(self, alerts: list[tuple[float, ExternalAlert]], until: int) -> list[Incident]:
        """Incidents as they stand, by onset."""
        while self.now < until:
            here = tuple(a for t, a in alerts if self.now <= t < self.now + 10)
            window = BucketWindow((T0 + self.now) * S, 10 * S, (), np.zeros(0), alerts=here)
            self.said += self.convergence.step(window.ts_ns, self.detector.step(window), CALLS)
            self.now += 10
        newest = {i.id: i for i in self.said}
        return sorted((i for i in newest.values() if i.state == "open"), key=lambda i: (i.first_signal_ns, i.id))


def in_time(alerts: list[ExternalAlert]) -> list[tuple[float, ExternalAlert]]:
    return [(a.starts_ns / S - T0, a) for a in alerts]


TWO = in_time([*fault(5, 1), *fault(205, 2)])


def test_one_fault_is_one_incident_with_a_reason_for_each_member() -> None:
    for seed in range(5):
        (incident,) = Service().play(in_time(fault(5, seed)), 400)
        assert len(incident.members) == len(incident.signals) == 60
        assert all(m.why for m in incident.members)
        assert {m.signal_id for m in incident.members} == {s.id for s in incident.signals}


def test_a_second_fault_in_its_tail_is_split_off_and_the_first_keeps_its_id() -> None:
    service = Service()
    first = service.play(TWO, 100)[0].id
    found = service.play(TWO, 500)
    assert found[0].id == first
    assert len(found) == 2
    assert abs(found[1].first_signal_ns / S - T0 - 205) < 20
    assert found[0].touches == (found[1].id,)
    ids = [s.id for i in found for s in i.signals]
    assert len(ids) == len(set(ids))
    opened = [i for i in service.said if i.id == found[1].id]
    assert opened[0].split_from in ("", first)
    assert len({i.id for i in service.said}) == 2  # nothing opened and went in between


def test_a_late_alert_joins_the_fault_that_it_began_in() -> None:
    service = Service()
    early = ExternalAlert("late", "db", "late", "firing", (T0 + 30) * S, 0, "warning")
    found = service.play([*TWO, (400.0, early)], 500)
    assert [any(s.series == "late" for s in i.signals) for i in found] == [True, False]


def test_resolved_alerts_leave_and_the_incident_closes() -> None:
    over = [(300.0, msgspec.structs.replace(a, status="resolved", ends_ns=(T0 + 300) * S)) for a in fault(5, 1)]
    service = Service()
    assert service.play([*in_time(fault(5, 1)), *over], 400) == []
    assert [i.state for i in service.said][-1] == "closed"


def test_one_alert_that_flaps_is_no_string_of_incidents() -> None:
    flaps = []
    for at in range(5, 905, 60):
        one = ExternalAlert("Down", "cart", "f", "firing", (T0 + at) * S, 0, "critical")
        flaps += [(float(at), one),
                  (at + 30.0, msgspec.structs.replace(one, status="resolved", ends_ns=(T0 + at + 30) * S))]
    service = Service()
    service.play(flaps, 1200)
    assert len({i.id for i in service.said}) == 2  # the first time, and from when it had come back


def test_a_replay_and_a_restart_give_the_same() -> None:
    whole, part = Service(), Service()
    whole.play(TWO, 500)
    for until in (150, 230, 300, 500):
        part.play(TWO, until)
        detector, convergence = ExternalAlerts(), Convergence(ConvergenceConfig(), "t")
        detector.restore(part.detector.snapshot())
        convergence.load(msgspec.msgpack.decode(msgspec.msgpack.encode(part.convergence.dump())))
        part.detector, part.convergence = detector, convergence
    assert part.said == whole.said


def test_what_a_person_has_put_together_is_not_cut_again() -> None:
    service = Service()
    one, two = service.play(TWO, 300)
    service.convergence.merge(two.id, one.id)
    service.play(TWO, 600)
    assert len(service.convergence) == 1


def test_what_a_person_has_split_is_not_merged_again() -> None:
    service = Service()
    alerts = in_time(fault(5, 1))
    (one,) = service.play(alerts, 60)
    service.convergence.split(one.id, {s.id for s in one.signals[::2]}, "by-hand")
    service.play(alerts, 400)
    assert len(service.convergence) == 2


def test_systems_that_no_call_connects_are_told_apart_however_they_overlap() -> None:
    there = [msgspec.structs.replace(a, service=f"other.{a.service}", fingerprint=f"o{a.fingerprint}") for a in fault(6, 2)]
    calls = CALLS | {(f"other.{a}", f"other.{b}") for a, b in CALLS}
    detector, convergence = ExternalAlerts(), Convergence(ConvergenceConfig(), "t")
    newest: dict[str, Incident] = {}
    for now in range(0, 400, 10):
        here = tuple(a for t, a in in_time([*fault(5, 1), *there]) if now <= t < now + 10)
        window = BucketWindow((T0 + now) * S, 10 * S, (), np.zeros(0), alerts=here)
        newest.update((i.id, i) for i in convergence.step(window.ts_ns, detector.step(window), calls))
    open_ones = [i for i in newest.values() if i.state == "open"]
    assert len(open_ones) == 2
    assert all(len({s.startswith("other.") for s in i.services}) == 1 for i in open_ones)
