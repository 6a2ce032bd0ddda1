"""What a person said of incidents, told of signals that come later: who has split or merged need not do it again."""

from __future__ import annotations

from collections.abc import Sequence

from detect.convergence.cases import Case
from detect.convergence.parts import key_of
from detect.types import Signal


def said_of_key(fixed: Sequence[Case], new: Sequence[Signal]) -> dict[str, str]:
    """Signal id -> incident, of the new signals whose key is in one of the incidents that a person has put together or
    apart. Where it is in several, the one in which it began last."""
    where: dict[tuple[str, ...], tuple[int, str]] = {}
    for case in fixed:
        for s in case.incident.signals:
            where[key_of(s)] = max(where.get(key_of(s), (-1, "")), (s.start_ns, case.incident.id))
    return {s.id: where[key_of(s)][1] for s in new if key_of(s) in where}


def said_of_service(fixed: Sequence[Case], new: Sequence[Signal]) -> dict[str, str]:
    """The same by service, of those whose service is in just one of these incidents."""
    where: dict[str, list[str]] = {}
    for case in fixed:
        for service in {s.service for s in case.incident.signals}:
            where.setdefault(service, []).append(case.incident.id)
    return {s.id: where[s.service][0] for s in new if len(where.get(s.service, ())) == 1}
