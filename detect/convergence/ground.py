"""Machines and volumes that fail under several services at once: what is seen of it are the services."""

from __future__ import annotations

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
    are all that are known. Cost: the onsets on every thing, sorted.
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
    found: set[str] = set()
    for thing, on in carried.items():
        if len(on) < 2 or not services - on or len(on & onsets.keys()) < min(3, len(on)):
            continue
        begun = sorted((at_ns, service) for service in on for at_ns in onsets.get(service, ()))
        for first_ns, _ in begun:
            until_ns = first_ns + moment_ns
            struck = {service for at_ns, service in begun if first_ns <= at_ns <= until_ns}
            if len(struck) < min(3, len(on)) or 2 * len(struck) < len(on):
                continue
            others = services - on
            beside = sum(any(first_ns <= at_ns <= until_ns for at_ns in onsets.get(s, ())) for s in others)
            if len(struck) / len(on) >= 2 * beside / len(others):
                found.add(thing)
                break
    return frozenset((service, thing) for thing in found for service in carried[thing])
