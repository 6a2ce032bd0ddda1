"""Which instances a service has and where each runs: as the resources of telemetry and Kubernetes say it."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping
from typing import Any

import msgspec

from ingest.types import Batch, Placement
from rootcause.last_seen import is_name, room
from rootcause.owners import Owners

HOST, VOLUME = "host", "volume"
GROUND = (HOST, VOLUME)
"""What services rest on: no services themselves, and nobody calls them."""
Thing = tuple[str, str, str]
"""(service, what it rests on, host or volume)"""


class Placements:
    """`step(batch, now)`, then `rests_on(services)`, `instances(services)` and `service_of(name)`. An instance is in one
    place: the last that it named."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._at: dict[tuple[str, str], tuple[Placement, int]] = {}  # (service, instance or pod)
        self._services: dict[str, str] = {}  # instance or pod -> service, "" where several have one of this name
        self._workloads: dict[str, str] = {}  # the same of workloads
        self._owners = Owners(most)
        self._is_changed = False

    def step(self, batch: Batch, now_ns: int) -> None:
        for placement in batch.placements:
            self._put(placement, now_ns)
        self._owners.step(batch.metrics, now_ns)

    def learn(self, instances: Iterable[tuple[str, str, str]], seen_ns: int) -> None:
        """(service, instance, host) as somebody else has seen them by then; what is known to be newer stays."""
        for service, instance, host in instances:
            known = self._at.get((service, instance))
            if known is None or known[1] <= seen_ns:
                self._put(Placement(service, instance, host), seen_ns)

    def _put(self, placement: Placement, now_ns: int) -> None:
        key = placement.service, placement.instance or placement.pod
        known = self._at.get(key)
        if known is None or known[0] != placement:
            if not is_name(placement.service, placement.instance, placement.pod, placement.host, placement.volume,
                           placement.namespace, placement.workload):
                return
            self._is_changed = True
            self._name(placement)
        self._at[key] = (placement, now_ns)

    def _name(self, placement: Placement) -> None:
        for table, name in ((self._services, placement.instance), (self._services, placement.pod),
                            (self._workloads, placement.workload)):
            if name and table.setdefault(name, placement.service) != placement.service:
                table[name] = ""

    def forget(self, before_ns: int) -> None:
        """Drop what was last seen before `before_ns`, and of too many those that were seen longest ago."""
        self._owners.forget(before_ns)
        old = [key for key, (_, seen) in self._at.items() if seen < before_ns]
        left = len(self._at) - len(old)
        if left > self._most:
            order = sorted((seen, k) for k, (_, seen) in self._at.items() if seen >= before_ns)
            old += [k for _, k in order[: left - room(self._most)]]
        for key in old:
            del self._at[key]
        if old:
            self._is_changed = True
            self._services, self._workloads = {}, {}
            for placement, _ in self._at.values():
                self._name(placement)

    def settle(self) -> bool:
        """Whether something changed since this was asked last."""
        changed = self._is_changed or self._owners.is_changed
        self._is_changed = self._owners.is_changed = False
        return changed

    def _all(self, services: Container[str]) -> Iterator[tuple[str, str, str, set[str], int]]:
        """(service, instance or pod, host, volumes, last seen). A pod that no telemetry names belongs to the service that
        has the name of its workload, where there is one."""
        told = set()
        for placement, seen in self._at.values():
            host, volumes = placement.host, {placement.volume} - {""}
            if placement.pod:
                told.add(placement.pod)
                node, claims = self._owners.pod(placement.namespace, placement.pod)
                host, volumes = node or host, volumes | {_claim(placement.namespace, claim) for claim in claims}
            yield placement.service, placement.instance or placement.pod, host, volumes, seen
        for namespace, pod, seen in self._owners.pods():
            if pod not in told:
                service = self.service_of_pod(namespace, pod)
                if service in services:
                    node, claims = self._owners.pod(namespace, pod)
                    yield service, pod, node, {_claim(namespace, claim) for claim in claims}, seen

    def rests_on(self, services: Container[str]) -> dict[Thing, int]:
        """Service on host or volume -> when it was last seen there."""
        found: dict[Thing, int] = {}
        for service, _, host, volumes, seen in self._all(services):
            for thing, kind in ((host, HOST), *((volume, VOLUME) for volume in volumes)):
                if thing:
                    found[service, thing, kind] = max(seen, found.get((service, thing, kind), 0))
        return found

    def seen(self, services: Container[str]) -> dict[tuple[str, str, str], int]:
        """(service, instance, host) -> when it was last seen, for another to `learn`."""
        return {(service, instance, host): seen for service, instance, host, _, seen in self._all(services) if instance}

    def instances(self, services: Container[str]) -> Mapping[str, Mapping[str, str]]:
        """Service -> instance -> the machine it runs on, "" where nobody says."""
        found: dict[str, dict[str, str]] = {}
        for service, instance, host, _, _ in self._all(services):
            if instance and not (instance in found.get(service, {}) and not host):
                found.setdefault(service, {})[instance] = host
        return {service: dict(sorted(of.items())) for service, of in sorted(found.items())}

    def service_of_pod(self, namespace: str, pod: str) -> str:
        """As telemetry says it; else the service, or name, of its workload. "" where nobody says."""
        workload = self._owners.workload(namespace, pod)
        return self._services.get(pod) or self._workloads.get(workload) or workload

    def service_of(self, name: str) -> str:
        """The service that an instance, pod or workload of this name belongs to; "" where nobody says, or several do.

        `host:port` is looked up without the port, `pod.headless-service` by its first label (a workload is not: `mail` is
        not `mail.example.com`).
        """
        for one in (name, name.partition(":")[0], name.partition(".")[0]):
            if self._services.get(one):
                return self._services[one]
        if self._workloads.get(name):
            return self._workloads[name]
        found = {self._owners.workload(namespace, name) for namespace in self._owners.namespaces(name)}
        return next(iter(found)) if len(found) == 1 else ""

    def dump(self) -> dict[str, object]:
        return {"at": [[placement, seen] for placement, seen in self._at.values()], "owners": self._owners.dump()}

    def load(self, state: Mapping[str, Any]) -> None:
        self._at, self._services, self._workloads = {}, {}, {}
        self._owners.load(state.get("owners", []))
        for placement, seen in msgspec.convert(state.get("at", []), list[tuple[Placement, int]]):
            self._put(placement, seen)

    def __len__(self) -> int:
        return len(self._at)


def _claim(namespace: str, claim: str) -> str:
    return f"{namespace}/{claim}" if namespace else claim
