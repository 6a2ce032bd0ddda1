"""From the counters and histograms of service-graph metrics (ingest/wire/service_graph.py) to what calls and services
are judged by: requests per second, share of failures, latency, time on the way.
"""

from __future__ import annotations

import re
from collections.abc import Container
from dataclasses import dataclass, field
from typing import Final

from detect.buckets import SeriesTable
from ingest.types import SeriesKey

_NAME: Final = re.compile(
    r"traces_service_graph_request(?:_(?P<what>total|failed_total)|_(?P<side>server|client)(?:_(?:seconds|milliseconds))?"
    r"[._](?P<part>count|sum|p50|p95|p99)|.*)\Z")
_LABELS: Final = (("source", "service_graph"),)
_OF_A_SERVICE: Final = {"errors": "http.server.error_ratio", "traffic": "http.server.requests_per_second",
                        "latency": "http.server.latency_p95_seconds"}
_OF_A_CALL: Final = {"errors": "client.error_ratio", "traffic": "client.requests_per_second",
                     "latency": "client.latency_p95_seconds"}
_QUEUE: Final = "messaging_system"


@dataclass
class _Call:
    """Sums over the series of one (caller, callee); rates per second, quantiles in seconds."""

    total: float = 0.0
    failed: float = 0.0
    count: dict[str, float] = field(default_factory=dict)  # side -> requests whose time was measured
    sum: dict[str, float] = field(default_factory=dict)
    p95: dict[str, float] = field(default_factory=dict)
    is_queue: bool = False  # the client's time is that of sending, the server's that of working on what was sent

    def mean(self, side: str) -> float | None:
        return self.sum[side] / self.count[side] if self.count.get(side, 0.0) > 0 and side in self.sum else None

    def values(self) -> dict[str, float]:
        out = {"traffic": self.total}
        if self.total > 0:
            out["errors"] = min(1.0, self.failed / self.total)
        latency = self.p95.get("client", self.p95.get("server"))
        if latency is not None:
            out["latency"] = latency
        return out

    def wait(self) -> float | None:
        """Seconds on the way there and back; None where one of the two ends measures nothing."""
        there, back = self.mean("server"), self.mean("client")
        return None if there is None or back is None or self.is_queue else max(0.0, back - there)


class ServiceGraphMetrics:
    """Replaces the series of service graphs in a row by what they tell. Cost: a look-up per series."""

    def __init__(self, table: SeriesTable) -> None:
        self._table = table
        self._roles: dict[int, tuple[SeriesKey, tuple[str, str, float] | None]] = {}

    def settle(self, found: dict[int, float], told: Container[tuple[str, str, str]]) -> dict[SeriesKey, float]:
        """`found`: series -> value, counters as rates and histograms as quantiles. What others have `told` of a call or a
        service, as (service, peer, indicator), stays as it is. Gives the time on the way, which no detector judges."""
        calls: dict[tuple[str, str], _Call] = {}
        for at in [at for at in found if self._role(at) is not None]:
            key, role = self._table.keys[at], self._role(at)
            value = found.pop(at)
            if role is not None and role[0]:
                call = calls.setdefault((key.service, key.peer), _Call())
                call.is_queue |= ("connection_type", _QUEUE) in key.labels
                _add(call, role, value)
        waits: dict[SeriesKey, float] = {}
        if not calls:
            return waits
        servers: dict[str, list[_Call]] = {}
        for (service, peer), call in calls.items():
            servers.setdefault(peer or service, []).append(call)
            if peer:
                self._put(found, service, peer, call.values(), _OF_A_CALL, told)
                wait = call.wait()
                if wait is not None:
                    waits[SeriesKey(service, "client.network_seconds", peer=peer)] = wait
        for service, answered in servers.items():
            self._put(found, service, "", _together(answered), _OF_A_SERVICE, told)
        return waits

    def has(self, at: int) -> bool:
        """Whether a series is of a service graph."""
        return self._role(at) is not None

    def _role(self, at: int) -> tuple[str, str, float] | None:
        """(what, side, factor to seconds) of a series; what is "" for one that is only taken out, None for one of
        somebody else."""
        key = self._table.keys[at]
        known = self._roles.get(at)
        if known is None or known[0] is not key:  # a restored table numbers its series anew
            found = _NAME.match(key.name)
            milli = "milliseconds" in key.name or key.unit == "ms"
            known = self._roles[at] = (key, None if found is None else (
                "" if found["side"] == _made_up(key) else found["what"] or found["part"] or "",
                found["side"] or "", 1e-3 if milli else 1.0))
        return known[1]

    def _put(self, found: dict[int, float], service: str, peer: str, values: dict[str, float], names: dict[str, str],
             told: Container[tuple[str, str, str]]) -> None:
        for indicator, value in values.items():
            if indicator in names and (service, peer, indicator) not in told:
                at = self._table.index(SeriesKey(service, names[indicator], peer=peer, labels=_LABELS))
                if at >= 0:
                    found[at] = value


def _made_up(key: SeriesKey) -> str:
    """The side of a call of which nobody has sent a span, "" where both did. Its time is written all the same: 0 s where it
    is a virtual node, the client's once more where it is a database (`servicegraphs.go` of Tempo, `connector.go` of the
    collector's connector)."""
    labels = dict(key.labels)
    connection = labels.get("connection_type", "")
    if connection == "virtual_node":
        return "client" if not key.peer or labels.get("virtual_node") == "client" else "server"
    return "server" if connection == "database" else ""


def _add(call: _Call, role: tuple[str, str, float], value: float) -> None:
    what, side, to_seconds = role
    if what == "total":
        call.total += value
    elif what == "failed_total":
        call.failed += value
    elif what == "count":
        call.count[side] = call.count.get(side, 0.0) + value
    elif what == "sum":
        call.sum[side] = call.sum.get(side, 0.0) + value * to_seconds
    elif what == "p95":
        call.p95[side] = max(call.p95.get(side, 0.0), value * to_seconds)


def _together(answered: list[_Call]) -> dict[str, float]:
    """What a service is asked by all its callers: the sum, the share, the mean of the latencies by requests."""
    total = sum(c.total for c in answered)
    out = {"traffic": total}
    if total > 0:
        out["errors"] = min(1.0, sum(c.failed for c in answered) / total)
    timed = [(c.total, c.p95["server"]) for c in answered if "server" in c.p95 and c.total > 0]
    if timed:
        out["latency"] = sum(n * p for n, p in timed) / sum(n for n, _ in timed)
    return out
