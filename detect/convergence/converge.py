"""DBSCAN over open signals: which of them are one incident.

Repeats are folded before (one signal per detector, service, peer and key), so a storm of any size costs what
its distinct keys cost. Distance is time between onsets over `eps_seconds` plus hops in the call graph; two
signals whose services are not connected by calls are infinitely far apart (Ester et al., KDD 1996).
"""

from __future__ import annotations

import uuid
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import msgspec
import numpy as np

from detect.convergence.titles import severity_of, title_of
from detect.types import LEVEL_KINDS, NAMESPACE, Incident, Membership, Signal

_FAR = 1e6
_STRONG = 0.5


@dataclass(frozen=True)
class ConvergenceConfig:
    """When signals belong together."""

    eps_seconds: float = 30.0
    """Onsets further apart than this are not neighbours."""
    hop_cost: float = 0.15
    """What one hop in the call graph costs, in units of eps."""
    max_hops: int = 4
    join_seconds: float = 120.0
    """A new signal next to an open incident joins it within this time of the last onset in it."""
    close_seconds: float = 10.0
    """An incident closes when all its signals have been closed this long."""
    max_signals: int = 5_000
    """Signals looked at together; the weakest are left out first."""
    max_points: int = 1_000
    """Distinct (service, peer, second) looked at together."""
    max_members: int = 500
    """Signals an incident holds; those that closed first leave first, then the weakest stay out."""


class _Case(msgspec.Struct):
    incident: Incident
    quiet_since_ns: int = 0


class Convergence:
    """Keeps the open incidents; `step` gives those that opened, changed, merged or closed."""

    def __init__(self, config: ConvergenceConfig, tenant: str) -> None:
        self._c = config
        self._tenant = tenant
        self._signals: dict[str, Signal] = {}  # open signals
        self._of: dict[str, str] = {}  # signal id -> incident id
        self._cases: dict[str, _Case] = {}

    def __len__(self) -> int:
        return len(self._cases)

    def step(self, now_ns: int, fresh: Sequence[Signal], calls: frozenset[tuple[str, str]]) -> list[Incident]:
        """Take in this bucket's signals. Cost: the square of the number of open, folded signals."""
        before = {i: case.incident for i, case in self._cases.items()}
        news: dict[str, dict[str, Signal]] = {}
        for signal in fresh:
            if signal.is_open:
                self._signals[signal.id] = signal
            else:
                self._signals.pop(signal.id, None)
            incident_id = self._of.get(signal.id, "")
            if incident_id in self._cases:
                news.setdefault(incident_id, {})[signal.id] = signal
            elif not signal.is_open:
                self._of.pop(signal.id, None)
        touched = set(news)
        for incident_id, changed in news.items():
            self._replace(incident_id, changed)
        out: dict[str, Incident] = {}
        if any(s.is_open and s.id not in self._of for s in fresh) or self._has_loose():
            out |= self._cluster(now_ns, calls, touched)
        entries = _entries(calls, self._signals.values())
        for incident_id in sorted(touched & set(self._cases)):
            self._describe(incident_id, now_ns, entries)
        out |= self._close(now_ns)
        out |= {i: c.incident for i, c in self._cases.items() if before.get(i) != c.incident}
        return [out[i] for i in sorted(out)]

    def _has_loose(self) -> bool:
        return any(s not in self._of for s in self._signals)

    def _cluster(self, now_ns: int, calls: frozenset[tuple[str, str]], touched: set[str]) -> dict[str, Incident]:
        from sklearn.cluster import DBSCAN

        held = sorted(self._signals.values(), key=lambda s: (-s.score, s.start_ns, s.id))[: self._c.max_signals]
        # Signals of one place and one second are one point, so that a storm costs what its places cost.
        points: dict[tuple[str, str, int], list[Signal]] = {}
        for signal in held:
            points.setdefault((signal.service, signal.peer, signal.start_ns // 10**9), []).append(signal)
        places = list(points.values())[: self._c.max_points]
        distances = _distances([place[0] for place in places], calls, self._c)
        # A strong signal is an incident by itself; weak ones need company.
        weights = np.array([sum(2.0 if s.score >= _STRONG else 1.0 for s in place) for place in places])
        labels = DBSCAN(eps=1.0, min_samples=2, metric="precomputed").fit_predict(distances, sample_weight=weights)
        merged: dict[str, Incident] = {}
        for label in sorted(set(labels.tolist()) - {-1}):
            members = [s for i in np.flatnonzero(labels == label) for s in places[i]]
            if not any(s.score >= _STRONG for s in members):
                continue
            homes = sorted({self._of[s.id] for s in members if s.id in self._of and self._of[s.id] in self._cases},
                           key=lambda i: (self._cases[i].incident.opened_ns, i))
            loose = [s for s in members if s.id not in self._of]
            home = homes[0] if homes else self._near(loose, now_ns, calls) if loose else None
            if home is None and not loose:
                continue
            if home is None:
                home = self._open(loose, now_ns)
            for other in homes[1:]:
                merged[other] = self._merge(other, home, now_ns)
            for signal in loose:
                self._of[signal.id] = home
                self._join(home, signal, calls)
            touched.add(home)
        return merged

    def _near(self, loose: Sequence[Signal], now_ns: int, calls: frozenset[tuple[str, str]]) -> str | None:
        """An open incident that the new signals are next to, in place and in time."""
        neighbours = _neighbours(calls)
        for incident_id, case in sorted(self._cases.items()):
            incident = case.incident
            last_onset_ns = max(s.start_ns for s in incident.signals)
            if now_ns - last_onset_ns > self._c.join_seconds * 1e9 or not _is_alive(incident):
                continue
            around = set(incident.services) | {n for s in incident.services for n in neighbours.get(s, ())}
            if any(s.service in around or s.peer in incident.services for s in loose):
                return incident_id
        return None

    def _open(self, signals: Sequence[Signal], now_ns: int) -> str:
        first = min(signals, key=lambda s: (s.start_ns, s.id))
        incident_id = str(uuid.uuid5(NAMESPACE, f"{self._tenant}\x1fincident\x1f{first.id}"))
        fingerprint = "|".join(sorted({f"{s.kind}@{s.service}" for s in signals}))
        self._cases[incident_id] = _Case(Incident(
            incident_id, self._tenant, fingerprint, now_ns, now_ns, "open", "warning", "", (), (), (), first.start_ns))
        return incident_id

    def _join(self, incident_id: str, signal: Signal, calls: frozenset[tuple[str, str]]) -> None:
        case = self._cases[incident_id]
        incident = case.incident
        if len(incident.signals) >= self._c.max_members:
            over = next((s for s in sorted(incident.signals, key=lambda s: (s.end_ns, s.id)) if not s.is_open), None)
            if over is None:
                return
            incident = msgspec.structs.replace(
                incident, signals=tuple(s for s in incident.signals if s.id != over.id),
                members=tuple(m for m in incident.members if m.signal_id != over.id))
        case.incident = msgspec.structs.replace(
            incident, signals=(*incident.signals, signal),
            members=(*incident.members, Membership(signal.id, _why(signal, incident, calls))),
            first_signal_ns=min(incident.first_signal_ns, signal.start_ns))

    def _replace(self, incident_id: str, changed: Mapping[str, Signal]) -> None:
        case = self._cases[incident_id]
        case.incident = msgspec.structs.replace(
            case.incident, signals=tuple(changed.get(s.id, s) for s in case.incident.signals))

    def _describe(self, incident_id: str, now_ns: int, entries: frozenset[str]) -> None:
        case = self._cases[incident_id]
        signals = case.incident.signals
        services = tuple(sorted({s.service for s in signals}))
        case.quiet_since_ns = 0 if _is_alive(case.incident) else case.quiet_since_ns or now_ns
        case.incident = msgspec.structs.replace(
            case.incident, updated_ns=now_ns, services=services, title=title_of(signals, entries),
            severity=severity_of(signals, entries))

    def _merge(self, gone: str, home: str, now_ns: int) -> Incident:
        case = self._cases.pop(gone)
        target = self._cases[home]
        for signal in case.incident.signals:
            self._of[signal.id] = home
        target.incident = msgspec.structs.replace(
            target.incident, signals=(*target.incident.signals, *case.incident.signals),
            members=(*target.incident.members, *case.incident.members))
        return msgspec.structs.replace(case.incident, state="merged", merged_into=home, closed_ns=now_ns,
                                       updated_ns=now_ns)

    def _close(self, now_ns: int) -> dict[str, Incident]:
        out = {}
        for incident_id, case in sorted(self._cases.items()):
            if not _is_alive(case.incident):
                case.quiet_since_ns = case.quiet_since_ns or now_ns
                if now_ns - case.quiet_since_ns >= self._c.close_seconds * 1e9:
                    out[incident_id] = msgspec.structs.replace(case.incident, state="closed", closed_ns=now_ns,
                                                               updated_ns=now_ns)
        for incident_id, incident in out.items():
            del self._cases[incident_id]
            for signal in incident.signals:
                if signal.id not in self._signals:  # one that is still open must not open the next incident
                    self._of.pop(signal.id, None)
        return out

    def close(self, incident_id: str) -> None:
        """Forget an incident; its signals are not put into a new one."""
        self._cases.pop(incident_id, None)

    def split(self, incident_id: str, signal_ids: set[str], new_id: str) -> None:
        """Move some signals of an open incident into a new one."""
        case = self._cases.get(incident_id)
        if case is None:
            return
        moved = tuple(s for s in case.incident.signals if s.id in signal_ids)
        rest = tuple(s for s in case.incident.signals if s.id not in signal_ids)
        if not moved or not rest:
            return
        self._cases[new_id] = _Case(msgspec.structs.replace(
            case.incident, id=new_id, signals=moved, split_from=incident_id,
            members=tuple(m for m in case.incident.members if m.signal_id in signal_ids)))
        case.incident = msgspec.structs.replace(
            case.incident, signals=rest,
            members=tuple(m for m in case.incident.members if m.signal_id not in signal_ids))
        for signal in moved:
            self._of[signal.id] = new_id

    def merge(self, gone: str, into: str) -> None:
        """Put one open incident into another."""
        if gone in self._cases and into in self._cases and gone != into:
            self._merge(gone, into, self._cases[into].incident.updated_ns)

    def dump(self) -> object:
        return {"signals": list(self._signals.values()), "of": self._of, "cases": list(self._cases.values())}

    def load(self, state: Mapping[str, object]) -> None:
        self._signals = {s.id: s for s in msgspec.convert(state["signals"], list[Signal])}
        self._of = msgspec.convert(state["of"], dict[str, str])
        self._cases = {c.incident.id: c for c in msgspec.convert(state["cases"], list[_Case])}


def _distances(signals: Sequence[Signal], calls: frozenset[tuple[str, str]],
               c: ConvergenceConfig) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """[n, n]: onsets apart over eps plus hops; far apart where no calls connect."""
    onset = np.array([s.start_ns for s in signals], dtype=np.float64)
    out = np.abs(onset[:, None] - onset[None, :]) / (c.eps_seconds * 1e9)
    hops = _hops(calls, c.max_hops)
    ends = [(s.service, s.peer) if s.peer else (s.service,) for s in signals]
    for i, a in enumerate(ends):
        for j in range(i):
            apart = min((0 if x == y else hops.get((x, y), 99) for x in a for y in ends[j]), default=99)
            out[i, j] = out[j, i] = out[i, j] + c.hop_cost * apart if apart <= c.max_hops else _FAR
    return out


def _is_alive(incident: Incident) -> bool:
    """Weak signals alone open no incident, and keep none open; see also LEVEL_KINDS."""
    strong = [s for s in incident.signals if s.score >= _STRONG]
    telling = [s for s in strong if s.kind not in LEVEL_KINDS]
    return any(s.is_open for s in telling or strong)


def _neighbours(calls: frozenset[tuple[str, str]]) -> dict[str, set[str]]:
    near: dict[str, set[str]] = {}
    for caller, callee in calls:
        near.setdefault(caller, set()).add(callee)
        near.setdefault(callee, set()).add(caller)
    return near


@lru_cache(maxsize=8)
def _hops(calls: frozenset[tuple[str, str]], most: int) -> dict[tuple[str, str], int]:
    """Hops along the direction of calls, either way: caller and callee are related, two callees of one caller
    are not (they only meet in it)."""
    down: dict[str, set[str]] = {}
    for caller, callee in calls:
        down.setdefault(caller, set()).add(callee)
    out: dict[tuple[str, str], int] = {}
    for start in down:
        queue, seen = deque([(start, 0)]), {start}
        while queue:
            at, depth = queue.popleft()
            if depth:
                out[start, at] = min(depth, out.get((start, at), 99))
                out[at, start] = min(depth, out.get((at, start), 99))
            if depth < most:
                for following in sorted(down.get(at, set()) - seen):
                    seen.add(following)
                    queue.append((following, depth + 1))
    return out


def _entries(calls: frozenset[tuple[str, str]], signals: object) -> frozenset[str]:
    """Services that nobody calls: what users meet."""
    callees = {callee for _, callee in calls}
    return frozenset(caller for caller, _ in calls if caller not in callees)


def _why(signal: Signal, incident: Incident, calls: frozenset[tuple[str, str]]) -> str:
    if not incident.signals:
        return "started it"
    first = min(incident.signals, key=lambda s: (s.start_ns, s.id))
    after = (signal.start_ns - first.start_ns) / 1e9
    when = f"{after:.0f} s later" if after >= 1 else "at the same time" if after > -1 else f"{-after:.0f} s earlier"
    services = {s.service for s in incident.signals}
    if signal.service in services:
        return f"same service, {when}"
    for other in sorted(services):
        if (signal.service, other) in calls:
            return f"caller of {other}, {when}"
        if (other, signal.service) in calls:
            return f"called by {other}, {when}"
    return f"connected through calls, {when}"
