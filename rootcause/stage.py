"""The root-cause stage: an incident to ranked suspects with evidence, or "cannot tell"."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np

from detect.types import Evidence, Incident, Observations, Signal
from ingest.errors import OpsmendError
from ingest.types import Change
from rootcause.calls import with_broken_call
from rootcause.earlier import usual_rows
from rootcause.features import CAUSES
from rootcause.graph import graph_hash
from rootcause.instances import UnusualInstance, instance_evidence, instance_of, unusual_instances
from rootcause.machines import PROBABILITY, Machine, shaken_machine
from rootcause.prior import physical_prior
from rootcause.rankers.registry import RANKERS, ranker_of
from rootcause.reasons import Reasons
from rootcause.shared_ground import shared_evidence
from rootcause.types import CaseWindow, Diagnosis, ServiceGraph, Suspect
from rootcause.window import case_window


@dataclass(frozen=True)
class RootCauseConfig:
    """Which ranker, and when it may speak."""

    ranker: str = "fused"
    weights_dir: str = ""
    """Of weights that were tuned for this system (`gnn`, `fused`); "": the shipped ones."""
    margin: float = 0.5
    """The first suspect must be ahead of "none of these" and of the second by this much: about where it is right four times in
    five (`bench/rootcause_trust.py`)."""
    change_seconds: float = 600.0
    """A change older than this before the first sign is not held against a service."""
    max_suspects: int = 5


class RootCause:
    """`diagnose`: deterministic, no state between calls. Cost: 10 to 30 ms for ten services."""

    def __init__(self, config: RootCauseConfig | None = None) -> None:
        self._c = config or RootCauseConfig()
        if self._c.ranker not in RANKERS:
            raise OpsmendError(f"unknown ranker '{self._c.ranker}'; one of {', '.join(RANKERS)}",
                               reason="configuration")
        self._ranker = ranker_of(self._c.ranker, self._c.weights_dir)

    def diagnose(self, incident: Incident, graph: ServiceGraph, seen: Observations, changes: Sequence[Change],
                 now_ns: int, others: Sequence[Incident] = ()) -> Diagnosis:
        """Rank the services; say "cannot tell" when no one is ahead by enough, or nothing was observed. `others` are open and
        closed incidents: those that were over before this one are no part of what is usual."""
        usual = usual_rows(incident, seen, others)
        seen = usual.seen
        case = case_window(incident, graph, seen, changes, baseline_seconds=usual.baseline_seconds)
        if len(case.ts_ns) <= case.baseline_rows or case.baseline_rows == 0 or not case.services:
            return Diagnosis(incident.id, now_ns, (), 1.0, True, "", graph_hash(graph))
        ranking = self._ranker.rank(case)
        scores = np.maximum(ranking.scores, 0.0)
        p_none = ranking.p_none if ranking.p_none is not None else 0.1
        p = scores / max(scores.sum(), 1e-12) * (1 - p_none)
        p, p_none = physical_prior(case, incident, p, p_none)
        reasons = Reasons(case, incident.first_signal_ns)
        order = np.argsort(-p, kind="stable")
        seen = _of_instances(seen, {*incident.services, *(case.services[i] for i in order[: self._c.max_suspects])})
        unusual = {s: unusual_instances(s, seen, incident.first_signal_ns, baseline_seconds=usual.baseline_seconds)
                   for s in sorted({k.service for k in seen.series})}
        machine = shaken_machine(case, graph, reasons, unusual)
        if machine is not None:
            p, p_none = p * (1 - PROBABILITY), p_none * (1 - PROBABILITY)
        second = float(p[order[1]]) if len(order) > 1 else 0.0
        cannot = bool(p[order[0]] - max(second, p_none) < self._c.margin) or not _is_pointed_at(
            case.services[order[0]], incident)
        suspects = tuple(self._suspect(int(i), float(p[i]), case, incident, graph, reasons, unusual)
                         for i in order[: self._c.max_suspects] if p[i] >= 0.01)
        suspects = tuple(msgspec.structs.replace(s, instances=()) if s.peer else s
                         for s in with_broken_call(suspects, case, ranking))
        if machine is not None:
            suspects = (_machine(machine, case, graph, reasons), *suspects)[: self._c.max_suspects]
            cannot = not any(_is_pointed_at(service, incident) for service in machine.services)
        return Diagnosis(incident.id, now_ns, suspects, float(p_none), cannot, ranking.model_version, graph_hash(graph))

    def _suspect(self, i: int, probability: float, case: CaseWindow, incident: Incident, graph: ServiceGraph,
                 reasons: Reasons, unusual: Mapping[str, tuple[UnusualInstance, ...]]) -> Suspect:
        service = case.services[i]
        own = [s for s in incident.signals if s.service == service and not s.peer]
        change = self._change(service, case, incident)
        path = _path(service, incident, graph, reasons, case)
        odd = unusual.get(service, ())
        evidence = (*_evidence(service, own, change, incident, graph), *self._scaled(service, case, incident),
                    *instance_evidence(service, odd, graph.instances.get(service, {})),
                    *shared_evidence(service, incident, graph), *reasons.evidence(i))
        return Suspect(
            service, probability, path=path, deciding=reasons.deciding(i, path), evidence=evidence, change=change,
            instances=tuple(u.instance for u in odd),
            signal_kinds=tuple(sorted({s.kind for s in own if s.is_open})))

    def _scaled(self, service: str, case: CaseWindow, incident: Incident) -> tuple[Evidence, ...]:
        """The newest change of size shortly before the first sign: a fact, and nothing that could be rolled back."""
        found = [c for c in case.changes if c.service == service and c.kind == "scale" and c.actor != "opsmend"
                 and 0 <= incident.first_signal_ns - c.ts_ns <= self._c.change_seconds * 1e9]
        if not found:
            return ()
        newest = max(found, key=lambda c: c.ts_ns)
        ago = (incident.first_signal_ns - newest.ts_ns) / 1e9
        what = f" from {newest.old[:20]}" if newest.old else ""
        return (Evidence(f"scaled{what} to {newest.ref[:20] or 'another size'} {ago:.0f} s before the first sign", ago),)

    def _change(self, service: str, case: CaseWindow, incident: Incident) -> Change | None:
        """The newest roll-out or configuration change by somebody else shortly before the first sign."""
        found = [c for c in case.changes if c.service == service and c.kind in CAUSES and c.actor != "opsmend"
                 and c.ts_ns <= incident.opened_ns + 10**10
                 and incident.first_signal_ns - c.ts_ns <= self._c.change_seconds * 1e9]
        newest = max(found, key=lambda c: c.ts_ns, default=None)
        # Rolled back since then: what runs now is not what was changed.
        undone = any(c.service == service and c.actor == "opsmend" and c.kind == "rollout" and newest is not None
                     and c.ts_ns > newest.ts_ns for c in case.changes)
        return None if undone else newest


def _of_instances(seen: Observations, services: set[str]) -> Observations:
    """The series of single instances of these services alone."""
    at = [n for n, key in enumerate(seen.series) if key.service in services and not key.peer and instance_of(key)]
    return Observations(seen.ts_ns, tuple(seen.series[n] for n in at), seen.values[:, at])


def _machine(machine: Machine, case: CaseWindow, graph: ServiceGraph, reasons: Reasons) -> Suspect:
    """A host or volume as a suspect: nobody calls it, and nothing repairs it."""
    services = list(case.services)
    deciding = [one for s in machine.services[:4] for one in reasons.deciding(services.index(s), (s,))[:1]]
    kind = graph.kind_of(machine.name)
    return Suspect(machine.name, PROBABILITY, path=(machine.name,), deciding=tuple(deciding), kind=kind,
                   evidence=(machine.evidence(kind),
                             Evidence(f"these are {', '.join(s[:60] for s in machine.services[:6])}"
                                      + (f" and {len(machine.services) - 6} more" if len(machine.services) > 6 else ""))))


def _is_pointed_at(service: str, incident: Incident) -> bool:
    """Whether a detector says anything of the service, or of calls to it, that is not over. A model's suspicion
    alone is worth showing, and not worth acting on."""
    return any(service == (signal.peer or signal.service) for signal in incident.signals if signal.is_open)


def _path(service: str, incident: Incident, graph: ServiceGraph, reasons: Reasons, case: CaseWindow) -> tuple[str, ...]:
    """From the suspect up its callers to where it is felt: along the series, in the order in which they moved, and
    from where these end along the callers with signals."""
    felt = set(incident.services)
    path = [case.services[i] for i in reasons.travelled(case.services.index(service))]
    at = path[-1]
    while True:
        above = [c for c in graph.callers(at) if c in felt and c not in path]
        if not above:
            return tuple(path)
        at = above[0]
        path.append(at)


def _evidence(service: str, own: Sequence[Signal], change: Change | None, incident: Incident,
              graph: ServiceGraph) -> tuple[Evidence, ...]:
    out: list[Evidence] = []
    ordered = sorted(own, key=lambda s: (-s.score, s.start_ns))
    for signal in ordered[:4]:
        out += signal.evidence[:1]
    # Its text is log text, which has no place here; the page shows it with the alerts.
    bursts = sorted((s for s in ordered[4:] if s.template_id), key=lambda s: -s.count)[:2]
    out += [Evidence(f"a log template {'not seen before' if s.kind == 'log_template' else 'bursts'}: {s.count} times",
                     float(s.count)) for s in bursts]
    mine = min((s.start_ns for s in own), default=0)
    theirs = {c: min(s.start_ns for s in incident.signals if s.service == c)
              for c in graph.callers(service) if any(s.service == c for s in incident.signals)}
    if own and theirs:
        ahead = (min(theirs.values()) - mine) / 1e9
        names = " and ".join(sorted(theirs)[:3])
        if ahead >= 1:
            out.append(Evidence(f"its first sign came {ahead:.0f} s before those of its callers {names}", ahead))
        elif ahead <= -2:
            out.append(Evidence(f"its callers {names} showed signs {-ahead:.0f} s earlier", ahead, is_for=False))
    accusing = sorted({s.service for s in incident.signals if s.peer == service})
    if accusing:
        out.append(Evidence(f"calls to it from {' and '.join(accusing[:3])} fail or are slow"))
    if change is not None:
        ago = (incident.first_signal_ns - change.ts_ns) / 1e9
        when = f"{ago:.0f} s before the first sign" if ago >= 0 else "as the first signs came"
        word = "release" if change.kind == "rollout" else "configuration change"
        out.append(Evidence(f"{word} {change.ref or 'without a number'} {when}", ago))
    if not own and not accusing:
        out.append(Evidence("it shows no unusual signal itself", is_for=False))
    if service in graph.external:
        out.append(Evidence("it is not ours to repair", is_for=False))
    return tuple(out)
