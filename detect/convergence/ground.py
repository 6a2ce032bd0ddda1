"""Machines and volumes that fail under several services at once: what is seen of it are the services."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Sequence

from detect.convergence.reasons import STRONG
from detect.types import Signal

RestsOn = frozenset[tuple[str, str]]
"""(service, host or volume) pairs; a service with several instances rests on several."""


def failing(signals: Sequence[Signal], rests_on: RestsOn, services: frozenset[str], moment_ns: int) -> RestsOn:
    """The pairs of those things that fail under what rests on them.

    A thing fails where, within `moment_ns`, strong signals began at three services on it at least (at both, where it
    carries two), at half of all that it carries, and at twice the share of those that do not rest on it: a fault that
    spreads through calls begins at services of many machines. What carries everything tells nothing apart. `services`
    are all that are known. Cost: the onsets on every thing, and what began within `moment_ns` of each.
    """
    onsets: dict[str, list[int]] = defaultdict(list)
    for signal in signals:
        if signal.score >= STRONG:
            for service in {signal.service, signal.peer} - {""}:
                onsets[service].append(signal.start_ns)
    if len(onsets) < 2:
        return frozenset()
    carried: dict[str, set[str]] = defaultdict(set)
    for service, thing in rests_on:
        carried[thing].add(service)
    ordered = sorted((at_ns, service) for service in onsets.keys() & services for at_ns in onsets[service])
    within: dict[int, set[str]] = {}  # where a moment begins -> who has an onset in it
    found: set[str] = set()
    for thing, on in carried.items():
        if len(on) < 2 or not services - on or len(on & onsets.keys()) < min(3, len(on)):
            continue
        others = len(services - on)
        for first_ns in sorted({at_ns for service in on for at_ns in onsets.get(service, ())}):
            if first_ns not in within:
                reach = (bisect_left(ordered, (first_ns, "")), bisect_left(ordered, (first_ns + moment_ns + 1, "")))
                within[first_ns] = {service for _, service in ordered[slice(*reach)]}
            struck = len(within[first_ns] & on)
            if struck < min(3, len(on)) or 2 * struck < len(on):
                continue
            if struck / len(on) >= 2 * (len(within[first_ns]) - struck) / others:
                found.add(thing)
                break
    return frozenset((service, thing) for thing in found for service in carried[thing])
