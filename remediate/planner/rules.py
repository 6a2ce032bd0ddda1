"""The rules, in the order in which they are asked. One row, one sentence.

A row matches a case when one of `any_of` is open on the target and all its other conditions hold. There
is no row that restarts what is merely slow or failing: that is the loudest service, seldom the cause.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from remediate.planner.types import Case, EntityKind

_FELT: Final = frozenset({"error_ratio", "latency", "saturation"})


@dataclass(frozen=True)
class Rule:
    """`change`: what must hold about a roll-out or configuration change on the target. `fresh` is within
    `fresh_change_seconds` before the first signal, `recent` within `change_window_seconds`."""

    action: str
    any_of: frozenset[str]
    why: str
    change: Literal["fresh", "recent", "none", "any"] = "any"
    entities: frozenset[EntityKind] = frozenset({"service"})
    none_of: frozenset[str] = frozenset()
    also_any_of: frozenset[str] = frozenset()
    only_surge: bool = False
    is_incident_wide: bool = False
    """A signal anywhere in the incident counts: a bad release may be felt at its callers alone."""

    def matches(self, case: Case) -> bool:
        """Whether this row speaks about `case`."""
        kinds = case.kinds | case.incident_kinds if self.is_incident_wide else case.kinds
        has_change = {"fresh": case.change is not None and case.is_change_fresh, "recent": case.change is not None,
                      "none": case.change is None, "any": True}[self.change]
        return (case.entity in self.entities and has_change and bool(kinds & self.any_of)
                and not kinds & self.none_of and (not self.also_any_of or bool(kinds & self.also_any_of))
                and (case.is_surge or not self.only_surge))


def _kinds(*names: str) -> frozenset[str]:
    return frozenset(names)


_BY_CHANGE: Final = _kinds("error_ratio", "latency", "crash_loop", "cpu", "memory", "saturation", "log_rate")
_OURS: Final[frozenset[EntityKind]] = frozenset({"service", "edge", "database", "cache"})

RULES: Final[tuple[Rule, ...]] = (
    Rule("postgres.terminate_blocker", _kinds("lock_wait"), "sessions wait for a lock that one session holds",
         entities=frozenset({"database"})),
    Rule("cache.purge_prefix", _kinds("cache_full"), "the cache refuses writes because it is full",
         entities=frozenset({"cache"})),
    Rule("release.rollback", _kinds("crash_loop"), "it exits again and again since its change", change="recent",
         entities=_OURS),
    Rule("release.rollback", _BY_CHANGE | _kinds("process.down", "hang", "breach"),
         "it began right after its change", change="fresh", entities=_OURS, is_incident_wide=True),
    Rule("process.kill", _kinds("hang"), "the process is there but does not answer"),
    Rule("process.restart", _kinds("process.down"), "the process is gone", none_of=_kinds("crash_loop")),
    Rule("process.kill", _kinds("process.down"), "the process is gone", none_of=_kinds("crash_loop")),
    Rule("release.rollback", _BY_CHANGE, "it began after its change", change="recent", entities=_OURS,
         is_incident_wide=True),
    Rule("release.rollback", _kinds("breach"), "a limit is about to be crossed since its change", change="recent"),
    Rule("process.scale", _kinds("traffic"), "much more is asked of it than usual and it can't keep up",
         only_surge=True, also_any_of=_FELT),
    Rule("process.restart", _kinds("saturation"), "a bounded resource of it is used up and nothing was changed",
         change="none", none_of=_kinds("traffic")),
)


def matching(case: Case) -> tuple[Rule, ...]:
    """The rows that speak about `case`, first of each action, in order."""
    found: dict[str, Rule] = {}
    for rule in RULES:
        if rule.action not in found and rule.matches(case):
            found[rule.action] = rule
    return tuple(found.values())
