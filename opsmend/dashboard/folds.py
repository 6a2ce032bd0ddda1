"""The alerts of an incident, ours and those of others, folded by key, each with the reason it belongs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from detect.types import Incident, Signal
from opsmend.dashboard.reading import Reading
from opsmend.dashboard.timeline import Timeline
from opsmend.dashboard.words import kind_words

MOST = 60
"""Rows on a page that did not ask for all."""


@dataclass(frozen=True)
class Fold:
    """One thing that goes on, however often it was told: equal detector, service, peer and key."""

    id: str
    """Of its first signal; stands for all of them in the split form."""
    signals: tuple[Signal, ...]  # by their beginning
    what: str
    """An alert's name or a kind in words. Made by others: whoever shows it escapes it."""
    template: str
    text: str
    why: str
    is_external: bool

    @property
    def service(self) -> str:
        return self.signals[0].service

    @property
    def peer(self) -> str:
        return self.signals[0].peer

    @property
    def instance(self) -> str:
        """The one that it was told of; "" where there are several."""
        names = {s.instance for s in self.signals}
        return names.pop() if len(names) == 1 else ""

    @property
    def kind(self) -> str:
        return self.signals[0].kind

    @property
    def count(self) -> int:
        """How often it was told."""
        return sum(s.count for s in self.signals)

    @property
    def first_ns(self) -> int:
        return self.signals[0].start_ns

    @property
    def last_ns(self) -> int:
        return max(s.end_ns for s in self.signals)

    @property
    def is_open(self) -> bool:
        return any(s.is_open for s in self.signals)

    def bars(self, line: Timeline) -> list[tuple[float, float]]:
        """(x, width) on the clock of each time that it went on."""
        out = []
        for s in self.signals:
            left, right = line.x(s.start_ns), line.x(line.now if s.is_open else s.end_ns)
            out.append((min(left, 597.0), round(max(right - left, 3.0), 1)))
        return out


def _at(signal: Signal) -> tuple[str, str, str, str]:
    return signal.detector, signal.service, signal.peer, signal.key or signal.id


def count(incident: Incident) -> int:
    """Into how many rows its alerts are folded."""
    return len({_at(s) for s in incident.signals})


def folds(incident: Incident, reading: Reading) -> list[Fold]:
    """By their beginning."""
    groups: dict[tuple[str, str, str, str], list[Signal]] = {}
    for s in sorted(incident.signals, key=lambda s: (s.start_ns, s.id)):
        groups.setdefault(_at(s), []).append(s)
    why = {m.signal_id: m.why for m in incident.members}
    return [_fold(group, why.get(group[0].id, "not recorded"), reading) for group in groups.values()]


def _fold(group: Sequence[Signal], why: str, reading: Reading) -> Fold:
    first, last = group[0], group[-1]
    is_external = first.kind == "alert"
    template = next((s.template_id for s in reversed(group) if s.template_id), "")
    text = last.evidence[0].text if last.evidence and not is_external else ""
    return Fold(first.id, tuple(group), (first.series or first.key)[:120] if is_external else kind_words(first.kind),
                reading.port.template_text(template)[:300] if template else "", text or ("" if is_external else first.series),
                why, is_external)


def expand(incident: Incident, chosen: Sequence[str], services: Sequence[str] = ()) -> list[str]:
    """The ids of all signals that are folded with a chosen one, or belong to a chosen service; an id that the
    incident does not have stays, for whoever acts on it to refuse."""
    of = {s.id: _at(s) for s in incident.signals}
    wanted = {of[i] for i in chosen if i in of}
    found = [s.id for s in incident.signals if of[s.id] in wanted or s.service in services]
    return found + [i for i in chosen if i not in of]


def proposed(incident: Incident, rows: Sequence[Fold]) -> set[str]:
    """Where it may be two: the folds that began when something began again, if that leaves both halves with some."""
    later = {f.id for f in rows if incident.again_ns and f.first_ns >= incident.again_ns}
    return later if incident.maybe_two and len(later) < len(rows) else set()
