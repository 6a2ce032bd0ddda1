"""What OpenTelemetry's attributes say of places: which instance, on which machine, in which pod, and who is called.

Source: semantic conventions 1.3x for resources (service, host, k8s), databases, messaging and network, and the names
that these attributes had before.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

import msgspec

from ingest.types import PEER_KINDS, Placement
from ingest.wire.rows import UNKNOWN_SERVICE

PEERS: Final = ("peer.service", "server.address", "net.peer.name", "db.system.name", "db.system",
                "messaging.destination.name", "messaging.system")
"""Which attribute names the other side of a call; the first that is there wins."""
NAME_PEERS: Final = frozenset(PEERS)
_SERVICE, _DATABASE, _CACHE, QUEUE, _ADDRESS = range(len(PEER_KINDS))
_CACHES: Final = frozenset({"redis", "memcached", "valkey", "keydb", "dragonfly", "hazelcast", "infinispan"})
_OWN_MACHINE: Final = frozenset({"localhost", "127.0.0.1", "::1", "[::1]", "0.0.0.0"})
_INSTANCES: Final = ("service.instance.id", "k8s.pod.name", "host.name")
_WORKLOADS: Final = ("k8s.deployment.name", "k8s.statefulset.name", "k8s.daemonset.name", "k8s.cronjob.name", "k8s.job.name")
_CONTAINER_ID: Final = re.compile(r"[0-9a-f]{12}(?:[0-9a-f]{52})?")


def as_text(value: object) -> str:
    """Text as it is; numbers, maps and lists as JSON; "" for nothing."""
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    try:
        return msgspec.json.encode(value).decode()
    except (OverflowError, RecursionError):  # an integer beyond 64 bits, which JSON may hold
        return repr(value)[:1000]


def instance_of(resource: Mapping[str, object]) -> str:
    return next((as_text(resource[name]) for name in _INSTANCES if resource.get(name)), "")


def placement_of(resource: Mapping[str, object], service: str, instance: str) -> Placement | None:
    """Where an instance runs; None where the resource tells nothing of it.

    `host.name` is the machine only outside of containers: within, it is the pod's name or the container's id.
    """
    pod = as_text(resource.get("k8s.pod.name"))
    host = as_text(resource.get("k8s.node.name"))
    if not host:
        host = as_text(resource.get("host.name"))
        if host in (pod, service) or _CONTAINER_ID.fullmatch(host):
            host = ""
    claim = as_text(resource.get("k8s.persistentvolumeclaim.name"))
    workload = next((as_text(resource[name]) for name in _WORKLOADS if resource.get(name)), "")
    if service == UNKNOWN_SERVICE or not (pod or host or claim or workload):
        return None
    namespace = as_text(resource.get("k8s.namespace.name"))
    volume = f"{namespace}/{claim}" if claim and namespace else claim
    return Placement(service, instance, host, pod, namespace, workload, volume)


def peer_of(own: Mapping[str, object]) -> tuple[str, int]:
    """(name of the other side or "", index into PEER_KINDS), from the attributes of a client, producer or consumer span.

    >>> peer_of({"db.system.name": "redis", "server.address": "sessions.internal"})
    ('sessions.internal', 2)
    """
    database = own.get("db.system.name") or own.get("db.system")
    kind = _SERVICE
    if database:
        kind = _CACHE if str(database).lower() in _CACHES else _DATABASE
    elif own.get("messaging.system"):
        kind = QUEUE
    for name in PEERS:
        found = as_text(own.get(name))
        if found and not (kind and found in _OWN_MACHINE):  # "localhost" does not tell one database from the next
            if kind == _SERVICE and name in ("server.address", "net.peer.name"):
                kind = _ADDRESS
            return found, kind
    return "", kind
