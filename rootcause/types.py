"""What `rootcause` works on and hands on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from detect.types import Evidence, Signal
from ingest.types import Change


@dataclass(frozen=True)
class CaseWindow:
    """One incident as numbers: what a ranker sees, and what the simulator makes.

    Rows before `baseline_rows` are the usual state; NaN is missing. `node_metrics` maps an indicator
    (detect.indicators) to float64 [t, n]; `edge_metrics` maps traffic, errors, latency to [t, m].
    """

    ts_ns: NDArray[np.int64]  # [t]
    services: tuple[str, ...]  # [n]
    node_metrics: Mapping[str, NDArray[np.float64]]  # indicator -> [t, n]
    edges: NDArray[np.int32]  # [m, 2] caller, callee as indexes into services
    edge_metrics: Mapping[str, NDArray[np.float64]]  # indicator -> [t, m]
    baseline_rows: int
    changes: tuple[Change, ...] = ()
    signals: tuple[Signal, ...] = ()

    @property
    def step_seconds(self) -> float:
        """The usual distance of rows; a second where there is one row."""
        return float(np.median(np.diff(self.ts_ns))) / 1e9 if len(self.ts_ns) > 1 else 1.0

    def of_rows(self, rows: slice | NDArray[np.bool_], baseline_rows: int) -> CaseWindow:
        """The same of some of its rows, of which the first `baseline_rows` are the usual state."""
        return replace(self, ts_ns=self.ts_ns[rows], baseline_rows=baseline_rows,
                       node_metrics={name: table[rows] for name, table in self.node_metrics.items()},
                       edge_metrics={name: table[rows] for name, table in self.edge_metrics.items()})


@dataclass(frozen=True)
class Ranking:
    """Scores per service of a CaseWindow, higher is more suspect, any scale; `p_none` in 0..1 or None
    where the ranker can't say."""

    scores: NDArray[np.float64]  # [n]
    p_none: float | None = None
    model_version: str = ""
    calls: NDArray[np.float64] | None = None
    """[m] probability that the calls of this edge are the culprit and neither end; already in the callee's score."""


class Ranker(Protocol):
    """Scores the services of one case. Deterministic; no state between cases."""

    name: str

    def rank(self, case: CaseWindow) -> Ranking: ...


class Deciding(msgspec.Struct, frozen=True):
    """A series that speaks for a suspect, or against it: where to look in the charts."""

    service: str
    indicator: str  # see rootcause.window.channel_of
    peer: str = ""  # of calls from `service` to it
    moved_ns: int = 0  # start of the first bucket outside its usual range; 0: it stayed inside
    usual: float | None = None
    now: float | None = None
    is_for: bool = True  # False: speaks against


class Suspect(msgspec.Struct, frozen=True):
    """A candidate cause: a service (`peer` empty) or an edge (calls from `service` to `peer`); as `service` also a host or
    volume that services rest on (`kind`)."""

    service: str
    probability: float  # 0..1
    peer: str = ""
    path: tuple[str, ...] = ()  # from the suspect up to where it is felt
    evidence: tuple[Evidence, ...] = ()
    change: Change | None = None  # the change that may have caused it
    signal_kinds: tuple[str, ...] = ()  # typed kinds of open signals on it
    deciding: tuple[Deciding, ...] = ()  # the series behind the evidence, at most ten
    instances: tuple[str, ...] = ()  # of the service, those that are unusual while others of it are not
    kind: str = ""  # host, volume; "": a service, or calls


class Diagnosis(msgspec.Struct, frozen=True):
    """Ranked suspects; their probabilities and `p_none` add up to 1 (up to the ones cut off).

    `cannot_tell` is true when no suspect is ahead of "none of these" and of the next by enough, or when no signal
    is on the first one or on calls to it.
    """

    incident_id: str
    ts_ns: int
    suspects: tuple[Suspect, ...]
    p_none: float
    cannot_tell: bool
    model_version: str
    graph_hash: str


@dataclass(frozen=True)
class ServiceGraph:
    """Who calls whom. `edges` are (caller, callee); `external` are services that are not ours to repair.

    `kinds` says of a service that it is a database, cache, queue or external, where somebody told, and of a host or a
    volume that it is one. `rests_on` are (service, host or volume) pairs; these are no services, and nobody calls them.
    `instances` maps a service to its instances, and these to the host that they run on ("": nobody says).
    """

    services: tuple[str, ...]
    edges: frozenset[tuple[str, str]]
    external: frozenset[str] = field(default_factory=frozenset)
    kinds: Mapping[str, str] = field(default_factory=dict, hash=False)
    rests_on: frozenset[tuple[str, str]] = field(default_factory=frozenset)
    instances: Mapping[str, Mapping[str, str]] = field(default_factory=dict, hash=False)

    def kind_of(self, name: str) -> str:
        """service, database, cache, queue, external, host or volume."""
        return self.kinds.get(name) or ("external" if name in self.external else "service")

    def callees(self, service: str) -> tuple[str, ...]:
        return tuple(sorted(b for a, b in self.edges if a == service))

    def callers(self, service: str) -> tuple[str, ...]:
        return tuple(sorted(a for a, b in self.edges if b == service))
