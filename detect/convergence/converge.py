"""Open signals to incidents: DBSCAN says which belong together, onsets say where one fault ends and the next begins.

Repeats are folded before (one signal per detector, service, peer and key; signals of one place and bucket are one
point), so a storm of any size costs what its places cost. Distance is time between onsets over `eps_seconds` plus
hops in the call graph; two signals whose services are not connected by calls are infinitely far apart (Ester et al.,
KDD 1996). What is chained so is a run; a run is cut at its onsets (see `onsets`), and each part is an incident.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
import numpy as np

from detect.convergence.cases import Case, Cases
from detect.convergence.config import ConvergenceConfig
from detect.convergence.ground import RestsOn, failing
from detect.convergence.neighbours import cluster, fold, neighbour_graph
from detect.convergence.parts import weight_of
from detect.convergence.reasons import STRONG, corrected, is_alive, is_level
from detect.convergence.relations import Calls, Relations, entries, host_of, relations
from detect.convergence.runs import Run, Runs
from detect.convergence.said import said_of_key, said_of_service
from detect.types import Incident, Signal

__all__ = ["Convergence", "ConvergenceConfig"]


class Convergence:
    """Keeps the open incidents; `step` gives those that opened, changed, split, merged or closed."""

    def __init__(self, config: ConvergenceConfig, tenant: str) -> None:
        self._c = config
        self._cases = Cases(config, tenant)
        self._runs = Runs(config, self._cases)
        self._signals: dict[str, Signal] = {}  # open signals
        self._hosts: dict[str, str] = {}  # service -> host, from alerts
        self._orphans: dict[str, int] = {}  # signals that nobody will close -> when they end

    def __len__(self) -> int:
        return len(self._cases.by_id)

    def step(self, now_ns: int, fresh: Sequence[Signal], calls: Calls, rests_on: RestsOn = frozenset()) -> list[Incident]:
        """Take in this bucket's signals. `rests_on`: (service, host or volume). Cost: the neighbours of the new, folded
        signals, and the square of the moments of the runs that these are in."""
        cases = self._cases.by_id
        before = {i: case.incident for i, case in cases.items()}
        touched = self._take([*self._ended(now_ns, fresh), *fresh])
        out: dict[str, Incident] = {}
        loose = [s for s in self._signals.values() if s.id not in self._cases.of]
        if loose:
            related = self._related(loose, calls, rests_on)
            for run in self._gather(now_ns, loose, related):
                out |= self._runs.cut(run, now_ns, related)
                touched |= set(self._cases.of_run(run))
        front = entries(calls)
        for incident_id in sorted(touched & set(cases)):
            self._cases.describe(incident_id, now_ns, front)
        closed = self._cases.close(now_ns, self._signals)
        if closed:
            self._runs.forget()
        out |= closed
        out |= {i: c.incident for i, c in cases.items() if before.get(i) != c.incident}
        return [out[i] for i in sorted(out)]

    def _related(self, loose: Sequence[Signal], calls: Calls, rests_on: RestsOn) -> Relations:
        hosts = frozenset(self._hosts.items())
        under: RestsOn = frozenset()
        if rests_on:
            known = frozenset(s for pair in calls for s in pair) | {service for service, _ in rests_on}
            under = failing(self._around(loose), rests_on, known, int(self._c.ground_seconds * 1e9))
        return relations(calls, hosts, self._c.max_hops, rests_on, under)

    def _around(self, loose: Sequence[Signal]) -> list[Signal]:
        """What is open and began near them in time."""
        reach = int(2 * self._c.eps_seconds * 1e9)
        first, last = min(s.start_ns for s in loose) - reach, max(s.start_ns for s in loose) + reach
        return [s for s in self._signals.values() if first <= s.start_ns <= last]

    def learn_hosts(self, hosts: Mapping[str, str]) -> None:
        """Which service runs where; alerts that name their host teach it as well."""
        for service, host in hosts.items():
            if len(self._hosts) < self._c.max_hosts:
                self._hosts[service] = host

    def _take(self, fresh: Sequence[Signal]) -> set[str]:
        """Remember what is open; gives the incidents whose signals have changed."""
        for signal in fresh:
            if signal.is_open:
                self._signals[signal.id] = signal
                if host := host_of(signal):
                    self.learn_hosts({signal.service: host})
            else:
                self._signals.pop(signal.id, None)
                if self._cases.of.get(signal.id, "") not in self._cases.by_id:
                    self._cases.of.pop(signal.id, None)
        return self._cases.replace({s.id: s for s in fresh})

    def _gather(self, now_ns: int, loose: Sequence[Signal], related: Relations) -> list[str]:
        """Put loose signals into runs; gives the runs that got some."""
        held = sorted(self._around(loose), key=lambda s: (-s.score, s.start_ns, s.id))[: self._c.max_signals]
        fixed = [c for _, c in sorted(self._cases.by_id.items()) if self._runs.by_id[c.run].is_fixed]
        touched: dict[str, None] = {}
        for members in self._groups(held, related):
            new = [s for s in members if s.id not in self._cases.of]
            if new and any(s.score >= STRONG for s in members):
                touched |= dict.fromkeys(self._place(members, new, now_ns, related, fixed))
        return [run for run in touched if run in self._runs.by_id]

    def _groups(self, held: Sequence[Signal], related: Relations) -> list[list[Signal]]:
        """DBSCAN groups. A strong signal is one by itself, weak ones need company."""
        c = self._c
        places: dict[tuple[str, str], int] = {}
        place = np.array([places.setdefault((s.service, s.peer), len(places)) for s in held], dtype=np.int64)
        # Relative to the first, so that seconds keep their fractions as floats.
        zero = min(s.start_ns for s in held) // 10**9 * 10**9
        zero -= zero % int(c.fold_seconds * 1e9)
        onset = np.array([s.start_ns - zero for s in held], dtype=np.float64) / 1e9
        points = fold(place, tuple(places), onset, np.array([weight_of(s) for s in held]), c.fold_seconds)
        labels = cluster(points, neighbour_graph(points, related, c.eps_seconds, c.hop_cost, c.max_hops), 2)
        groups: dict[int, list[Signal]] = {}
        for label, signal in zip(labels[points.inverse].tolist(), held, strict=True):
            groups.setdefault(label, []).append(signal)
        return [groups[label] for label in sorted(groups.keys() - {-1})]

    def _place(self, members: Sequence[Signal], new: Sequence[Signal], now_ns: int, related: Relations,
               fixed: Sequence[Case]) -> list[str]:
        """Put the new signals of a group into runs; runs that it connects become one, but for those that a person has
        fixed: there, what fires again goes where it was put, and what is new to the half that has its service."""
        cases = self._cases
        held = {i: cases.by_id[i] for i in (cases.of.get(s.id, "") for s in members) if i in cases.by_id}
        runs = list(dict.fromkeys(held[i].run for i in sorted(held, key=lambda i: (held[i].incident.opened_ns, i))))
        said = said_of_key(fixed, new)
        rest = [s for s in new if s.id not in said]
        if rest and not runs and (near := self._near(rest, now_ns, related)):
            runs = [near]
        if any(self._runs.by_id[run].is_fixed for run in runs):
            said |= said_of_service(fixed, rest)
            rest = [s for s in rest if s.id not in said]
        homes_of: dict[str, list[Signal]] = {}
        for signal in new:
            if signal.id in said:
                homes_of.setdefault(said[signal.id], []).append(signal)
                self._runs.note(cases.by_id[said[signal.id]].run, [signal])
        if rest:
            run = self._runs.join(runs) if runs else cases.by_id[cases.open(rest, now_ns)].run
            self._runs.note(run, rest)
            for signal in rest:
                homes_of.setdefault(cases.at(run, signal), []).append(signal)
        for incident_id, signals in homes_of.items():
            cases.put(incident_id, signals, related)
        return [cases.by_id[i].run for i in homes_of]

    def _near(self, new: Sequence[Signal], now_ns: int, related: Relations) -> str:
        """The run of the open incident that the new signals are next to, in place and in time; the one with the last
        onset where there are several, "" for none. Next to a level that merely stays (memory that is not given back) a
        new fault is one of its own, unless it is at the same place."""
        ends = {s.service: related.near(s.service) for s in new}
        found = (0, "", "")
        for incident_id, case in self._cases.by_id.items():
            incident = case.incident
            last_onset_ns = max(s.start_ns for s in incident.signals)
            if now_ns - last_onset_ns > self._c.join_seconds * 1e9 or not is_alive(incident):
                continue
            services, level = set(incident.services), is_level(incident, now_ns)
            if any({s.service, s.peer} & services or (not level and ends[s.service] & services) for s in new):
                found = max(found, (last_onset_ns, incident_id, case.run))
        return found[2]

    def close(self, incident_id: str, now_ns: int = 0, *, by: str = "", reason: str = "") -> list[Incident]:
        """Forget an incident; its signals are not put into a new one. Gives it as it ended, and who said so."""
        case = self._cases.by_id.pop(incident_id, None)
        self._runs.forget()
        return [] if case is None else [msgspec.structs.replace(
            case.incident, state="closed", closed_ns=now_ns or case.incident.updated_ns,
            updated_ns=now_ns or case.incident.updated_ns, closed_by=by, closed_reason=reason)]

    def split(self, incident_id: str, signal_ids: set[str], new_id: str, by: str = "", now_ns: int = 0,
              calls: Calls = frozenset()) -> list[Incident]:
        """Move some signals of an open incident into a new one; a person's word, so both stay as they are. Gives both;
        none where the incident is not open, or would lose none or all."""
        case = self._cases.by_id.get(incident_id)
        if case is None:
            return []
        signals, members = case.incident.signals, case.incident.members
        moved = tuple(s for s in signals if s.id in signal_ids)
        rest = tuple(s for s in signals if s.id not in signal_ids)
        if not moved or not rest:
            return []
        now_ns = now_ns or case.incident.updated_ns
        self._cases.by_id[new_id] = Case(msgspec.structs.replace(
            case.incident, id=new_id, opened_ns=now_ns, signals=moved, split_from=incident_id, maybe_two=False, note="",
            again_ns=0, touches=(), first_signal_ns=min(s.start_ns for s in moved),
            fingerprint="|".join(sorted({f"{s.kind}@{s.service}" for s in moved})),
            members=corrected([m for m in members if m.signal_id in signal_ids], "split off", by)),
            case.quiet_since_ns, new_id, min(s.start_ns for s in moved))
        case.incident = msgspec.structs.replace(
            case.incident, signals=rest, maybe_two=False, note="", again_ns=0,
            first_signal_ns=min(s.start_ns for s in rest),
            members=tuple(m for m in members if m.signal_id not in signal_ids))
        for signal in moved:
            self._cases.of[signal.id] = new_id
        self._runs.note(new_id, moved)
        self._runs.by_id[new_id].is_fixed = self._runs.by_id[case.run].is_fixed = True
        return self._described((incident_id, new_id), now_ns, calls)

    def merge(self, gone: str, into: str, by: str = "", now_ns: int = 0, calls: Calls = frozenset()) -> list[Incident]:
        """Put one open incident into another; a person's word, so it is not cut again. Gives both; none where one of
        them is not open."""
        cases = self._cases.by_id
        if gone not in cases or into not in cases or gone == into:
            return []
        now_ns = now_ns or cases[into].incident.updated_ns
        cases[gone].incident = msgspec.structs.replace(
            cases[gone].incident, members=corrected(cases[gone].incident.members, "merged", by))
        run, other = cases[into].run, cases[gone].run
        ended = self._cases.merged(gone, into, now_ns)
        self._runs.by_id[run].points |= self._runs.by_id[other].points
        self._runs.by_id[run].is_fixed = True
        self._runs.forget()
        cases[into].incident = msgspec.structs.replace(cases[into].incident, maybe_two=False, note="", again_ns=0,
                                                       touches=tuple(t for t in cases[into].incident.touches if t != gone))
        return [ended, *self._described((into,), now_ns, calls)]

    def _described(self, ids: Sequence[str], now_ns: int, calls: Calls) -> list[Incident]:
        for incident_id in ids:
            self._cases.describe(incident_id, now_ns, entries(calls))
        return [self._cases.by_id[i].incident for i in ids]

    def adopt(self, incidents: Sequence[Incident]) -> None:
        """See Corrections."""
        for incident in incidents:
            if incident.id not in self._cases.by_id:
                self._cases.by_id[incident.id] = Case(incident, 0, incident.id, incident.first_signal_ns)
                self._cases.of |= {s.id: incident.id for s in incident.signals}
                self._signals |= {s.id: s for s in incident.signals if s.is_open}
                self._runs.note(incident.id, incident.signals)

    def orphan(self, now_ns: int) -> None:
        """See Corrections."""
        self._orphans = dict.fromkeys(self._signals, now_ns + int(self._c.join_seconds * 1e9))

    def _ended(self, now_ns: int, fresh: Sequence[Signal]) -> list[Signal]:
        """Orphans whose time is over. One that is told of anew stays for this step, so that what is new finds the incident
        alive that it belongs to."""
        if not self._orphans:
            return []
        again, ids = {_same(s) for s in fresh}, {s.id for s in fresh}
        over = [s for i, until in self._orphans.items() if until < now_ns and i not in ids and (s := self._signals.get(i))]
        self._orphans = {i: now_ns if _same(self._signals[i]) in again else until for i, until in self._orphans.items()
                         if until >= now_ns and i not in ids and i in self._signals}
        return [msgspec.structs.replace(s, is_open=False, end_ns=max(now_ns, s.start_ns)) for s in over]

    def dump(self) -> object:
        return {"signals": list(self._signals.values()), "of": self._cases.of, "hosts": self._hosts,
                "cases": list(self._cases.by_id.values()), "runs": self._runs.by_id, "orphans": self._orphans}

    def load(self, state: Mapping[str, object]) -> None:
        """Go on from `dump`, as msgpack gave it back; states from before there were runs are good."""
        self._signals = {s.id: s for s in msgspec.convert(state["signals"], list[Signal])}
        self._hosts = msgspec.convert(state.get("hosts", {}), dict[str, str])
        self._cases.of = msgspec.convert(state["of"], dict[str, str])
        self._cases.by_id = {c.incident.id: c for c in msgspec.convert(state["cases"], list[Case])}
        self._runs.by_id = msgspec.convert(state.get("runs", {}), dict[str, Run])
        self._orphans = msgspec.convert(state.get("orphans", {}), dict[str, int])
        for incident_id, case in self._cases.by_id.items():
            if case.run not in self._runs.by_id:
                case.run, case.onset_ns = incident_id, case.incident.first_signal_ns
                self._runs.note(incident_id, case.incident.signals)


def _same(signal: Signal) -> tuple[str, str, str, str]:
    return signal.detector, signal.service, signal.peer, signal.key
