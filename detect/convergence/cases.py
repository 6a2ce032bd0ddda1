"""The open incidents: their signals, why each is in, and what becomes of them."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from detect.convergence.config import ConvergenceConfig
from detect.convergence.reasons import Company, is_alive, why
from detect.convergence.relations import Relations
from detect.convergence.titles import severity_of, title_of
from detect.types import NAMESPACE, Incident, Membership, Signal


class Case(msgspec.Struct):
    """An open incident, the run that it is a part of, and when its fault began."""

    incident: Incident
    quiet_since_ns: int = 0
    run: str = ""
    onset_ns: int = 0


class Cases:
    """Incidents by id; every signal is in at most one."""

    def __init__(self, config: ConvergenceConfig, tenant: str) -> None:
        self._c = config
        self._tenant = tenant
        self.of: dict[str, str] = {}  # signal id -> incident id
        self.by_id: dict[str, Case] = {}

    def of_run(self, run: str) -> list[str]:
        """Its incidents, by onset."""
        found = [i for i, case in self.by_id.items() if case.run == run]
        return sorted(found, key=lambda i: (self.by_id[i].onset_ns, self.by_id[i].incident.opened_ns, i))

    def at(self, run: str, signal: Signal) -> str:
        """The incident of a run whose onset was the last before the signal's."""
        cases = self.of_run(run)
        before = [i for i in cases if self.by_id[i].onset_ns <= signal.start_ns]
        return (before or cases[:1])[-1]

    def open(self, signals: Sequence[Signal], now_ns: int, run: str = "", split_from: str = "") -> str:
        """A new incident, without its signals yet. Ids come from content: a replay gives the same."""
        first = min(signals, key=lambda s: (s.start_ns, s.id))
        of = f"split\x1f{now_ns}\x1f{first.id}" if split_from else first.id
        incident_id = str(uuid.uuid5(NAMESPACE, f"{self._tenant}\x1fincident\x1f{of}"))
        fingerprint = "|".join(sorted({f"{s.kind}@{s.service}" for s in signals}))
        self.by_id[incident_id] = Case(Incident(
            incident_id, self._tenant, fingerprint, now_ns, now_ns, "open", "warning", "", (), (), (), first.start_ns,
            split_from=split_from), run=run or incident_id, onset_ns=first.start_ns)
        return incident_id

    def put(self, incident_id: str, signals: Sequence[Signal], related: Relations) -> None:
        """Let signals join, each with its reason. Where the incident is full, members that have closed leave for
        them, those that closed first before the others; else the new ones stay out."""
        case = self.by_id[incident_id]
        held, members = list(case.incident.signals), list(case.incident.members)
        room = self._c.max_members - len(held)
        if room < len(signals):
            over = sorted((s for s in held if not s.is_open), key=lambda s: (s.end_ns, s.id))[: len(signals) - room]
            gone = {s.id for s in over}
            held = [s for s in held if s.id not in gone]
            members = [m for m in members if m.signal_id not in gone]
        company = Company(held)
        for signal in signals:
            self.of[signal.id] = incident_id
            if len(held) < self._c.max_members:
                members.append(Membership(signal.id, why(signal, company, related)))
                held.append(signal)
                company.add(signal)
        case.incident = msgspec.structs.replace(
            case.incident, signals=tuple(held), members=tuple(members),
            first_signal_ns=min((s.start_ns for s in held), default=case.incident.first_signal_ns))

    def take(self, incident_id: str, ids: set[str]) -> list[Signal]:
        """Let signals leave."""
        case = self.by_id[incident_id]
        out = [s for s in case.incident.signals if s.id in ids]
        case.incident = msgspec.structs.replace(
            case.incident, signals=tuple(s for s in case.incident.signals if s.id not in ids),
            members=tuple(m for m in case.incident.members if m.signal_id not in ids))
        return out

    def move(self, to: Mapping[str, str], related: Relations) -> None:
        """Move signals (id -> incident) between incidents."""
        arrived: dict[str, list[Signal]] = {}
        for incident_id in sorted({self.of[s] for s in to} & self.by_id.keys()):
            for signal in self.take(incident_id, to.keys() & {s.id for s in self.by_id[incident_id].incident.signals}):
                arrived.setdefault(to[signal.id], []).append(signal)
        for incident_id, signals in sorted(arrived.items()):
            self.put(incident_id, sorted(signals, key=lambda s: (s.start_ns, s.id)), related)

    def replace(self, changed: Mapping[str, Signal]) -> set[str]:
        """Newer states of signals; gives the incidents that have them."""
        touched = {self.of[s] for s in changed if self.of.get(s) in self.by_id}
        for incident_id in touched:
            case = self.by_id[incident_id]
            case.incident = msgspec.structs.replace(
                case.incident, signals=tuple(changed.get(s.id, s) for s in case.incident.signals))
        return touched

    def merged(self, gone: str, into: str, now_ns: int) -> Incident:
        """Put one incident into another, members with their reasons; gives what to say of the one that ends."""
        incident, target = self.by_id.pop(gone).incident, self.by_id[into]
        for signal in incident.signals:
            self.of[signal.id] = into
        target.incident = msgspec.structs.replace(
            target.incident, signals=(*target.incident.signals, *incident.signals),
            members=(*target.incident.members, *incident.members),
            first_signal_ns=min(target.incident.first_signal_ns, incident.first_signal_ns))
        target.onset_ns = min(target.onset_ns, target.incident.first_signal_ns)
        return msgspec.structs.replace(incident, state="merged", merged_into=into, closed_ns=now_ns, updated_ns=now_ns)

    def describe(self, incident_id: str, now_ns: int, front: frozenset[str]) -> None:
        """Title, severity and services of what it holds now."""
        case = self.by_id[incident_id]
        signals = case.incident.signals
        case.quiet_since_ns = 0 if is_alive(case.incident) else case.quiet_since_ns or now_ns
        case.incident = msgspec.structs.replace(
            case.incident, updated_ns=now_ns, services=tuple(sorted({s.service for s in signals})),
            title=title_of(signals, front), severity=severity_of(signals, front))

    def close(self, now_ns: int, still_open: Iterable[str]) -> dict[str, Incident]:
        """End the incidents that have been quiet for long enough."""
        out = {}
        for incident_id, case in sorted(self.by_id.items()):
            if not is_alive(case.incident):
                case.quiet_since_ns = case.quiet_since_ns or now_ns
                if now_ns - case.quiet_since_ns >= self._c.close_seconds * 1e9:
                    out[incident_id] = msgspec.structs.replace(case.incident, state="closed", closed_ns=now_ns,
                                                               updated_ns=now_ns)
        kept = set(still_open) if out else set()  # one that is still open must not open the next incident
        for incident_id, incident in out.items():
            del self.by_id[incident_id]
            for signal in incident.signals:
                if signal.id not in kept:
                    self.of.pop(signal.id, None)
        return out
