"""What the pipeline tells root cause of incidents that are over, before a restart and after it."""

from __future__ import annotations

import json
from collections.abc import Iterator

import msgspec

from detect.config import DetectionConfig
from detect.types import Incident
from ingest.types import Record
from opsmend.pipeline import CLOSED_KEPT, Pipeline, PipelineConfig
from rootcause.types import Diagnosis

START = 1_790_000_000
CONFIG = PipelineConfig(detection=DetectionConfig(bucket_seconds=1.0, allowed_lateness_seconds=0.0))
FIRST, SECOND = range(200, 260), range(340, 352)


def second(k: int) -> list[Record]:
    """Failures and latency of two services, of which `a` calls `b`; a third of the requests to `b` fail in the first fault, a
    fifth in the second."""
    failed = 0.3 if k in FIRST else 0.2 if k in SECOND else 0.0
    rows = [("b", "http.server.error_ratio", failed, ""), ("a", "http.server.error_ratio", 0.7 * failed, ""),
            ("a", "client.error_ratio", failed, "b"), ("a", "http.server.requests_per_second", 50.0 + k % 3, ""),
            ("b", "http.server.requests_per_second", 40.0 + k % 5, "")]
    return [Record("telemetry", 0, 10 * k + n, (START + k) * 1000, json.dumps(
        {"type": "metric", "ts": (START + k) * 10**9, "service": service, "name": name, "value": value}
        | ({"peer": peer} if peer else {})).encode()) for n, (service, name, value, peer) in enumerate(rows)]


def diagnosed(pipeline: Pipeline, seconds: range) -> Iterator[Diagnosis]:
    for k in seconds:
        yield from pipeline.step(second(k)).diagnoses


def test_the_rows_of_an_incident_that_closed_are_not_usual_ones_whoever_restarts_in_between() -> None:
    pipeline, incidents, states = Pipeline(CONFIG), dict[str, Incident](), dict[str, bytes]()
    for k in range(SECOND.start):
        result = pipeline.step(second(k))
        incidents |= {i.id: i for i in result.incidents}
        states |= result.states
    closed = [i for i in incidents.values() if i.state == "closed"]
    assert closed and all(i.state == "closed" for i in incidents.values())
    others = []
    for known in (closed, ()):
        other = Pipeline(CONFIG)
        other.restore(states, incidents=known, observations=pipeline.history.observations(), changes=())
        others.append(list(diagnosed(other, SECOND)))
    went_on = list(diagnosed(pipeline, SECOND))
    assert went_on and went_on[-1].suspects[0].service == "b"
    assert others[0] == went_on
    assert others[1] != went_on, "who does not know of it takes its rows for usual"


def test_incidents_are_forgotten_with_their_rows() -> None:
    pipeline = Pipeline(CONFIG)
    closed = 0
    for k in range(FIRST.stop + 1100):
        records = second(k) if k not in SECOND else []
        closed += sum(i.state == "closed" for i in pipeline.step(records).incidents)
    assert closed
    assert pipeline.closed_incidents == {}


def test_no_more_of_them_are_kept_than_a_restart_reads_back() -> None:
    pipeline = Pipeline(CONFIG)
    incident = next(i for k in range(FIRST.stop + 200) if k not in SECOND
                    for i in pipeline.step(second(k)).incidents if i.state == "closed")
    many = [msgspec.structs.replace(incident, id=f"i{k:03d}", opened_ns=incident.opened_ns + k)
            for k in range(CLOSED_KEPT + 30)]
    pipeline.restore({}, incidents=many, observations=pipeline.history.observations(), changes=())
    assert sorted(pipeline.closed_incidents) == sorted(i.id for i in many[30:])
