"""Spans end to end on one core: `python bench/spans.py [--spans N] [--json FILE]`.

OTLP requests in protobuf of 400 spans each, ten per poll (a shop of twelve services with databases, a cache and a queue;
server and client spans, resources with instance, pod and node) through the decoder, the service graph and the buckets of
detection: the code that the service runs, in one thread. Figures are CPU time, microseconds a span.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections.abc import Iterator
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parent.parent)

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from detect.stage import Detection, DetectionConfig
from ingest.decode import Decoder
from ingest.types import Record
from rootcause.graph import GraphBuilder

T0_NS = 1_790_000_000 * 10**9
PER_REQUEST = 400
PER_POLL = 10
SERVICES = [f"service-{n}" for n in range(12)]
BACKENDS = {"postgresql": "db.system.name", "redis": "db.system", "kafka": "messaging.system"}


def requests(spans: int) -> Iterator[bytes]:
    """Each from one instance of one service: half server spans, half client spans, of which a third call backends."""
    dice = random.Random(7)
    parents: list[bytes] = [dice.randbytes(8) for _ in range(50)]
    for n in range(spans // PER_REQUEST):
        request = ExportTraceServiceRequest()
        group = request.resource_spans.add()
        at = n % len(SERVICES)
        for name, value in (("service.name", SERVICES[at]), ("service.instance.id", f"{SERVICES[at]}-{n // 12 % 2}"),
                            ("k8s.pod.name", f"{SERVICES[at]}-7d4b9c-{n // 12 % 2}"), ("k8s.node.name", f"node-{n % 3}"),
                            ("telemetry.sdk.language", "python"), ("service.version", "1.4.2")):
            group.resource.attributes.add(key=name).value.string_value = value
        scope = group.scope_spans.add()
        fresh = []
        for i in range(PER_REQUEST):
            begin = T0_NS + n * 10**8 + i * 10**5
            span = scope.spans.add(trace_id=dice.randbytes(16), span_id=dice.randbytes(8), kind=2 + i % 2,
                                   name=f"GET /things/{i % 9}", start_time_unix_nano=begin,
                                   end_time_unix_nano=begin + 10**6 * dice.randint(1, 90))
            span.attributes.add(key="http.request.method").value.string_value = "GET"
            if i % 2:
                span.parent_span_id = scope.spans[i - 1].span_id
                backend = dice.choice(list(BACKENDS)) if i % 6 == 1 else ""
                if backend:
                    span.attributes.add(key=BACKENDS[backend]).value.string_value = backend
                span.attributes.add(key="server.address").value.string_value = backend or SERVICES[(at + 1 + i % 3) % 12]
                fresh.append(span.span_id)
            else:
                span.parent_span_id = dice.choice(parents)
        parents = fresh
        yield request.SerializeToString()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--spans", type=int, default=80_000)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    values = list(requests(given.spans))
    decoder, graph, detection = Decoder(), GraphBuilder(), Detection(DetectionConfig())
    cpu = dict.fromkeys(("decode", "graph", "detect"), 0.0)
    records = [Record("traces", 0, n, T0_NS // 10**6 + n, value) for n, value in enumerate(values)]
    for begin in range(0, len(records), PER_POLL):
        ticks = [time.process_time()]
        batch = decoder.decode(records[begin:begin + PER_POLL])
        ticks.append(time.process_time())
        found = graph.step(batch)
        batch = graph.resolved(batch)
        ticks.append(time.process_time())
        detection.step(batch, calls=found.edges)
        ticks.append(time.process_time())
        for i, step in enumerate(cpu):
            cpu[step] += ticks[i + 1] - ticks[i]
    spans = len(values) * PER_REQUEST
    told = {"spans": spans, "edges": len(found.edges), "spans_per_cpu_second": round(spans / sum(cpu.values())),
            "us_per_span": {step: round(1e6 * seconds / spans, 2) for step, seconds in cpu.items()}}
    print(json.dumps(told))
    if given.json:
        given.json.write_text(json.dumps(told, indent=1) + "\n")


if __name__ == "__main__":
    main()
