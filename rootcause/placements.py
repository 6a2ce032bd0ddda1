"""Which instances a service has and where each runs: as the resources of telemetry say it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from ingest.types import Batch, Placement
from rootcause.last_seen import room

HOST, VOLUME = "host", "volume"
Thing = tuple[str, str, str]
"""(service, what it rests on, host or volume)"""


class Placements:
    """`step(batch, now)`, then `rests_on()`, `instances()` and `service_of(name)`. An instance is in one place: the last
    that it named."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._at: dict[tuple[str, str], tuple[Placement, int]] = {}  # (service, instance or pod)
        self._services: dict[str, str] = {}  # instance or pod -> service, "" where several have one of this name
        self._is_changed = False

    def step(self, batch: Batch, now_ns: int) -> None:
        for placement in batch.placements:
            self._put(placement, now_ns)

    def _put(self, placement: Placement, now_ns: int) -> None:
        key = placement.service, placement.instance or placement.pod
        known = self._at.get(key)
        if known is None or known[0] != placement:
            self._is_changed = True
            self._name(placement)
        self._at[key] = (placement, now_ns)

    def _name(self, placement: Placement) -> None:
        for name in (placement.instance, placement.pod):
            if name and self._services.setdefault(name, placement.service) != placement.service:
                self._services[name] = ""

    def forget(self, before_ns: int) -> None:
        """Drop what was last seen before `before_ns`, and of too many those that were seen longest ago."""
        old = [key for key, (_, seen) in self._at.items() if seen < before_ns]
        left = len(self._at) - len(old)
        if left > self._most:
            order = sorted((seen, k) for k, (_, seen) in self._at.items() if seen >= before_ns)
            old += [k for _, k in order[: left - room(self._most)]]
        for key in old:
            del self._at[key]
        if old:
            self._is_changed = True
            self._services = {}
            for placement, _ in self._at.values():
                self._name(placement)

    def settle(self) -> bool:
        """Whether something changed since this was asked last."""
        changed, self._is_changed = self._is_changed, False
        return changed

    def rests_on(self) -> dict[Thing, int]:
        """Service on host or volume -> when it was last seen there."""
        found: dict[Thing, int] = {}
        for placement, seen in self._at.values():
            for thing, kind in ((placement.host, HOST), (placement.volume, VOLUME)):
                if thing:
                    key = placement.service, thing, kind
                    found[key] = max(seen, found.get(key, 0))
        return found

    def instances(self) -> Mapping[str, Mapping[str, str]]:
        """Service -> instance -> the machine it runs on, "" where nobody says."""
        found: dict[str, dict[str, str]] = {}
        for (service, instance), (placement, _) in sorted(self._at.items()):
            if instance:
                found.setdefault(service, {})[instance] = placement.host
        return found

    def service_of(self, name: str) -> str:
        """The service that an instance or pod of this name belongs to; "" where nobody says, or several do.

        `host:port` is looked up without the port, `pod.headless-service` by its first label.
        """
        return self._services.get(name) or self._services.get(name.partition(":")[0]) or self._services.get(
            name.partition(".")[0], "")

    def dump(self) -> dict[str, object]:
        return {"at": [[placement, seen] for placement, seen in self._at.values()]}

    def load(self, state: Mapping[str, Any]) -> None:
        self._at, self._services = {}, {}
        for placement, seen in msgspec.convert(state.get("at", []), list[tuple[Placement, int]]):
            self._put(placement, seen)

    def __len__(self) -> int:
        return len(self._at)
