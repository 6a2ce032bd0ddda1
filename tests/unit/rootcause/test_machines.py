"""A machine beneath several services as a suspect: when, when not, and what becomes of it."""

from __future__ import annotations

import json

import numpy as np
import pytest

from detect.stage import DetectionConfig
from detect.types import Incident, Observations, Signal
from ingest.types import Record, SeriesKey
from opsmend.pipeline import Pipeline, PipelineConfig
from remediate.planner.case import entity_kind
from rootcause.stage import RootCause
from rootcause.types import Diagnosis, ServiceGraph

S, T0 = 10**9, 1_790_000_000
NAMES = tuple(f"s{n:02}" for n in range(12))
ON = {name: f"node-{n // 4}" for n, name in enumerate(NAMES)}  # four on each of three
GRAPH = ServiceGraph(NAMES, frozenset((NAMES[0], name) for name in NAMES[4:8]), kinds=dict.fromkeys(ON.values(), "host"),
                     rests_on=frozenset(ON.items()))


def diagnose(slow: dict[str, float], graph: ServiceGraph = GRAPH, instances: tuple[str, ...] = (),
             struck: tuple[str, ...] = ()) -> Diagnosis:
    """`slow`: service -> factor on its latency from second 100 on; `struck`: instances (of all services) that have it."""
    rng = np.random.default_rng(0)
    keys, columns = [], []
    for name in NAMES:
        latency = 0.05 * rng.lognormal(0, 0.05, 130)
        latency[100:] *= slow.get(name, 1.0)
        keys += [SeriesKey(name, "http.server.latency_p95_seconds"), SeriesKey(name, "http.server.requests_per_second")]
        columns += [latency, rng.normal(50, 1, 130)]
        for instance in instances:
            own = 0.05 * rng.lognormal(0, 0.05, 130)
            own[100:] *= 10.0 if instance in struck and name in slow else 1.0
            keys.append(SeriesKey(name, "instance.latency_seconds", f"{name}-{instance}"))
            columns.append(own)
    signals = tuple(Signal(n, "t", "d", "latency", n, 100 * S, 100 * S, 0.9, n) for n in slow)
    incident = Incident("i", "t", "f", 100 * S, 100 * S, "open", "warning", "", tuple(sorted(slow)), signals, (), 100 * S)
    seen = Observations(np.arange(130, dtype=np.int64) * S, tuple(keys), np.array(columns).T)
    return RootCause().diagnose(incident, graph, seen, (), 130 * S)


def test_three_of_four_services_on_one_machine_make_it_the_first_suspect() -> None:
    found = diagnose({NAMES[4]: 8.0, NAMES[5]: 6.0, NAMES[7]: 9.0})
    first = found.suspects[0]
    assert (first.service, first.probability, first.path) == ("node-1", 0.8, ("node-1",)) and not found.cannot_tell
    assert first.evidence[0].text == ("3 of 4 services on host node-1 fail or are slow and none of their callees was before, "
                                      "0 of 8 elsewhere")
    assert first.evidence[1].text == "these are s04, s05, s07"
    assert {d.service for d in first.deciding} == {NAMES[4], NAMES[5], NAMES[7]}
    assert found.p_none + sum(s.probability for s in found.suspects) <= 1 + 1e-6
    assert [s.probability for s in found.suspects] == sorted((s.probability for s in found.suspects), reverse=True)


@pytest.mark.parametrize("slow", [
    (4,), (4, 5), (4, 8, 9), (1, 5, 9), tuple(range(12))],
    ids=["one", "two by chance", "two machines", "three machines", "everybody"])
def test_no_machine_where_one_service_or_chance_would_do(slow: tuple[int, ...]) -> None:
    assert all(s.service in NAMES for s in diagnose({NAMES[n]: 8.0 for n in slow}).suspects)


def test_who_waits_for_a_slow_callee_does_not_speak_for_the_machine() -> None:
    below = ServiceGraph(NAMES, frozenset({(NAMES[4], NAMES[5]), (NAMES[5], NAMES[7])}), kinds=dict(GRAPH.kinds),
                         rests_on=GRAPH.rests_on)
    assert all(s.service in NAMES for s in diagnose({NAMES[4]: 8.0, NAMES[5]: 8.0, NAMES[7]: 8.0}, below).suspects)


def test_services_on_all_machines_speak_by_their_unusual_instances() -> None:
    spread = {name: {f"{name}-{k}": f"node-{k}" for k in range(3)} for name in NAMES}
    graph = ServiceGraph(NAMES, frozenset(), kinds={f"node-{k}": "host" for k in range(3)},
                         rests_on=frozenset((name, f"node-{k}") for name in NAMES for k in range(3)), instances=spread)
    slow = dict.fromkeys(NAMES[:5], 1.5)
    found = diagnose(slow, graph, ("0", "1", "2"), ("2",))
    assert found.suspects[0].service == "node-2"
    assert all(s.service in NAMES for s in diagnose(slow, graph, ("0", "1", "2"), ("0", "1", "2")).suspects)


def test_nothing_repairs_a_machine() -> None:
    assert entity_kind("node-1", frozenset({"process.down"}), GRAPH) == "external"
    assert entity_kind(NAMES[0], frozenset(), GRAPH) == "service"


def test_a_live_machine_is_named_from_spans_and_their_resources() -> None:
    """Records in, diagnosis out: hosts as spans tell them, signals as detectors make them."""
    rng = np.random.default_rng(1)
    pipeline = Pipeline(PipelineConfig(detection=DetectionConfig(bucket_seconds=2.0, allowed_lateness_seconds=2.0)))
    found: list[Diagnosis] = []
    for t in range(0, 460, 2):
        spans = [{"type": "span", "ts": (T0 + t) * S + k, "service": name, "instance": f"{name}-0", "host": ON[name],
                  "span_id": f"{name}{t}{k}", "kind": 2, "name": "GET", "duration_us": int(
                      20_000 * rng.lognormal(0, 0.1) * (10 if t >= 400 and ON[name] == "node-1" else 1))}
                 for name in NAMES for k in range(3)]
        found += pipeline.step([Record("t", 0, 1000 * t + n, (T0 + t) * 1000, json.dumps(span).encode())
                                for n, span in enumerate(spans)]).diagnoses
    assert found[-1].suspects[0].service == "node-1" and not found[-1].cannot_tell
    assert pipeline.graph.kind_of("node-1") == "host" and pipeline.graph.instances[NAMES[4]] == {f"{NAMES[4]}-0": "node-1"}
