"""What the columns of recorded cases mean, where the name alone does not say it in our words."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ingest.types import SeriesKey
from opsmend.evaluate.rca_names import known_as
from rootcause.window import NODE_INDICATORS, channel_of, rank_of

Floats = NDArray[np.float64]


def _same(values: Floats) -> Floats:
    return values


def _failed_percent(values: Floats) -> Floats:
    """Availability in percent to a share of failures."""
    return np.clip(1.0 - values / 100.0, 0.0, 1.0)


def _failed_share(values: Floats) -> Floats:
    """Successes, as a share or in percent, to a share of failures; a column that is never above 0 says nothing."""
    most = float(np.nanmax(values, initial=0.0))
    if most <= 0:
        return np.full_like(values, np.nan)
    return np.clip(1.0 - values / (100.0 if most > 1.5 else 1.0), 0.0, 1.0)


def _as_share(values: Floats) -> Floats:
    """Failures as a share; counts, which go beyond 1, to 0..1 in the same order."""
    return np.maximum(values, 0.0) / (1.0 + np.maximum(values, 0.0)) if np.nanmax(values, initial=0.0) > 1 else values


@dataclass(frozen=True)
class Role:
    """A column: `indicator` of `service`, or of the calls from `caller` to it."""

    service: str
    indicator: str
    caller: str = ""
    value: Callable[[Floats], Floats] = _same
    rank: int = 0  # of several statistics of the same thing, the lowest counts


_STATISTICS = (re.compile(r"average|mean", re.IGNORECASE), re.compile(r"95"), re.compile(r"99"), re.compile(r"90"))
"""A mean feels the tail and keeps its noise; p95 next. Medians last: few slow requests leave them alone."""


def _rank(metric: str) -> int:
    return next((n for n, pattern in enumerate(_STATISTICS) if pattern.search(metric)), len(_STATISTICS))


ENTRY = "__entry__"
"""Stands for the one service that nobody calls."""
_SUCCESS = re.compile(r"success_?(rate|ratio)?$", re.IGNORECASE)
SERVED = "served"
"""Seconds of a call as the callee measures them: what the caller waits beyond these is the network's."""
WAITED = "waited"
"""Seconds that a service waits for whom it calls, whomever: of all its calls together."""
_CALL = re.compile(r"edge_(?P<end>source|destination)_p50__from_(?P<caller>.+)")  # as the caller, the callee measures it
_IGNORED = re.compile(r"node_|sysread|syswrite|net_[rt]x|socket")  # of the machine, or no indicator
_MEANINGS: tuple[tuple[re.Pattern[str], str, Callable[[Floats], Floats]], ...] = (
    (re.compile(r"availability"), "errors", _failed_percent),
    (_SUCCESS, "errors", _failed_share),
    (re.compile(r"^err(or)?s?(_rate|_ratio|_count)?$"), "errors", _as_share),
    (re.compile(r"requests|workload|_qps|^load$"), "traffic", _same),
    (re.compile(r"client_?lat"), WAITED, _same),
    (re.compile(r"lat(ency)?([_-]|\d|$)"), "latency", _same),
    (re.compile(r"cpu"), "cpu", _same),
    (re.compile(r"mem"), "memory", _same),
)


def role_of(column: str) -> Role | None:
    """None for columns that say nothing about one service. Of what is measured where requests come in, failures belong
    to the service ENTRY, which the reader knows by another name.

    >>> role_of("cart|mem").indicator, role_of("cart|node_cpu"), role_of("cart|edge_source_p50__from_shop").caller
    ('memory', None, 'shop')
    """
    service, _, metric = column.rpartition("|")
    if service == ENTRY:
        return Role(service, "errors", value=_failed_share) if _SUCCESS.search(metric) else None
    if not service or service.startswith("__"):
        return None
    call = _CALL.fullmatch(metric)
    if call:
        return Role(service, "latency" if call["end"] == "source" else SERVED, call["caller"])
    if _IGNORED.match(metric):
        return None
    for pattern, indicator, value in _MEANINGS:
        if pattern.search(metric):
            return Role(service, indicator, value=value, rank=_rank(metric))
    indicator = channel_of(SeriesKey(service, metric))
    return Role(service, indicator, rank=rank_of(indicator, metric)) if indicator in NODE_INDICATORS else None


def services_of(columns: tuple[str, ...]) -> set[str]:
    """All that columns name."""
    return {s for role in map(role_of, columns) if role for s in (role.service, role.caller) if s and s != ENTRY}


def one_name(columns: tuple[str, ...], edges: list[tuple[str, str]],
              root: str) -> tuple[tuple[str, ...], list[tuple[str, str]]]:
    """The same with pods under the name of their service, where the calls or the label speak of services: labels tell at
    which level culprits are named."""
    named, ends = services_of(columns), {s for edge in edges for s in edge}
    speaks = {known_as(name, (ends - named) | ({root} - named - ends)) for name in named - ends} - named
    if not speaks:
        return columns, edges

    def short(name: str) -> str:
        return name if name in ends else known_as(name, speaks | ends)

    def renamed(column: str) -> str:
        service, _, metric = column.rpartition("|")
        head, mark, caller = metric.partition("__from_")
        return f"{short(service)}|{head}{mark}{short(caller) if caller else ''}"

    return tuple(map(renamed, columns)), edges
