"""From the wire to the diagnosis: of a service's five pods one is bad, and it is that one which is named."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from ingest.types import Record
from opsmend.pipeline import Pipeline, PipelineConfig
from rootcause.types import Diagnosis

S, T0 = 10**9, 1_790_000_000
PODS = [f"cart-7d4f9c-{end}" for end in ("a1b2c", "d3e4f", "g5h6i", "j7k8l", "m9n0p")]
NODES = dict(zip(PODS, ("node-1", "node-2", "node-3", "node-1", "node-2"), strict=True))
STEPS, ONSET, STEP_SECONDS = 90, 66, 5


def resource(service: str, pod: str, node: str) -> dict[str, Any]:
    told = {"service.name": service, "k8s.pod.name": pod, "k8s.namespace.name": "shop", "k8s.node.name": node}
    return {"attributes": [{"key": key, "value": {"stringValue": value}} for key, value in told.items()]}


def spans(rng: np.random.Generator, second: int, struck: list[str], fault: str) -> dict[str, Any]:
    """Fifty requests to `front`, each of which asks one pod of `cart`, as OTLP's JSON."""
    rows: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for _ in range(50):
        trace, ids = rng.bytes(16).hex(), [rng.bytes(8).hex() for _ in range(3)]
        pod, start = PODS[int(rng.integers(5))], second * S + int(rng.integers(STEP_SECONDS * S))
        took, fails = int(rng.normal(20, 3) * 1e6), False
        if pod in struck:
            took, fails = (took * 12, False) if fault == "slow" else (took, rng.random() < 0.8)

        def one(n: int, kind: int, name: str, took: int, of: str = trace, own: list[str] = ids, start: int = start,
                fails: bool = fails) -> dict[str, Any]:
            return {"traceId": of, "spanId": own[n], "parentSpanId": own[n - 1] if n else "", "name": name, "kind": kind,
                    "startTimeUnixNano": str(start), "endTimeUnixNano": str(start + took),
                    "status": {"code": 2} if fails else {}}

        rows.setdefault(("front", "front-6c-x1", "node-1"), []).extend(
            [one(0, 2, "GET /", took + 4_000_000), one(1, 3, "GET", took + 2_000_000)])
        rows.setdefault(("cart", pod, NODES[pod]), []).append(one(2, 2, "GET /cart", took))
    return {"resourceSpans": [{"resource": resource(*of), "scopeSpans": [{"spans": found}]} for of, found in rows.items()]}


def metrics(rng: np.random.Generator, second: int, struck: list[str]) -> dict[str, Any]:
    """What each pod tells of itself, and `front` of its calls, as OTLP's JSON."""
    def gauge(name: str, value: float) -> dict[str, Any]:
        return {"name": name, "gauge": {"dataPoints": [{"timeUnixNano": str(second * S), "asDouble": value}]}}

    share = {pod: 0.8 if pod in struck else float(np.clip(rng.normal(0.002, 0.001), 0, 1)) for pod in PODS}
    mean = float(np.mean(list(share.values())))
    told = {("cart", pod, NODES[pod]): [gauge("http.server.error_ratio", share[pod]), gauge(
        "http.server.requests_per_second", rng.normal(10, 1))] for pod in PODS}
    told["front", "front-6c-x1", "node-1"] = [gauge("http.server.error_ratio", mean + rng.normal(0.002, 0.0005)),
                                              gauge("http.server.requests_per_second", rng.normal(50, 2))]
    return {"resourceMetrics": [{"resource": resource(*of), "scopeMetrics": [{"metrics": found}]}
                                for of, found in told.items()]}


def diagnosed(source: str, bad: list[str], fault: str = "errors") -> tuple[Pipeline, Diagnosis]:
    """The newest diagnosis after two minutes of the fault."""
    rng, pipeline, newest = np.random.default_rng(1), Pipeline(PipelineConfig()), None
    calls = Record("telemetry", 0, 0, T0 * 1000, json.dumps({
        "type": "metric", "ts": T0 * S, "service": "front", "peer": "cart", "name": "client.requests_per_second",
        "value": 50.0}).encode())
    pipeline.step([calls])
    for k in range(STEPS):
        second = T0 + STEP_SECONDS * k
        struck = bad if k >= ONSET else []
        body = spans(rng, second, struck, fault) if source == "spans" else metrics(rng, second, struck)
        out = pipeline.step([Record("telemetry", 0, k + 1, second * 1000, json.dumps(body).encode())])
        newest = out.diagnoses[-1] if out.diagnoses else newest
    assert newest is not None, "no incident was opened"
    return pipeline, newest


@pytest.mark.parametrize(("source", "fault"), [("spans", "errors"), ("spans", "slow"), ("metrics", "errors")])
def test_one_pod_of_five_is_named_with_the_machine_it_runs_on(source: str, fault: str) -> None:
    pipeline, diagnosis = diagnosed(source, [PODS[2]], fault)
    assert pipeline.graph.instances["cart"] == NODES
    first = diagnosis.suspects[0]
    assert (first.service, first.peer, first.instances) == ("cart", "", (PODS[2],)) and not diagnosis.cannot_tell
    said = [e.text for e in first.evidence]
    assert any(f"of its instances only {PODS[2]}" in text for text in said), said
    assert any("these run on node-3" in text for text in said), said


def test_all_pods_are_the_service() -> None:
    _, diagnosis = diagnosed("spans", PODS)
    assert (diagnosis.suspects[0].service, diagnosis.suspects[0].instances) == ("cart", ())
