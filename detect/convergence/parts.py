"""Which incident each part of a cut run is: ids stay where most of what counts stays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from detect.convergence.reasons import STRONG
from detect.types import Signal


def weight_of(signal: Signal) -> float:
    """What a signal counts for: a strong one is an incident by itself, weak ones need company."""
    return 2.0 if signal.score >= STRONG else 1.0


def key_of(signal: Signal) -> tuple[str, str, str, str]:
    """What makes signals of different times the same alert."""
    return signal.detector, signal.service, signal.peer, signal.key


def match(parts: Sequence[Sequence[Signal]], of: Mapping[str, str], order: Sequence[str]) -> dict[int, str]:
    """Part -> incident id, one to one, by weighted Jaccard of their keys; the best pair first.

    `of` says in which incident a signal is now, `order` lists the incidents, the oldest first. A part that has
    nothing in common with any incident left is not in the answer.
    """
    whole: dict[str, float] = dict.fromkeys(order, 0.0)
    common: dict[tuple[int, str], float] = {}
    sizes = []
    for at, part in enumerate(parts):
        weights = {(*key_of(s), of.get(s.id, "")): weight_of(s) for s in part}
        sizes.append(sum(weights.values()))
        for (*_, incident_id), weight in weights.items():
            if incident_id in whole:
                whole[incident_id] += weight
                common[at, incident_id] = common.get((at, incident_id), 0.0) + weight
    rank = {incident_id: at for at, incident_id in enumerate(order)}

    def alike(pair: tuple[int, str]) -> float:
        both = common[pair]
        return both / (sizes[pair[0]] + whole[pair[1]] - both)

    out: dict[int, str] = {}
    for at, incident_id in sorted(common, key=lambda pair: (-alike(pair), rank[pair[1]], pair[0])):
        if at not in out and incident_id not in out.values():
            out[at] = incident_id
    return out
