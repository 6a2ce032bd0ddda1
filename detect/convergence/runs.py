"""Runs: signals chained in time and place, cut into incidents at their onsets."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np

from detect.convergence.cases import Cases
from detect.convergence.config import ConvergenceConfig
from detect.convergence.onsets import Onsets, find_onsets
from detect.convergence.parts import match
from detect.convergence.reasons import STRONG, clock
from detect.convergence.relations import Relations
from detect.types import LOG_KINDS, Incident, Signal


class Run(msgspec.Struct):
    """What a run remembers of its signals, closed ones too."""

    points: dict[str, int] = {}  # place and bucket -> earliest onset, ns
    started: dict[str, tuple[int, int]] = {}  # alert and place -> newest start, ns, and how often it started
    again: list[tuple[int, int, float]] = []  # (start, next start, weight) of alerts that started anew
    is_fixed: bool = False  # a person has put its incidents together or apart: they stay so


class Runs:
    """The runs by id, and the cutting of them."""

    def __init__(self, config: ConvergenceConfig, cases: Cases) -> None:
        self._c = config
        self._cases = cases
        self.by_id: dict[str, Run] = {}

    def note(self, run: str, signals: Sequence[Signal]) -> None:
        """Remember the folded onsets of signals that are new in a run."""
        state = self.by_id.setdefault(run, Run())
        points = state.points
        for s in sorted(signals, key=lambda s: (s.start_ns, s.id)):
            if s.kind == "alert":
                self._started(state, s)
            bucket = int(s.start_ns / (self._c.fold_seconds * 1e9))
            at = f"{s.service}\x1f{_modality(s)}\x1f{bucket}"
            points[at] = min(s.start_ns, points.get(at, s.start_ns))
        if len(points) > self._c.max_points:
            for at in sorted(points, key=lambda p: (points[p], p))[: len(points) - self._c.max_points]:
                del points[at]

    def _started(self, state: Run, signal: Signal) -> None:
        """An alert has started, perhaps not for the first time."""
        key = f"{signal.service}\x1f{signal.peer}\x1f{signal.key}"
        before_ns, times = state.started.get(key, (signal.start_ns, 0))
        if times:
            first, second = sorted((before_ns, signal.start_ns))
            after = min(1.0, (second - first) / (self._c.onsets.again_seconds * 1e9))
            state.again.append((first, second, after * times**-0.5))
        state.started[key] = (max(before_ns, signal.start_ns), times + 1)
        while len(state.started) > self._c.max_points:
            del state.started[next(iter(state.started))]
        if len(state.again) > self._c.max_points:
            del state.again[: len(state.again) - self._c.max_points]

    def join(self, runs: Sequence[str]) -> str:
        """Make several runs one; those that a person has fixed stay alone."""
        home = self.by_id[runs[0]]
        for other in [] if home.is_fixed else [r for r in runs[1:] if not self.by_id[r].is_fixed]:
            gone = self.by_id.pop(other)
            home.points |= gone.points
            home.started |= gone.started
            home.again.extend(gone.again)
            for case in self._cases.by_id.values():
                case.run = runs[0] if case.run == other else case.run
        return runs[0]

    def forget(self) -> None:
        """Runs without an open incident."""
        alive = {case.run for case in self._cases.by_id.values()}
        for run in self.by_id.keys() - alive:
            del self.by_id[run]

    def cut(self, run: str, now_ns: int, related: Relations) -> dict[str, Incident]:
        """Cut a run at its onsets, and move signals to the incident whose onset was the last before theirs.

        Gives the incidents that this ends. Signals older than the window stay where they are.
        """
        state, ids = self.by_id[run], self._cases.of_run(run)
        since_ns = now_ns - int(self._c.window_seconds * 1e9)
        state.points = {at: ns for at, ns in state.points.items() if ns >= since_ns}
        state.started = {key: at for key, at in state.started.items() if at[0] >= since_ns}
        state.again = [pair for pair in state.again if pair[0] >= since_ns]
        if state.is_fixed or not state.points or (len(state.points) < self._c.min_points and len(ids) < 2):
            return {}
        cases = self._cases.by_id
        times = np.array(sorted(state.points.values()), dtype=np.float64) / 1e9
        again = [(a / 1e9, b / 1e9, weight) for a, b, weight in state.again]
        onsets = find_onsets(times, self._c.onsets, [cases[i].onset_ns / 1e9 for i in ids], again)
        parts, starts = _parts([s for i in ids for s in cases[i].incident.signals if s.start_ns >= since_ns], onsets)
        ended = self._rearrange(run, parts, starts, now_ns, related)
        self._say_doubts(run, onsets)
        return ended

    def _rearrange(self, run: str, parts: Sequence[Sequence[Signal]], starts: Sequence[int], now_ns: int,
                   related: Relations) -> dict[str, Incident]:
        """Make the incidents what the parts are: split off, moved over, merged."""
        ids = self._cases.of_run(run)
        cases, of = self._cases.by_id, self._cases.of
        homes = match(parts, of, ids)
        moves: dict[str, str] = {}
        for k, part in enumerate(parts):
            if not part:
                continue
            home = homes.get(k)
            if home is None:
                held = [of[s.id] for s in part]
                home = self._cases.open(part, now_ns, run, split_from=max(sorted(set(held)), key=held.count))
            cases[home].onset_ns = starts[k]
            moves.update((s.id, home) for s in part if of.get(s.id) != home)
        before = {i: cases[i].incident for i in ids}
        self._cases.move(moves, related)
        ended = {}
        for incident_id in ids:
            if not cases[incident_id].incident.signals:
                heirs = [of[s.id] for s in before[incident_id].signals]
                ended[incident_id] = msgspec.structs.replace(
                    before[incident_id], state="merged", merged_into=max(sorted(set(heirs)), key=heirs.count),
                    closed_ns=now_ns, updated_ns=now_ns)
                del cases[incident_id]
        return ended

    def _say_doubts(self, run: str, onsets: Onsets) -> None:
        """Where a cut could as well be none, or the other way round, and where two incidents touch."""
        ids = self._cases.of_run(run)
        onset_ns = [self._cases.by_id[i].onset_ns for i in ids]
        gain_at = dict(zip((onsets.start_s * 1e9).astype(np.int64).tolist(), onsets.gain.tolist(), strict=True))
        second_ns = (onsets.second_s[~np.isnan(onsets.second_s)] * 1e9).astype(np.int64).tolist()
        for k, incident_id in enumerate(ids):
            case = self._cases.by_id[incident_id]
            until = onset_ns[k + 1] if k + 1 < len(ids) else 2**63
            again = [ns for ns in second_ns if onset_ns[k] < ns < until]
            notes = [f"it may be two: something began again at {clock(ns)}" for ns in again]
            touches = []
            for j in (k - 1, k + 1):
                if not 0 <= j < len(ids):
                    continue
                touches.append(ids[j])
                if gain_at.get(onset_ns[max(j, k)], 0.0) < self._c.onsets.doubt:
                    notes.append(f"it may be one with the incident that began at {clock(onset_ns[j])}")
            case.incident = msgspec.structs.replace(case.incident, maybe_two=bool(notes), note="; ".join(notes),
                                                    again_ns=min(again, default=0), touches=tuple(touches))


def _parts(signals: Sequence[Signal], onsets: Onsets) -> tuple[list[list[Signal]], list[int]]:
    """Signals by the onset that was the last before theirs, and the onsets, ns. A part without a strong signal is
    no incident: it stays with the one before."""
    starts = (onsets.start_s * 1e9).astype(np.int64).tolist()
    # Times went through float: a signal counts from its second on, not from a fraction of it.
    at = np.searchsorted(np.array(starts) - 10**6, [s.start_ns for s in signals], side="right") - 1
    parts: list[list[Signal]] = [[] for _ in starts]
    for signal, part in zip(signals, np.clip(at, 0, None).tolist(), strict=True):
        parts[part].append(signal)
    for k in range(len(parts) - 1, 0, -1):
        if not any(s.score >= STRONG for s in parts[k]):
            parts[k - 1].extend(parts.pop(k))
            del starts[k]
    return parts, starts


def _modality(signal: Signal) -> str:
    if signal.kind in LOG_KINDS:
        return "log"
    return "call" if signal.peer else "own"
