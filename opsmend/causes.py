"""What a person says the cause of an incident was, with the window that it can be seen in.

The window is kept with the word: telemetry is thrown away after a while, and what somebody took the trouble to find out
is to be learned from for longer than that (`opsmend train rootcause --fine-tune`).
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping

import msgspec
import numpy as np
from numpy.typing import NDArray

from detect.types import Incident, Observations, Signal
from ingest.types import Change
from rootcause.types import CaseWindow, ServiceGraph
from rootcause.window import case_window

BEFORE_SECONDS, AFTER_SECONDS = 300.0, 300.0
"""Of the first sign: rows from so long before it up to so long after it, or to the end of the incident."""


class ConfirmedCause(msgspec.Struct, frozen=True):
    """The service that was at fault; with `peer` the calls from it to `peer`, and neither end; with neither, nothing was
    wrong. The newest word counts."""

    incident_id: str
    service: str
    peer: str
    by: str
    at_ns: int


def span_ns(incident: Incident, now_ns: int) -> tuple[int, int]:
    """First and last time that belongs to the window."""
    end = incident.first_signal_ns + int(AFTER_SECONDS * 1e9)
    ends = (end, now_ns, incident.closed_ns) if incident.closed_ns else (end, now_ns)
    return incident.first_signal_ns - int(BEFORE_SECONDS * 1e9), min(ends)


def window_of(incident: Incident, graph: ServiceGraph, seen: Observations, changes: tuple[Change, ...],
              cause: ConfirmedCause) -> CaseWindow:
    """`seen` of `span_ns`. Raises ValueError, in words for people, where nothing could be learned from it."""
    window = case_window(incident, graph, seen, changes, baseline_seconds=BEFORE_SECONDS)
    if not 0 < window.baseline_rows < len(window.ts_ns):
        raise ValueError("its telemetry is gone already, or there is none from before it")
    for name in (cause.service, cause.peer):
        if name and name not in window.services:
            raise ValueError(f"no service {name} was seen then")
    if cause.peer and (cause.service, cause.peer) not in edges_of(window):
        raise ValueError(f"no calls from {cause.service} to {cause.peer} were seen then")
    return window


def edges_of(window: CaseWindow) -> list[tuple[str, str]]:
    """(caller, callee) by name, in the order of `window.edges`."""
    return [(window.services[a], window.services[b]) for a, b in window.edges.tolist()]


def targets_of(cause: ConfirmedCause, window: CaseWindow) -> tuple[int, ...]:
    """The candidate that it names: a service by its index, a call by n + its row; none where nothing was wrong. Raises
    ValueError where it is not in the window."""
    if not cause.service:
        return ()
    if cause.peer:
        return (len(window.services) + edges_of(window).index((cause.service, cause.peer)),)
    return (window.services.index(cause.service),)


class _Stored(msgspec.Struct, frozen=True):
    ts_ns: bytes
    services: tuple[str, ...]
    node: dict[str, bytes]
    edges: bytes
    edge: dict[str, bytes]
    baseline_rows: int
    changes: tuple[Change, ...]
    signals: tuple[Signal, ...]


def packed(window: CaseWindow) -> bytes:
    """For the store; a window of 600 rows and ten services is some 200 kB."""
    stored = _Stored(window.ts_ns.astype("<i8").tobytes(), window.services, _tables(window.node_metrics),
                     window.edges.astype("<i4").tobytes(), _tables(window.edge_metrics), window.baseline_rows,
                     window.changes, window.signals)
    return zlib.compress(msgspec.msgpack.encode(stored), 6)


def unpacked(body: bytes) -> CaseWindow:
    """The inverse of `packed`. Raises zlib.error, msgspec.MsgspecError or ValueError where it is none."""
    s = msgspec.msgpack.decode(zlib.decompress(body), type=_Stored)
    ts_ns = np.frombuffer(s.ts_ns, "<i8").astype(np.int64)
    edges = np.frombuffer(s.edges, "<i4").astype(np.int32).reshape(-1, 2)
    if not 0 < s.baseline_rows < len(ts_ns):
        raise ValueError(f"{s.baseline_rows} rows of {len(ts_ns)} are from before")
    if edges.size and not 0 <= edges.min() <= edges.max() < len(s.services):
        raise ValueError(f"a call of a service that is none of the {len(s.services)}")
    return CaseWindow(ts_ns, s.services, _tables_back(s.node, len(ts_ns), len(s.services)), edges,
                      _tables_back(s.edge, len(ts_ns), len(edges)), s.baseline_rows, s.changes, s.signals)


def _tables(metrics: Mapping[str, NDArray[np.float64]]) -> dict[str, bytes]:
    """Those in which something is known."""
    return {name: table.astype("<f8").tobytes() for name, table in metrics.items() if np.isfinite(table).any()}


def _tables_back(stored: dict[str, bytes], rows: int, width: int) -> dict[str, NDArray[np.float64]]:
    return {name: np.frombuffer(raw, "<f8").astype(np.float64).reshape(rows, width) for name, raw in stored.items()}
