"""What would be left of a case if one suspect were well? Its symptoms are taken away, and with them what calls to it
explain in its callers, and in theirs: failures and waiting by how many calls a request makes, traffic further down.

Nothing is left where the suspect is the cause and the only one. Where another service is unusual still, that one is either
the cause of both, or a second fault that the louder one hid.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from rootcause.column_statistics import RECENT_ROWS, quantiles
from rootcause.contrast import call_share
from rootcause.robust import Change, Floats, edge_changes, node_changes
from rootcause.types import CaseWindow

Bools = NDArray[np.bool_]
_HOPS = 8
"""That symptoms travel."""
_ENOUGH = 0.6
"""Explained to this part is explained: retries, time-outs and what is only estimated of the calls are in the rest."""
_SAID = ("error_lines", "templates", "pattern", "logs", "spans")
"""What a service says or does otherwise when somebody whom it calls fails."""
_OF_ITS_OWN = ("cpu", "memory", "saturation", "logs", "up", "responsive")
_UNUSUAL, _RATHER_UNUSUAL, _IN_STEP = 3.0, 2.0, 0.7
_SYMPTOMS = frozenset({"error_ratio", "latency", "log_rate", "log_template", "saturation"})


class Healer:
    """Heals one case of one suspect at a time. Cost: that of the changes of all columns once, then some copies."""

    def __init__(self, case: CaseWindow) -> None:
        self._case = case
        self._nodes, self._calls = node_changes(case), edge_changes(case)
        self._share = call_share(case, self._nodes, self._calls)
        self._usual = {name: _medians(table, case) for name, table in case.node_metrics.items()}
        self._usual_calls = {name: _medians(table, case) for name, table in case.edge_metrics.items()}
        self._callers, self._callees = case.edges[:, 0], case.edges[:, 1]

    def healed(self, suspect: int, call: int = -1) -> CaseWindow:
        """The case as if service `suspect` were well, or, where `call` is a row of `case.edges`, the calls of that one."""
        case, of_call = self._case, call >= 0
        parts = {name: self._explained(name, suspect, call) for name in ("errors", "latency")}
        if not of_call:
            for twin in self._second_names(suspect):
                for of_services, _ in parts.values():
                    of_services[twin] = 1.0
        both = np.maximum(parts["errors"][0], parts["latency"][0])
        starved = np.zeros(len(both)) if of_call else self._starved(suspect)
        node, edge = {}, {}
        for name, table in case.node_metrics.items():
            part = {"errors": parts["errors"][0], "latency": self._slower(parts["latency"][0], both), "traffic": starved,
                    "saturation": parts["latency"][0]}.get(name, both if name in _SAID else np.zeros(len(both))).copy()
            if not of_call:
                part[suspect] = 1.0
            node[name] = self._towards(table, self._usual[name], part)
            if not of_call:  # who was gone is there again
                mine = node[name][case.baseline_rows:, suspect]
                mine[np.isnan(mine)] = self._usual[name][suspect]
        for name, table in case.edge_metrics.items():
            part = parts[name][1].copy() if name in parts else np.zeros(len(case.edges))
            if name == "traffic":
                part = starved[self._callers]
            if of_call:
                part[call] = 1.0
            else:
                part[self._callees == suspect] = 1.0
                if name in ("traffic", "network"):
                    part[self._callers == suspect] = 1.0
            edge[name] = self._towards(table, self._usual_calls[name], part)
        return self._untold(replace(case, node_metrics=node, edge_metrics=edge), suspect, both, of_call=of_call)

    def _explained(self, name: str, suspect: int, call: int) -> tuple[Floats, Floats]:
        """([n], [m]) which part of the change of each service, and of each call, is what the suspect brings; 0..1."""
        n, m = len(self._case.services), len(self._case.edges)
        moved, tells = _moved(self._nodes.get(name), n)
        on_call, is_measured = _moved(self._calls.get(name), m)
        passed = np.maximum(np.where(is_measured, on_call, moved[self._callees]), 0.0)
        passed *= np.minimum(self._share, 1.0) if name == "errors" else self._share
        silent = ~is_measured & ~tells[self._callees]
        part = np.zeros(n)
        on = np.zeros(m)
        for _ in range(_HOPS):
            if call < 0:
                part[suspect] = 1.0
            on = part[self._callees]
            if call >= 0:
                on[call] = 1.0
            amount = np.bincount(self._callers, weights=passed * on, minlength=n)
            next_part = np.where(moved > 0, np.minimum(amount / np.maximum(moved, 1e-12), 1.0), 0.0)
            np.maximum.at(next_part, self._callers, np.where(silent, on, 0.0))  # nobody measures it: it may be all of it
            next_part[next_part >= _ENOUGH] = 1.0
            if call < 0:
                next_part[suspect] = 1.0
            if np.array_equal(next_part, part):
                break
            part = next_part
        return part, on

    def _slower(self, part: Floats, both: Floats) -> Floats:
        """Of latency: who got faster did so because something else fails early."""
        moved, _ = _moved(self._nodes.get("latency"), len(part))
        return np.where(moved < 0, both, part)

    def _starved(self, suspect: int) -> Floats:
        """[n] which part of the traffic that is missing further down is missing because of the suspect."""
        traffic, n = self._nodes.get("traffic"), len(self._case.services)
        if traffic is None:
            return np.zeros(n)
        through = self._share * traffic.before[self._callers]
        into = np.bincount(self._callees, weights=through, minlength=n)
        weight = through / np.maximum(into[self._callees], 1e-12)
        below = np.zeros(n)
        for _ in range(_HOPS):
            below[suspect] = 1.0
            following = np.minimum(np.bincount(self._callees, weights=below[self._callers] * weight, minlength=n), 1.0)
            if np.allclose(following, below):
                break
            below = following
        below[suspect] = 0.0
        return np.where(traffic.now < traffic.before, np.minimum(below / _ENOUGH, 1.0), 0.0)

    def _second_names(self, suspect: int) -> list[int]:
        """Services that are a second name of it (a load balancer, a "remote" address): callers of it call them, they call
        nobody, are asked for less, have nothing but errors and latency, and are unusual in step with it."""
        calls_nobody = np.ones(len(self._case.services), dtype=bool)
        calls_nobody[self._callers] = False
        beside = np.isin(self._callers, self._callers[self._callees == suspect])
        asked = self._nodes["traffic"].before if "traffic" in self._nodes else np.zeros(len(calls_nobody))
        return [j for j in sorted(set(self._callees[beside].tolist()) - {suspect})
                if calls_nobody[j] and asked[j] <= asked[suspect] and self._is_in_step(j, suspect)]

    def _is_in_step(self, one: int, other: int) -> bool:
        if any(name in self._nodes and self._nodes[name].has[one] for name in _OF_ITS_OWN):
            return False
        found = False
        for name in ("errors", "latency"):
            if name not in self._nodes or abs(self._nodes[name].z[one]) < _UNUSUAL:
                continue
            now = self._case.node_metrics[name][self._case.baseline_rows:][-RECENT_ROWS:][:, [one, other]]
            now = now[np.isfinite(now).all(axis=1)]
            if self._nodes[name].z[other] < _RATHER_UNUSUAL or len(now) < 4 or not now.std(axis=0).all():
                return False
            if float(np.asarray(np.corrcoef(now.T))[0, 1]) <= _IN_STEP:
                return False
            found = True
        return found

    def _towards(self, table: Floats, usual: Floats, part: Floats) -> Floats:
        """[t, k] the rows of the incident moved by this part of the way to their usual value, where that is known."""
        out = table.copy()
        now = out[self._case.baseline_rows:]
        now -= np.where(np.isfinite(usual), part, 0.0) * (now - np.nan_to_num(usual))
        return out

    def _untold(self, case: CaseWindow, suspect: int, both: Floats, *, of_call: bool) -> CaseWindow:
        """Without the signals that are explained, and without the suspect's changes."""
        service = case.services[suspect]
        well = {case.services[i] for i in np.flatnonzero(both >= 1.0).tolist()}
        signals = tuple(s for s in case.signals if (of_call or (s.peer or s.service) != service) and s.peer not in well
                        and not (s.service in well and s.kind in _SYMPTOMS))
        return replace(case, signals=signals, changes=case.changes if of_call else tuple(
            c for c in case.changes if c.service != service))


def _medians(table: Floats, case: CaseWindow) -> Floats:
    """[k] NaN for columns without a usual row."""
    (middle,), _ = quantiles(np.ascontiguousarray(table[:case.baseline_rows].T), (0.5,))
    return middle


def _moved(change: Change | None, width: int) -> tuple[Floats, Bools]:
    """([width] now minus before, whether there is data)."""
    if change is None:
        return np.zeros(width), np.zeros(width, dtype=bool)
    return np.where(change.has, change.now - change.before, 0.0), change.has
