"""What services share beneath them: a machine or a volume on which most have signs while others have not."""

from __future__ import annotations

from typing import Final

from detect.types import Evidence, Incident
from rootcause.types import ServiceGraph

_MOST: Final = 2 / 3
_FEW: Final = 1 / 3


def shared_evidence(service: str, incident: Incident, graph: ServiceGraph) -> list[Evidence]:
    """At most one fact per machine or volume that the service rests on; none where too few or all rest on it.

    Fails where callers of a broken service happen to share its machine: then the calls explain as much.
    """
    felt = {s.service for s in incident.signals if s.is_open and not s.peer}
    resting = {s for s, _ in graph.rests_on}
    out = []
    for thing in sorted(t for s, t in graph.rests_on if s == service):
        here = {s for s, t in graph.rests_on if t == thing}
        elsewhere = resting - here
        hit, other = len(here & felt), len(elsewhere & felt)
        if service in felt and hit >= 2 and elsewhere and hit >= _MOST * len(here) and other <= _FEW * len(elsewhere):
            kind = graph.kind_of(thing)
            out.append(Evidence(f"{hit} of {len(here)} services on {kind} {thing[:60]} have signs, {other} of "
                                f"{len(elsewhere)} elsewhere", hit / len(here), other / len(elsewhere)))
    return out
