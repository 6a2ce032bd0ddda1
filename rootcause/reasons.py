"""Why a service is suspected, from its own series: what moved, when, by how much, what travelled where, and what
speaks against it. In our own words with numbers; nothing of what telemetry says in text gets in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from detect.types import Evidence
from rootcause.robust import Change, edge_changes, node_changes
from rootcause.types import CaseWindow, Deciding

Floats = NDArray[np.float64]
_UNUSUAL = 4.0
_RECENT_ROWS = 12
_FELT = ("errors", "latency")
_WORDS = {"errors": "error ratio", "latency": "latency", "traffic": "traffic", "saturation": "saturation", "cpu": "CPU",
          "memory": "memory", "lock_wait": "lock waits", "cache_full": "cache refusals", "up": "up", "responsive": "answers",
          "logs": "log lines", "error_lines": "error lines in its logs", "templates": "mix of log templates",
          "spans": "calls made per request", "pattern": "pattern of calls made",
          "disk": "disk", "space": "space taken on its disk", "self_time": "time of its own work"}


@dataclass(frozen=True)
class Moved:
    """A series that left its usual range: the first row of that, and how far it is now."""

    indicator: str
    row: int
    z: float
    usual: float
    now: float
    is_old: bool  # it was as unusual just before the incident


class Reasons:
    """Of one case. Cost: 5 ms for 40 services; linear in services, calls and rows."""

    def __init__(self, case: CaseWindow, first_signal_ns: int) -> None:
        self._case = case
        self._first = first_signal_ns

    @cached_property
    def _nodes(self) -> dict[str, Change]:
        return node_changes(self._case)

    @cached_property
    def _calls(self) -> dict[str, Change]:
        return edge_changes(self._case)

    def moved(self, i: int) -> list[Moved]:
        """The series of service `i` outside their usual range, the first mover first; what moved together, the
        strongest first."""
        out = [m for name, change in self._nodes.items() if (m := self._of(self._case.node_metrics[name], name, change, i))]
        return sorted(out, key=lambda m: (m.row, -abs(m.z)))

    def felt_row(self, i: int) -> int | None:
        """First row at which the service failed or was slow; None: it was not."""
        return min((m.row for m in self.moved(i) if m.indicator in _FELT and not m.is_old), default=None)

    def evidence(self, i: int) -> list[Evidence]:
        """For and against, at most seven: the first mover, the two strongest others, calls to it, its neighbours."""
        moved = [m for m in self.moved(i) if not m.is_old]
        out: list[Evidence] = []
        if moved:
            first, rest = moved[0], sorted(moved[1:], key=lambda m: -abs(m.z))
            out.append(Evidence(f"{_WORDS.get(first.indicator, first.indicator)} moved first, {self._when(first.row)}: "
                                f"{_size(first)}", first.now, first.usual))
            out += [Evidence(f"{_WORDS.get(m.indicator, m.indicator)} {_size(m)}, {self._when(m.row)}", m.now, m.usual)
                    for m in rest[:2]]
        out += self._calls_to(i)[:1]
        out += self._against(i, moved)
        return out

    def deciding(self, i: int, path: Sequence[str]) -> tuple[Deciding, ...]:
        """The series behind `evidence`: of the service itself, of the loudest calls to it, of the first callee that
        failed or slowed before it (against), and along `path` the one in which each caller felt it."""
        own = [m for m in self.moved(i) if not m.is_old]
        first, rest = own[:1], sorted(own[1:], key=lambda m: -abs(m.z))[:2]
        out = [self._series(m, i) for m in first + rest]
        if calls := self._loudest_calls(i):
            m, k = calls[0]
            out.append(self._series(m, int(self._case.edges[k, 0]), peer=self._case.services[i]))
        if (earlier := self._callee_before(i)) is not None:
            out += [self._series(m, earlier, is_for=False) for m in self._felt(earlier)[:1]]
        at = {service: j for j, service in enumerate(self._case.services)}
        for service in path[1:5]:
            out += [self._series(m, at[service]) for m in self._felt(at[service])[:1]]
        return tuple(dict.fromkeys(out))[:10]

    def _series(self, m: Moved, i: int, *, peer: str = "", is_for: bool = True) -> Deciding:
        return Deciding(self._case.services[i], m.indicator, peer, int(self._case.ts_ns[m.row]), m.usual, m.now, is_for)

    def _felt(self, i: int) -> list[Moved]:
        return [m for m in self.moved(i) if m.indicator in _FELT and not m.is_old]

    def _callee_before(self, i: int) -> int | None:
        """The first callee that failed or slowed before the service did."""
        mine = self.felt_row(i)
        callees: list[int] = self._case.edges[self._case.edges[:, 0] == i, 1].tolist()
        return next((j for j in callees if mine is not None and (row := self.felt_row(j)) is not None and row < mine), None)

    def _calls_to(self, i: int) -> list[Evidence]:
        return [Evidence(f"calls from {self._case.services[int(self._case.edges[k, 0])]}: {_WORDS[m.indicator]} {_size(m)}, "
                         f"{self._when(m.row)}", m.now, m.usual) for m, k in self._loudest_calls(i)]

    def _loudest_calls(self, i: int) -> list[tuple[Moved, int]]:
        """(series, row of `edges`) of failing and slow calls to the service, the loudest first."""
        found = []
        for name in _FELT:
            if name in self._calls:
                for k in np.flatnonzero(self._case.edges[:, 1] == i).tolist():
                    m = self._of(self._case.edge_metrics[name], name, self._calls[name], k)
                    if m is not None and m.z > 0 and not m.is_old:
                        found.append((m, k))
        return sorted(found, key=lambda f: -f[0].z)

    def _against(self, i: int, moved: list[Moved]) -> list[Evidence]:
        out = []
        old = [m for m in self.moved(i) if m.is_old]
        if not moved and old:
            word = _WORDS.get(old[0].indicator, old[0].indicator)
            out.append(Evidence(f"{word} was as unusual before the incident", old[0].now, old[0].usual, is_for=False))
        elif not moved and any(c.has[i] for c in self._nodes.values()):
            out.append(Evidence("none of its own series left its usual range", is_for=False))
        if (j := self._callee_before(i)) is not None:
            ahead = self._seconds(self.felt_row(i) or 0) - self._seconds(self.felt_row(j) or 0)
            out.append(Evidence(f"its callee {self._case.services[j]} failed or slowed {ahead:.0f} s earlier", ahead,
                                is_for=False))
        return out

    def travelled(self, i: int) -> tuple[int, ...]:
        """The services along which failing and waiting went up the calls from `i`: each next one is a caller that
        felt it, not before the one below it; of several the first. `i` alone where no caller felt it."""
        path, at = [i], i
        while True:
            since = self.felt_row(at) or 0
            above = [(row, j) for j in sorted(set(self._case.edges[self._case.edges[:, 1] == at, 0].tolist()))
                     if j not in path and (row := self.felt_row(j)) is not None and row >= since - 1]
            if not above:
                return tuple(path)
            at = min(above)[1]
            path.append(at)

    def _of(self, table: Floats, name: str, change: Change, k: int) -> Moved | None:
        """None unless it left its usual range and is out of it in most of the rows since."""
        if not change.has[k]:
            return None
        base, usual, scale = self._case.baseline_rows, float(change.before[k]), float(change.scale[k])
        rows = table[base:, k]
        out = np.abs(np.nan_to_num(rows, nan=usual) - usual) > _UNUSUAL * scale
        if not out.any():
            return None
        first = int(np.argmax(out))
        since, before = rows[first:], table[max(0, base - _RECENT_ROWS):base, k]
        now = float(np.median(since[np.isfinite(since)]))
        known = before[np.isfinite(before)]
        recent = float(np.median(known)) if len(known) else usual
        if abs(now - usual) <= _UNUSUAL * scale:
            return None
        sign = -1.0 if name in ("up", "responsive") else 1.0
        return Moved(name, base + first, sign * (now - usual) / scale, usual, now, abs(now - recent) < abs(now - usual) / 2)

    def _seconds(self, row: int) -> float:
        return (int(self._case.ts_ns[row]) - self._first) / 1e9

    def _when(self, row: int) -> str:
        at = self._seconds(row)
        if abs(at) < 1:
            return "with the first sign"
        return f"{abs(at):.0f} s {'before' if at < 0 else 'after'} the first sign"


def _size(m: Moved) -> str:
    """
    >>> _size(Moved("latency", 0, 9.0, 0.05, 0.95, False)), _size(Moved("errors", 0, 9.0, 0.0, 0.4, False))
    ('950 ms, usually 50 ms', '40 %, usually 0 %')
    """
    if m.indicator in ("latency", "self_time"):
        return f"{_seconds(m.now)}, usually {_seconds(m.usual)}"
    if m.indicator in ("errors", "saturation"):
        return f"{100 * m.now:.3g} %, usually {100 * m.usual:.3g} %"
    if m.usual > 0 and m.now > 0:
        ratio = m.now / m.usual
        return f"{ratio:.3g} times its usual" if ratio >= 1 else f"down to {100 * ratio:.2g} % of its usual"
    return f"{m.now:.3g}, usually {m.usual:.3g}"


def _seconds(value: float) -> str:
    return f"{value:.3g} s" if value >= 1 else f"{1e3 * value:.3g} ms"
