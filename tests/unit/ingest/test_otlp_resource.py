"""What OTLP says of places: instance, machine, pod, volume; and of the other side of a call."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path
from typing import Any

import pytest

from ingest.decode import Decoder
from ingest.types import PEER_KINDS, Batch, Placement, Record
from ingest.wire.otlp_resource import peer_of, placement_of

T = 1_790_000_000
DATA = os.environ.get("OPSMEND_TEST_DATA", "")


def pairs(attributes: dict[str, str]) -> list[dict[str, Any]]:
    return [{"key": k, "value": {"stringValue": v}} for k, v in attributes.items()]


def spans(resource: dict[str, str], *of: dict[str, Any]) -> Batch:
    own = [{"traceId": f"{n + 1:032x}", "spanId": f"{n + 1:016x}", "startTimeUnixNano": str(T * 10**9),
            "endTimeUnixNano": str(T * 10**9 + 5_000_000), **s, "attributes": pairs(s.get("attributes", {}))}
           for n, s in enumerate(of)]
    value = {"resourceSpans": [{"resource": {"attributes": pairs(resource)}, "scopeSpans": [{"spans": own}]}]}
    return Decoder().decode([Record("traces", 0, 0, T * 1000, json.dumps(value).encode())])


def test_a_span_keeps_its_instance_its_name_and_what_it_calls() -> None:
    batch = spans({"service.name": "cart", "service.instance.id": "cart-1", "k8s.pod.name": "cart-7d4-x2",
                   "k8s.node.name": "node-3", "k8s.namespace.name": "shop", "k8s.deployment.name": "cart",
                   "k8s.persistentvolumeclaim.name": "data"},
                  {"name": "GET /cart", "kind": 2},
                  {"name": "HGET", "kind": 3, "attributes": {"db.system": "redis", "server.address": "sessions"}})
    t = batch.traces
    assert [t.vocab[i] for i in t.instance] == ["cart-1", "cart-1"]
    assert [t.vocab[i] for i in t.operation] == ["GET /cart", "HGET"]
    assert [t.vocab[i] if i >= 0 else "" for i in t.peer] == ["", "sessions"]
    assert [PEER_KINDS[i] for i in t.peer_kind] == ["service", "cache"]
    assert batch.placements == (Placement("cart", "cart-1", "node-3", "cart-7d4-x2", "shop", "cart", "shop/data"),)


@pytest.mark.parametrize(("own", "name", "kind"), [
    ({"peer.service": "bank", "server.address": "10.0.0.1"}, "bank", "service"),
    ({"server.address": "api.stripe.com"}, "api.stripe.com", "address"),
    ({"db.system.name": "postgresql", "server.address": "pg-1"}, "pg-1", "database"),
    ({"db.system": "postgresql", "net.peer.name": "localhost"}, "postgresql", "database"),
    ({"db.system": "memcached"}, "memcached", "cache"),
    ({"messaging.system": "kafka", "messaging.destination.name": "orders"}, "orders", "queue"),
    ({"http.request.method": "GET"}, "", "service"),
    ({"server.address": ["a", "b"]}, '["a","b"]', "address"),
])
def test_what_a_call_goes_to(own: dict[str, object], name: str, kind: str) -> None:
    found, at = peer_of(own)
    assert (found, PEER_KINDS[at]) == (name, kind)


def test_a_consumer_depends_on_its_queue_and_on_nobody_who_writes_there() -> None:
    batch = spans({"service.name": "mail"},
                  {"kind": 5, "attributes": {"messaging.system": "kafka", "messaging.destination.name": "orders"}},
                  {"kind": 5, "attributes": {"peer.service": "checkout"}})
    assert [batch.traces.vocab[i] if i >= 0 else "" for i in batch.traces.peer] == ["orders", ""]


@pytest.mark.parametrize(("resource", "host"), [
    ({"host.name": "node-1"}, "node-1"),
    ({"host.name": "cart-7d4-x2", "k8s.pod.name": "cart-7d4-x2"}, ""),
    ({"host.name": "3f2a9c1b77de"}, ""),  # a container's id
    ({"host.name": "cart-7d4-x2", "k8s.node.name": "node-1"}, "node-1"),
])
def test_a_host_is_a_machine(resource: dict[str, str], host: str) -> None:
    found = placement_of(resource, "cart", "")
    assert (found.host if found else "") == host


def test_a_record_that_breaks_halfway_leaves_no_placement() -> None:
    good = {"type": "span", "ts": T * 10**9, "service": "cart", "instance": "cart-1", "host": "node-1", "duration_us": 5}
    value = json.dumps(good) + "\n" + json.dumps({"type": "span", "service": "cart", "duration_us": "many"})
    batch = Decoder().decode([Record("traces", 0, 0, T * 1000, value.encode())])
    assert len(batch.dead_letters) == 1 and not batch.placements and not len(batch.traces)
    assert Decoder().decode([Record("traces", 0, 0, T * 1000, json.dumps(good).encode())]).placements == (
        Placement("cart", "cart-1", "node-1"),)


@pytest.mark.skipif(not DATA, reason="NOT TESTED against captures: OPSMEND_TEST_DATA names no directory with wire/")
@pytest.mark.parametrize("name", ["otlp-proto-traces", "otlp-json-traces", "otlp-proto-logs", "otlp-json-logs"])
def test_real_producers_say_where_they_run(name: str) -> None:
    lines = [json.loads(line) for line in Path(DATA, "wire", f"{name}.jsonl").read_text().splitlines()]
    batch = Decoder().decode([Record(r["topic"], 0, n, r["timestamp_ms"], base64.b64decode(r["value"]))
                              for n, r in enumerate(lines)])
    assert ("gateway", "gateway-0", "node-1") in {(p.service, p.instance, p.host) for p in batch.placements}
    assert all(p.pod.startswith(f"{p.service}-") for p in batch.placements if p.pod)
