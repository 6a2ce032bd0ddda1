"""Which services can be part of one fault: by calls, and by the host of those that nobody is seen to call."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from functools import lru_cache
from itertools import permutations

from detect.types import Signal

Calls = frozenset[tuple[str, str]]
Hosts = frozenset[tuple[str, str]]
_MOST_CALLEES = 32  # bounds the pairs, too
_LOOPBACK = ("127.", "localhost", "::1", "[::1]")


@dataclass(frozen=True)
class Relations:
    """Hops between services, both ways; a service that is not in `hops[a]` is unrelated to a: infinitely far."""

    hops: dict[str, dict[str, int]]
    calls: Calls

    def of(self, service: str) -> dict[str, int]:
        """Services related to this one, itself at 0 hops."""
        return self.hops.get(service) or {service: 0}

    def near(self, service: str) -> set[str]:
        """Itself, its callers and callees, and what it shares a host with."""
        return {other for other, hops in self.of(service).items() if hops <= 1}


@lru_cache(maxsize=8)
def relations(calls: Calls, hosts: Hosts, most: int, rests_on: Hosts = frozenset(), failing: Hosts = frozenset()) -> Relations:
    """Relations over at most `most` hops along the direction of calls, either way.

    Caller and callee are related. Two callees of one caller are as far from each other as anything related, since they
    only meet in it: what both see at the same moment is one fault, what they see in turn is two. Through a caller of more
    than 32, a gateway, they are not related at all. `hosts` are (service, host) pairs: the host itself is next to what runs
    on it, and so is a service that no call names to the others on its host; nothing is related through these, as it is
    through calls. A machine or volume is next to what `rests_on` it, too, and where it is `failing` (see `ground`), so are
    all of these to each other.
    """
    hops: dict[str, dict[str, int]] = {}
    down: dict[str, set[str]] = {}
    for caller, callee in calls:
        down.setdefault(caller, set()).add(callee)
    placed = {service for call in calls for service in call}
    for start in down:
        for end, depth in _reached(start, down, most).items():
            for a, b in ((start, end), (end, start)):
                there = hops.setdefault(a, {a: 0})
                there[b] = min(depth, there.get(b, depth))
    for callees in down.values():
        for a, b in permutations(sorted(callees), 2) if len(callees) <= _MOST_CALLEES else ():
            hops.setdefault(a, {a: 0}).setdefault(b, most)
    on: dict[str, list[str]] = {}
    for service, host in sorted(hosts):
        on.setdefault(host, []).append(service)
    for host, services in on.items():
        strangers = [s for s in services if s not in placed]
        for a, b in [*((s, host) for s in services), *((u, s) for u in strangers for s in services if u != s)]:
            hops.setdefault(a, {a: 0}).setdefault(b, 1)
            hops.setdefault(b, {b: 0}).setdefault(a, 1)
    for service, thing in rests_on:
        for a, b in ((service, thing), (thing, service)):
            hops.setdefault(a, {a: 0})[b] = 1
    together: dict[str, set[str]] = {}
    for service, thing in failing:
        together.setdefault(thing, set()).add(service)
    for struck in together.values():
        for a, b in permutations(sorted(struck), 2):
            hops.setdefault(a, {a: 0})[b] = 1
    return Relations(hops, calls)


def _reached(start: str, down: dict[str, set[str]], most: int) -> dict[str, int]:
    queue, depths = deque([start]), {start: 0}
    while queue:
        at = queue.popleft()
        if depths[at] < most:
            for following in sorted(down.get(at, set()) - depths.keys()):
                depths[following] = depths[at] + 1
                queue.append(following)
    return depths


def host_of(signal: Signal) -> str:
    """The host in an alert's instance; "" where there is none that tells hosts apart."""
    if signal.kind != "alert" or not signal.instance or signal.instance.startswith(_LOOPBACK):
        return ""
    host, colon, port = signal.instance.rpartition(":")
    return host if colon and port.isdigit() else signal.instance


def entries(calls: Calls) -> frozenset[str]:
    """Services that nobody calls: what users meet."""
    callees = {callee for _, callee in calls}
    return frozenset(caller for caller, _ in calls if caller not in callees)
