"""From an incident and its diagnosis to the typed facts that decisions rest on."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final

from detect.types import LOG_KINDS, Incident, Signal
from ingest.types import Change
from remediate.planner.types import Case, EntityKind
from remediate.types import Outcome
from rootcause.types import ServiceGraph, Suspect

CAUSE_CHANGES: Final = frozenset({"rollout", "config"})
PHYSICAL: Final = ("process.down", "hang", "lock_wait", "cache_full")
"""Kinds that show the fault itself and not its effect on somebody else, most telling first."""
_DATABASE: Final = re.compile(r"postgres|mysql|mariadb|(^|[-_.])(db|database|pg|sql)($|[-_.\d])", re.IGNORECASE)
_CACHE: Final = re.compile(r"redis|valkey|memcache|(^|[-_.])cache($|[-_.\d])", re.IGNORECASE)
_BUCKET_SLACK_NS: Final = 10 * 10**9  # a signal's start is rounded to its bucket, changes are not


def kinds_on(signals: Iterable[Signal], service: str) -> frozenset[str]:
    """Kinds of open signals that speak about `service`: its own, and what callers see of it."""
    return frozenset(s.kind for s in signals
                     if s.is_open and (s.peer == service or (s.service == service and not s.peer)))


def entity_kind(service: str, kinds: frozenset[str], graph: ServiceGraph) -> EntityKind:
    """What sort of thing it is, from its signals and, failing these, its name. A machine or volume is nothing that an action
    is for."""
    if service in graph.external or graph.kind_of(service) in ("host", "volume"):
        return "external"
    if "lock_wait" in kinds or _DATABASE.search(service):
        return "database"
    if "cache_full" in kinds or _CACHE.search(service):
        return "cache"
    return "service"


def physical_nodes(incident: Incident, graph: ServiceGraph) -> dict[str, tuple[str, ...]]:
    """Physical kind -> our services that show it, sorted."""
    found: dict[str, tuple[str, ...]] = {}
    for kind in PHYSICAL:
        nodes = {s.service for s in incident.signals if s.is_open and s.kind == kind and not s.peer}
        if ours := tuple(sorted(nodes - graph.external)):
            found[kind] = ours
    return found


def below(graph: ServiceGraph, service: str) -> frozenset[str]:
    """All that `service` depends on, directly or not."""
    seen: set[str] = set()
    waiting = [service]
    while waiting:
        for callee in graph.callees(waiting.pop()):
            if callee not in seen:
                seen.add(callee)
                waiting.append(callee)
    return frozenset(seen - {service})


def case_of(suspect: Suspect, incident: Incident, graph: ServiceGraph, outcomes: Sequence[Outcome], *,
            change_window_seconds: float, fresh_change_seconds: float) -> Case:
    """The typed facts about one suspect. Log signals count only beside a change (see `eligible`)."""
    kinds = kinds_on(incident.signals, suspect.service)
    entity = entity_kind(suspect.service, kinds, graph)
    change, why_not = _cause(suspect.change, suspect.service, incident, outcomes, change_window_seconds)
    if suspect.peer and change is None:  # with a change on the caller, that change is what broke the calls
        entity = "external" if suspect.peer in graph.external or entity == "external" else "edge"
    age_seconds = max(0.0, (incident.first_signal_ns - change.ts_ns) / 1e9) if change else 0.0
    return Case(
        target=suspect.service, entity=entity, probability=suspect.probability, kinds=kinds,
        incident_kinds=frozenset(s.kind for s in incident.signals if s.is_open),
        is_surge=any(s.kind == "traffic" and s.is_open and s.service == suspect.service and not s.peer
                     and s.value is not None and s.usual is not None and s.value > s.usual
                     for s in incident.signals),
        change=change, is_change_fresh=change is not None and age_seconds <= fresh_change_seconds,
        change_age_seconds=age_seconds, why_no_change=why_not, peer=suspect.peer)


def _cause(change: Change | None, service: str, incident: Incident, outcomes: Sequence[Outcome],
           window_seconds: float) -> tuple[Change | None, str]:
    """The change if it may be the cause, or why it may not."""
    if change is None:
        return None, "no recent change on it"
    if change.service != service or change.kind not in CAUSE_CHANGES:
        return None, "no roll-out or configuration change on it"
    if change.actor == "opsmend":
        return None, "its last change was our own"
    if change.ts_ns > incident.first_signal_ns + _BUCKET_SLACK_NS:
        return None, "its change came after the first signal"
    if incident.first_signal_ns - change.ts_ns > window_seconds * 1e9:
        return None, f"its last change was more than {window_seconds / 60:.0f} min before the first signal"
    if any(o.service == service and o.action == "release.rollback" and o.ts_ns > change.ts_ns
           and o.verdict == "fixed" and not o.undone for o in outcomes):
        return None, "its change was taken back already"
    return change, ""


def typed(kinds: Iterable[str]) -> frozenset[str]:
    """Without those that rest on log text alone."""
    return frozenset(kinds) - LOG_KINDS
