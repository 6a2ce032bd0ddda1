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


def is_level(incident: Incident, now_ns: int) -> bool:
    """Whether all that is strong in it are kinds that may stay for good: it may be open for long after all is well. A
    limit that may have been reached by now is more than that: trouble around it was foretold."""
    strong = [s for s in incident.signals if s.score >= STRONG]
    return all(s.kind in LEVEL_KINDS and not (s.breach and s.breach.eta_low_ns <= now_ns) for s in strong)


class Company:
    """What is in an incident already, as far as reasons need it."""

    def __init__(self, signals: Sequence[Signal]) -> None:
        self.first_ns = min((s.start_ns for s in signals), default=0)
        self.services = {s.service for s in signals}

    def add(self, signal: Signal) -> None:
        """It is in, too."""
        self.first_ns = min(self.first_ns, signal.start_ns) if self.services else signal.start_ns
        self.services.add(signal.service)


def why(signal: Signal, others: Company, relations: Relations) -> str:
    """How it is related to what is in the incident already, and when it began."""
    if not others.services:
        return "started it"
    after = (signal.start_ns - others.first_ns) / 1e9
    when = f"{after:.0f} s later" if after >= 1 else "at the same time" if after > -1 else f"{-after:.0f} s earlier"
    if signal.service in others.services:
        return f"same service, {when}"
    around = relations.of(signal.service)
    for other in sorted(others.services & around.keys()):
        if (signal.service, other) in relations.calls:
            return f"caller of {other}, {when}"
        if (other, signal.service) in relations.calls:
            return f"called by {other}, {when}"
    for other in sorted(others.services & around.keys()):
        if around[other] == 1:
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
