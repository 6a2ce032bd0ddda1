"""What `detect` hands on: signals, and the incidents they converge into."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Final, Literal, get_args

import msgspec
import numpy as np
from numpy.typing import NDArray

from ingest.types import SeriesKey

NAMESPACE: Final = uuid.UUID("0b9f3a52-6d0b-5f0e-8a52-4f6f7d9a1c11")
"""Of every id that is derived from content (UUIDv5)."""

SignalKind = Literal[
    "process.down",  # the process is gone (up == 0, exit event)
    "hang",  # the process is there but does not answer
    "crash_loop",  # it exits again and again
    "error_ratio",  # more of its requests fail than usual
    "latency",  # it is slower than usual
    "traffic",  # much more or less is asked of it than usual
    "saturation",  # a bounded resource (pool, queue, disk) is used up
    "cpu",
    "memory",
    "lock_wait",  # sessions wait for a lock that another session holds
    "cache_full",  # a cache refuses writes or evicts because it is full
    "log_rate",  # far more log lines than usual
    "log_template",  # a log template never seen before
    "metric_anomaly",  # a metric of no known category left its forecast
    "breach",  # a limit is forecast to be crossed (see Breach)
    "alert",  # somebody else's alert
]
SIGNAL_KINDS: Final[tuple[str, ...]] = get_args(SignalKind)
LOG_KINDS: Final = frozenset({"log_rate", "log_template"})
"""Kinds that rest on log text alone: an attacker can write these, so no action may rest on them alone."""

LEVEL_KINDS: Final = frozenset({"metric_anomaly", "memory", "traffic", "breach", "log_template"})
"""Kinds that may stay for good once something has happened (memory that is not given back, a new level of load).
They open an incident and belong to it, but neither keep one open in which something else was wrong, nor decide
whether a repair of it worked."""


class Evidence(msgspec.Struct, frozen=True):
    """One fact behind a signal or a suspect, in words for people and in numbers for machines.

    `text` is made of our own words and of typed, bounded slots; never of raw log text.
    """

    text: str
    value: float | None = None
    usual: float | None = None
    is_for: bool = True  # False: speaks against


class Breach(msgspec.Struct, frozen=True):
    """A predicted threshold crossing. Times are event time; the interval holds 90 %."""

    series: str
    limit: float
    direction: Literal["up", "down"]
    eta_low_ns: int
    eta_ns: int
    eta_high_ns: int
    probability: float  # 0..1
    current: float = 0.0
    slope_per_second: float = 0.0


class Signal(msgspec.Struct, frozen=True):
    """Something is unusual about one service (or one edge: `service` calls `peer`), from `start_ns` on.

    `id` is a UUIDv5 of (tenant, detector, service, peer, key, start_ns): a replay writes the same.
    `key` folds repeats: equal (detector, service, peer, key) is the same thing going on.
    `score` is 0..1, 1 is worst.
    """

    id: str
    tenant: str
    detector: str
    kind: SignalKind
    service: str
    start_ns: int
    end_ns: int
    score: float
    key: str
    peer: str = ""
    instance: str = ""
    series: str = ""
    value: float | None = None
    usual: float | None = None
    template_id: str = ""
    count: int = 1  # repeats folded into it
    evidence: tuple[Evidence, ...] = ()
    breach: Breach | None = None
    is_open: bool = True


class Membership(msgspec.Struct, frozen=True):
    """Why a signal is in an incident."""

    signal_id: str
    why: str


IncidentState = Literal["open", "closed", "merged"]
Severity = Literal["critical", "warning", "info"]


class Incident(msgspec.Struct, frozen=True):
    """Signals that belong together. `id` is stable: it never changes while signals join or leave.

    `signals` holds the folded signals themselves, newest state of each; `members` why each is in.
    """

    id: str
    tenant: str
    fingerprint: str
    opened_ns: int
    updated_ns: int
    state: IncidentState
    severity: Severity
    title: str
    services: tuple[str, ...]
    signals: tuple[Signal, ...]
    members: tuple[Membership, ...]
    first_signal_ns: int
    closed_ns: int = 0
    split_from: str = ""
    merged_into: str = ""
    maybe_two: bool = False
    """Where its signals could as well be cut, or could as well be one with a neighbour: see `note`."""
    note: str = ""
    """Why it may be two, in words for people; "" where it is clear."""
    again_ns: int = 0
    """Where it may be two: when something began again in it; what began then or later is the other one. 0: not told."""
    touches: tuple[str, ...] = ()
    """Incidents next to it in time and place."""
    closed_by: str = ""
    """Who closed it; "" where it ended by itself."""
    closed_reason: str = ""
    """What they said, where they said anything."""


@dataclass(frozen=True)
class Observations:
    """Metrics on a regular clock: one row per closed bucket, NaN where nothing was reported.

    Besides the incoming metrics it holds the ones derived from logs and spans
    (`log.lines_per_second`, `log.error_lines_per_second`, `http.server.error_ratio`, ...).
    """

    ts_ns: NDArray[np.int64]  # [t] start of each bucket
    series: tuple[SeriesKey, ...]  # [s]
    values: NDArray[np.float64]  # [t, s]
    forecast: NDArray[np.float32] | None = None
    """[t, s, 3]: the 5 %, 50 % and 95 % quantiles of each value as they were forecast before it was seen; NaN where
    none was, None where nobody forecasts (or the reader did not ask)."""


@dataclass(frozen=True)
class DetectResult:
    """What one step of `detect` found. All tuples hold only what is new or has changed."""

    signals: tuple[Signal, ...]
    incidents: tuple[Incident, ...]
    observations: Observations  # the buckets that this step closed
    watermark_ns: int  # event time up to which everything is decided
    late_rows: int = 0
