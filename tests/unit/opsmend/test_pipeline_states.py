"""What a step stores: the detectors' state, which is large, only when a bucket closed; and a start from it goes on the same."""

from __future__ import annotations

import json

import msgspec
import numpy as np

from detect.types import Observations
from ingest.types import Record
from opsmend.pipeline import Pipeline, PipelineConfig

START = 1_790_000_000
NONE = Observations(np.zeros(0, np.int64), (), np.zeros((0, 0)))


def second(k: int) -> list[Record]:
    """One second of a gauge of two services, a record each."""
    points = [{"resource": {"attributes": [{"key": "service.name", "value": {"stringValue": name}}]},
               "scopeMetrics": [{"metrics": [{"name": "queue.depth", "gauge": {"dataPoints": [
                   {"timeUnixNano": str((START + k) * 10**9), "asDouble": 10.0 + (k * 7) % 5}]}}]}]} for name in "ab"]
    return [Record("telemetry", 0, k, (START + k) * 1000, json.dumps({"resourceMetrics": points}).encode())]


def test_detectors_are_stored_when_a_bucket_closed_and_a_start_from_the_store_goes_on_the_same() -> None:
    pipeline, store, sizes = Pipeline(PipelineConfig()), {}, []
    for k in range(80):
        states = pipeline.step(second(k)).states
        sizes.append("detectors" in states)
        store.update(states)
        if k == 63:
            other = Pipeline(PipelineConfig())
            other.restore(dict(store), incidents=(), observations=NONE, changes=())
        if k > 63:
            result = other.step(second(k))
            assert msgspec.msgpack.decode(result.states["detect"]) == msgspec.msgpack.decode(states["detect"])
    assert 6 <= sum(sizes[1:]) <= 9, "one in ten: a bucket is ten seconds"
    assert pipeline.detection.state_entries()["series"] == 2
    assert other.snapshot() == pipeline.snapshot()


def test_state_of_before_the_split_is_read() -> None:
    pipeline, other = Pipeline(PipelineConfig()), Pipeline(PipelineConfig())
    for k in range(40):
        pipeline.step(second(k))
    other.restore(pipeline.snapshot(), incidents=(), observations=NONE, changes=())
    assert pipeline.detection.state_entries()["series"] == 2
    assert other.snapshot() == pipeline.snapshot()


def test_without_rows_nothing_large_is_stored_again() -> None:
    pipeline = Pipeline(PipelineConfig())
    for k in range(25):
        pipeline.step(second(k))
    assert "detectors" not in pipeline.step([]).states


def call(k: int, peer: str) -> list[Record]:
    line = json.dumps({"type": "metric", "ts": (START + k) * 10**9, "service": "a", "name": "client.error_ratio", "value": 0.0,
                       "peer": peer})
    return [Record("telemetry", 0, 1000 + k, (START + k) * 1000, line.encode())]


def test_the_graph_is_stored_when_something_came_and_now_and_then_and_a_start_goes_on_with_the_same() -> None:
    pipeline, store, stored = Pipeline(PipelineConfig()), {}, []
    for k in range(100):
        records = [*second(k), *call(k, "c" if k >= 50 else "b")]
        states = pipeline.step(records).states
        if "graph" in states:
            stored.append(k)
        store.update(states)
        other = Pipeline(PipelineConfig())
        other.restore(dict(store), incidents=(), observations=NONE, changes=())
        assert other.graph == pipeline.graph, "whenever it dies"
    assert stored[0] == 0
    assert 50 in stored, "a new call is stored at once"
    assert len(stored) <= 2 + 100 // 30, "nothing new: twice a minute"
    other.step(second(100) + call(100, "c"))
    pipeline.step(second(100) + call(100, "c"))
    assert other.graph == pipeline.graph
    assert msgspec.msgpack.decode(other.snapshot()["graph"])["services"] == dict.fromkeys("ab", (START + 100) * 10**9)
