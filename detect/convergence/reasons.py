"""Why a signal is in an incident, in words for people."""

from __future__ import annotations

from collections.abc import Sequence

from detect.convergence.relations import Relations
from detect.types import LEVEL_KINDS, Incident, Membership, Signal

STRONG = 0.5


def is_alive(incident: Incident) -> bool:
    """Weak signals alone open no incident, and keep none open; see also LEVEL_KINDS."""
    strong = [s for s in incident.signals if s.score >= STRONG]
    telling = [s for s in strong if s.kind not in LEVEL_KINDS]
    return any(s.is_open for s in telling or strong)


def why(signal: Signal, others: Sequence[Signal], relations: Relations) -> str:
    """How it is related to what is in the incident already, and when it began."""
    if not others:
        return "started it"
    first = min(others, key=lambda s: (s.start_ns, s.id))
    after = (signal.start_ns - first.start_ns) / 1e9
    when = f"{after:.0f} s later" if after >= 1 else "at the same time" if after > -1 else f"{-after:.0f} s earlier"
    services = sorted({s.service for s in others})
    if signal.service in services:
        return f"same service, {when}"
    for other in services:
        if (signal.service, other) in relations.calls:
            return f"caller of {other}, {when}"
        if (other, signal.service) in relations.calls:
            return f"called by {other}, {when}"
    for other in services:
        if relations.of(signal.service).get(other) == 1:
            return f"on the host of {other}, {when}"
    return f"connected through calls, {when}"


def corrected(members: Sequence[Membership], did: str, by: str) -> tuple[Membership, ...]:
    """`split off by ana; before: caller of payments, 3 s later`: a person's word stands first, what spoke for it stays."""
    first = f"{did} by {by[:60]}" if by else did
    return tuple(Membership(m.signal_id, f"{first}; before: {m.why.partition('; before: ')[2] or m.why}"[:300])
                 for m in members)


def clock(ns: int) -> str:
    """Time of day, UTC."""
    seconds = ns // 10**9 % 86_400
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"
