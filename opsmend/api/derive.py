"""Figures that follow from what the store has: a service's state, the trust panel."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from statistics import median

import numpy as np

from detect.indicators import indicator_of
from detect.types import Incident, Observations
from opsmend.api.port import ServiceState, ServiceStatus, TrustStats
from remediate.types import Outcome, Plan
from rootcause.types import Diagnosis, ServiceGraph

_RANK: dict[ServiceState, int] = {"unknown": 0, "ok": 1, "warning": 2, "critical": 3}
_WORST_IS_LOW = frozenset({"up", "responsive"})
_DAY_NS = 86_400 * 10**9


def newest_indicators(observations: Observations) -> dict[str, dict[str, float]]:
    """Service -> indicator -> newest value that is not NaN; the worst over instances."""
    found: dict[str, dict[str, float]] = {}
    for column, key in enumerate(observations.series):
        if key.peer:
            continue
        values = observations.values[:, column]
        present = values[~np.isnan(values)]
        if not len(present):
            continue
        name, value = indicator_of(key), float(present[-1])
        of_service = found.setdefault(key.service, {})
        worse = min if name in _WORST_IS_LOW else max
        of_service[name] = worse(of_service[name], value) if name in of_service else value
    return found


def service_statuses(graph: ServiceGraph, open_incidents: Iterable[Incident],
                     observations: Observations) -> list[ServiceStatus]:
    """Every service of the graph and of the open incidents, by name. Cost: linear in the observations."""
    indicators = newest_indicators(observations)
    states: dict[str, ServiceState] = {
        name: "ok" if name in indicators else "unknown" for name in sorted({*graph.services, *indicators})}
    incident_ids: dict[str, list[str]] = {}
    for incident in open_incidents:
        for signal in incident.signals:
            if not signal.is_open or signal.kind == "breach":
                continue
            state: ServiceState = "critical" if incident.severity == "critical" else "warning"
            if _RANK[state] > _RANK[states.get(signal.service, "unknown")]:
                states[signal.service] = state
            ids = incident_ids.setdefault(signal.service, [])
            if incident.id not in ids:
                ids.append(incident.id)
    return [ServiceStatus(name, states[name], name in graph.external, indicators.get(name, {}),
                          tuple(incident_ids.get(name, ()))) for name in sorted(states)]


def trust_stats(now_ns: int, ended: Sequence[Incident], outcomes: Sequence[Outcome], plans: Mapping[str, Plan],
                diagnoses: Iterable[Diagnosis], *, days: int = 7) -> TrustStats:
    """The trust panel. `plans` are those of the outcomes by id; `diagnoses` the latest of each incident."""
    since_ns = now_ns - days * _DAY_NS
    recent = {i.id: i for i in ended if i.updated_ns >= since_ns and i.state == "closed"}
    judged = [o for o in outcomes if o.ts_ns >= since_ns]
    fixed = {o.incident_id: o for o in judged if o.verdict == "fixed"}
    alone = {o.incident_id for o in fixed.values()
             if (plan := plans.get(o.plan_id)) is not None and not plan.needs_approval}
    seconds = [(o.ts_ns - recent[i].first_signal_ns) / 1e9 for i, o in fixed.items() if i in recent]
    wrong = [o for o in judged if o.verdict == "not_fixed"]
    undone = sum(o.undone for o in wrong)
    middle = median(seconds) if seconds else None
    return TrustStats(days, len(recent), len(alone & recent.keys()),
                      None if middle is None or math.isnan(middle) else middle, undone, len(wrong) - undone,
                      sum(d.cannot_tell for d in diagnoses if d.ts_ns >= since_ns))
