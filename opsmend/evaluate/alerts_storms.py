"""Storms: recorded faults laid over each other, so that it is known which alert belongs to which."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from opsmend.evaluate.alerts_data import TRACE, Fault, RawAlert

MIN_ALERTS: Final = 10
_SCRAPE_SECONDS: Final = 30.0
_WINDOW_SECONDS: Final = 900.0
_APART_SECONDS: Final = 300.0
Calls = frozenset[tuple[str, str]]


@dataclass(frozen=True)
class Storm:
    """Raw alerts of several faults, oldest first, by seconds since the storm began."""

    alerts: tuple[RawAlert, ...]
    fault: tuple[int, ...]  # [n] which of the storm's faults it is of
    onsets: tuple[float, ...]  # [faults] true start of each
    calls: Calls  # (caller, callee)
    hosts: Calls  # (service, host)
    is_elsewhere: bool = False


@dataclass(frozen=True)
class Scenario:
    """How many faults meet, and how."""

    faults: int
    place: Callable[[Sequence[Fault], np.random.Generator], list[float]]
    is_elsewhere: bool = False
    """Each fault in a system of its own: equal names, no calls between them."""


def _apart(faults: Sequence[Fault], random: np.random.Generator) -> list[float]:
    gaps = random.uniform(_APART_SECONDS + _SCRAPE_SECONDS, 2 * _APART_SECONDS, len(faults))
    return list(np.cumsum(gaps))


def _together(faults: Sequence[Fault], random: np.random.Generator) -> list[float]:
    return [float(random.uniform(0, max(0.0, _WINDOW_SECONDS - f.alerts[-1].at_s))) for f in faults]


SCENARIOS: Final[dict[str, Scenario]] = {
    "one": Scenario(1, _together),
    "apart": Scenario(5, _apart),
    "elsewhere": Scenario(5, _together, is_elsewhere=True),
    "dense": Scenario(5, _together),
    "dense2": Scenario(2, _together),
}


def make_storms(faults: Sequence[Fault], scenario: Scenario, count: int, seed: int, calls: Calls,
                hosts: Calls) -> list[Storm]:
    """`count` storms of distinct faults with at least ten alerts each; none where there are too few of them.

    A fault is moved by whole scrape intervals of 30 s: moved by any other time, the phase of the scrapes would tell
    the faults apart, which in one system it can't.
    """
    usable = [f for f in faults if len(f.alerts) >= MIN_ALERTS]
    if len(usable) < scenario.faults:
        return []
    random = np.random.default_rng(seed)
    return [_storm([usable[i] for i in random.choice(len(usable), scenario.faults, replace=False)], scenario, random,
                   calls, hosts) for _ in range(count)]


def calls_of(faults: Sequence[Fault]) -> Calls:
    """The service graph: every (caller, callee) that a trace alert names."""
    return frozenset((a.service, a.peer) for f in faults for a in f.alerts if a.modality == TRACE and a.peer)


def hosts_of(faults: Sequence[Fault]) -> Calls:
    """Where services run: every (service, host) that a metric alert names."""
    return frozenset((a.service, a.host) for f in faults for a in f.alerts if a.host)


def _storm(faults: Sequence[Fault], scenario: Scenario, random: np.random.Generator, calls: Calls, hosts: Calls) -> Storm:
    onsets = [round((at - f.start_s) / _SCRAPE_SECONDS) * _SCRAPE_SECONDS + f.start_s
              for f, at in zip(faults, scenario.place(faults, random), strict=True)]
    rows: list[tuple[RawAlert, int]] = []
    for n, (fault, onset) in enumerate(zip(faults, onsets, strict=True)):
        system = f"system{n}." if scenario.is_elsewhere else ""
        rows.extend((replace(a, at_s=a.at_s + onset, service=system + a.service,
                             peer=a.peer and system + a.peer, host=a.host and system + a.host), n) for a in fault.alerts)
    rows.sort(key=lambda r: (r[0].at_s, r[0].modality, r[0].service, r[0].name, r[0].peer, r[1]))
    if scenario.is_elsewhere:
        calls, hosts = (frozenset((f"system{n}.{a}", f"system{n}.{b}") for a, b in pairs for n in range(len(faults)))
                        for pairs in (calls, hosts))
    return Storm(tuple(r[0] for r in rows), tuple(r[1] for r in rows), tuple(onsets), calls, hosts,
                 scenario.is_elsewhere)
