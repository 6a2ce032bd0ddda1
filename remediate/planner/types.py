"""What the planner hands on when it does not propose anything, and what it thinks in."""

from __future__ import annotations

from typing import Literal

import msgspec

from ingest.types import Change
from remediate.types import Considered, Plan

NoPlanReason = Literal[
    "incident_closed",
    "no_suspect",  # the diagnosis names nobody
    "cannot_tell",  # it names several and can't tell which
    "nothing_eligible",  # no action's precondition is met by a typed signal
    "no_rule",  # something would be possible, but nothing says that it helps
    "exhausted",  # what could be tried was tried
    "escalated",  # not ours to repair, and people have been told
]
EntityKind = Literal["service", "database", "cache", "external", "edge"]


class NoPlan(msgspec.Struct, frozen=True):
    """Nothing is proposed. `detail` is for people."""

    reason: NoPlanReason
    detail: str
    considered: tuple[Considered, ...] = ()


PlanResult = Plan | NoPlan


class Case(msgspec.Struct, frozen=True):
    """One possible target with the typed facts about it.

    `kinds` are those of open signals on it; `incident_kinds` of all open signals of the incident.
    `change` is a roll-out or configuration change that may be the cause: on the target, recent, not our
    own and not taken back since.
    """

    target: str
    entity: EntityKind
    probability: float
    kinds: frozenset[str]
    incident_kinds: frozenset[str]
    is_surge: bool
    change: Change | None = None
    is_change_fresh: bool = False
    change_age_seconds: float = 0.0
    why_no_change: str = "no recent change on it"
    peer: str = ""

    @property
    def signature(self) -> str:
        """The fault signature: what outcomes are counted under. Stable, bounded, free of names."""
        change = self.change.kind if self.change else "none"
        return f"{self.entity}|{change}|{','.join(sorted(self.kinds)) or 'none'}"
