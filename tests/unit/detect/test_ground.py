"""A machine that fails under services that do not call each other: one incident, and only then."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence

import pytest

from detect.config import DetectionConfig
from detect.convergence.converge import Convergence, ConvergenceConfig
from detect.convergence.ground import failing
from detect.types import Signal
from ingest.types import Record
from opsmend.pipeline import Pipeline, PipelineConfig
from rootcause.graph import GraphConfig

S = 10**9
NOW = 1_790_000_000 * S
SHOP = ("cart", "mail", "search", "ads", "tax", "wiki")
BOOKS = ("ledger", "bank", "invoice", "payroll", "audit", "vault")
RESTS_ON = frozenset([*((s, "node-1") for s in SHOP), *((s, "node-2") for s in BOOKS)])


def signal(service: str, second: float, score: float = 0.9) -> Signal:
    return Signal(f"{service}-{second}", "default", "service_level", "error_ratio", service, NOW + int(second * S),
                  NOW + int(second * S), score, f"errors|{service}")


def incidents(signals: Sequence[Signal], calls: frozenset[tuple[str, str]] = frozenset(),
              rests_on: frozenset[tuple[str, str]] = RESTS_ON) -> list[set[str]]:
    """As they come, in buckets of 10 s: the services of each that is open in the end."""
    convergence, found = Convergence(ConvergenceConfig(), "default"), {}
    for bucket in range(-1, 12):
        fresh = [s for s in signals if bucket * 10 <= (s.start_ns - NOW) / S < bucket * 10 + 10]
        found.update((i.id, i) for i in convergence.step(NOW + bucket * 10 * S, fresh, calls, rests_on))
    return sorted(({s.service for s in i.signals} for i in found.values() if i.state == "open"), key=sorted)


def test_services_of_one_machine_that_fail_at_once_are_one_incident() -> None:
    struck = [signal(s, at) for s, at in zip(SHOP[:4], (8, 11, 14, 19), strict=True)]
    assert incidents(struck) == [set(SHOP[:4])], "over two buckets, one by one"
    assert len(incidents(struck, rests_on=frozenset())) == 4, "by calls alone: a page for each"


def test_what_the_machine_says_itself_is_part_of_it() -> None:
    told = incidents([*(signal(s, 5) for s in SHOP[:4]), signal("node-1", 3)])
    assert told == [{*SHOP[:4], "node-1"}]
    assert incidents([signal("cart", 5), signal("node-1", 3)]) == [{"cart", "node-1"}]


def test_a_volume_of_two_fails_under_both() -> None:
    rests_on = RESTS_ON | {("cart", "shop/data"), ("ledger", "shop/data")}
    assert incidents([signal("cart", 5), signal("ledger", 9)], rests_on=rests_on) == [{"cart", "ledger"}]


@pytest.mark.parametrize(("signals", "why"), [
    ([signal("cart", 5), signal("mail", 6)], "two of six: two faults may well begin at once"),
    ([signal(s, 5 + 20 * n) for n, s in enumerate(SHOP[:4])], "in turn"),
    ([signal(s, 5) for s in (*SHOP[:3], *BOOKS[:3])], "as many on the other machine"),
    ([signal(s, 5, 0.3) for s in SHOP[:2]] + [signal("tax", 6)], "weak ones are no service that is struck")])
def test_otherwise_the_same_machine_says_nothing(signals: Sequence[Signal], why: str) -> None:
    alone = incidents(signals, rests_on=frozenset())
    assert incidents(signals) == alone and all(len(services) == 1 for services in alone), why


def test_what_carries_everything_tells_nothing_apart() -> None:
    everything = frozenset((s, "the-machine") for s in SHOP)
    assert len(incidents([signal(s, 5) for s in SHOP[:4]], rests_on=everything)) == 4


def test_a_fault_that_spreads_through_calls_is_not_the_machines() -> None:
    services = frozenset((*SHOP, *BOOKS))
    struck = [signal(s, 5) for s in (*SHOP[:3], *BOOKS[:2])]
    assert failing(struck, RESTS_ON, services, 12 * S) == frozenset()
    assert failing(struck[:3], RESTS_ON, services, 12 * S) == {(s, "node-1") for s in SHOP}
    calls = frozenset((SHOP[0], s) for s in (*SHOP[1:3], *BOOKS[:2]))
    assert incidents(struck, calls) == [{*SHOP[:3], *BOOKS[:2]}]


def test_the_pipeline_tells_what_rests_on_what() -> None:
    def records(second: int, *failing: str) -> list[Record]:
        at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(NOW // S + second))
        alerts = [{"status": "firing", "labels": {"alertname": "Down", "service": name, "severity": "critical"},
                   "annotations": {}, "startsAt": at, "endsAt": "0001-01-01T00:00:00Z", "fingerprint": name}
                  for name in failing]
        body = json.dumps({"version": "4", "status": "firing", "receiver": "r", "groupKey": "g", "alerts": alerts})
        tick = b'{"type":"log","service":"other","ts":%d,"message":"all is well"}' % (NOW // S + second)
        return [Record("t", 0, second, 0, tick), *([Record("t", 1, second, 0, body.encode())] if failing else [])]

    def open_after(graph: GraphConfig) -> list[tuple[str, ...]]:
        pipeline = Pipeline(PipelineConfig(detection=DetectionConfig(bucket_seconds=1.0, allowed_lateness_seconds=0.0),
                                           graph=graph))
        for second in range(50):
            pipeline.step(records(second, *(SHOP[:4] if second == 40 else ())))
        return [i.services for i in pipeline.open_incidents.values()]

    assert open_after(GraphConfig(rests_on=tuple(sorted(RESTS_ON)))) == [tuple(sorted(SHOP[:4]))]
    assert len(open_after(GraphConfig())) == 4
