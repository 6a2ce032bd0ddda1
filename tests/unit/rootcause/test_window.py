"""From an incident and its observations to a CaseWindow."""

from __future__ import annotations

import numpy as np
import pytest

from detect.types import Incident, Observations, Signal
from ingest.types import Change, SeriesKey
from rootcause.types import ServiceGraph
from rootcause.window import case_window

S = 10**9
GRAPH = ServiceGraph(("orders", "payments"), frozenset({("orders", "payments")}))


def signal(service: str, at: int, kind: str = "latency") -> Signal:
    return Signal(f"{service}{at}", "t", "d", kind, service, at * S, at * S, 0.6, f"{service}{kind}")  # type: ignore[arg-type]


def incident(*signals: Signal) -> Incident:
    first = min(s.start_ns for s in signals)
    return Incident("i", "t", "f", first, first, "open", "warning", "", tuple(sorted({s.service for s in signals})),
                    signals, (), first)


def observations(columns: dict[SeriesKey, list[float]]) -> Observations:
    rows = len(next(iter(columns.values())))
    return Observations(np.arange(rows, dtype=np.int64) * S, tuple(columns), np.array(list(columns.values())).T)


def test_baseline_ends_a_margin_before_the_first_sign() -> None:
    seen = observations({SeriesKey("orders", "http.server.error_ratio"): [0.0] * 60})
    case = case_window(incident(signal("orders", 50)), GRAPH, seen, (), margin_seconds=3)
    assert case.baseline_rows == 47
    assert case.services == ("orders", "payments")


def test_rows_before_the_baseline_are_left_out() -> None:
    seen = observations({SeriesKey("orders", "http.server.error_ratio"): [0.0] * 60})
    case = case_window(incident(signal("orders", 50)), GRAPH, seen, (), baseline_seconds=20, margin_seconds=0)
    assert case.ts_ns[0] == 30 * S
    assert case.baseline_rows == 20


def test_caller_and_peer_become_the_edge() -> None:
    seen = observations({SeriesKey("orders", "client.error_ratio", peer="payments"): [0.25] * 5,
                         SeriesKey("payments", "client.error_ratio", peer="orders"): [0.75] * 5})
    case = case_window(incident(signal("orders", 4)), GRAPH, seen, ())
    assert case.edges.tolist() == [[0, 1]]
    assert case.edge_metrics["errors"][:, 0].tolist() == [0.25] * 5  # the other direction is no edge of this graph
    assert np.isnan(case.node_metrics["errors"]).all()


@pytest.mark.parametrize(("name", "values", "joined"), [
    ("process.up", (1.0, 0.0), 0.0), ("process.cpu.utilization", (0.2, 0.5), 0.7),
    ("http.server.error_ratio", (0.1, 0.4), 0.4), ("process.memory.rss", (np.nan, 5.0), 5.0)])
def test_instances_are_put_together(name: str, values: tuple[float, float], joined: float) -> None:
    seen = observations({SeriesKey("orders", name, instance=f"orders-{n}"): [v] * 3 for n, v in enumerate(values)})
    case = case_window(incident(signal("orders", 2)), GRAPH, seen, ())
    table = next(t for t in case.node_metrics.values() if np.isfinite(t).any())
    assert table[:, 0] == pytest.approx([joined] * 3)


def test_changes_long_before_are_left_out() -> None:
    seen = observations({SeriesKey("orders", "process.up"): [1.0] * 2000})
    changes = [Change(at * S, "orders", "rollout") for at in (10, 1000)]
    case = case_window(incident(signal("orders", 1500)), GRAPH, seen, changes)
    assert [c.ts_ns for c in case.changes] == [1000 * S]


def test_of_several_measures_of_a_disk_the_best_that_a_service_has_counts() -> None:
    """They have no unit in common. Devices: the busiest; what is free is no use of space."""
    device = {d: (("device", d),) for d in ("sda", "sdb")}
    seen = observations({SeriesKey("orders", "system.disk.io", labels=device["sda"]): [5e6] * 3,
                         SeriesKey("orders", "system.disk.io_time", labels=device["sda"]): [0.2] * 3,
                         SeriesKey("orders", "system.disk.io_time", labels=device["sdb"]): [0.7] * 3,
                         SeriesKey("payments", "container_fs_writes_bytes_total"): [3e6] * 3,
                         SeriesKey("orders", "system.filesystem.usage", labels=(("state", "used"),)): [1e9] * 3,
                         SeriesKey("orders", "system.filesystem.usage", labels=(("state", "free"),)): [9e9] * 3,
                         SeriesKey("payments", "disk.used_percent"): [40.0] * 3})
    case = case_window(incident(signal("orders", 2)), GRAPH, seen, ())
    assert case.node_metrics["disk"][0].tolist() == [0.7, 3e6]
    assert case.node_metrics["space"][0].tolist() == [1e9, 40.0]
