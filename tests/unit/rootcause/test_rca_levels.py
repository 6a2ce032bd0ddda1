"""Who waits for its callees says something of the way to them."""

from __future__ import annotations

import numpy as np
import pytest

from opsmend.evaluate.rca_cases import build_window

COLUMNS = ("a|client_lat_95", "a|server_lat_95", "b|client_lat_95", "b|server_lat_95", "c|server_lat_95", "d|server_lat_95",
           "a|workload", "b|workload", "c|workload", "d|workload")
EDGES = [("a", "c"), ("b", "c"), ("a", "d")]


def rows(n: int, waits: tuple[float, float], c: float = 0.1) -> np.ndarray:
    one = [waits[0], 0.3, waits[1], 0.3, c, 0.1, 2.0, 2.0, 4.0, 1.5]
    return np.array([[60.0 * t, *one] for t in range(n)])


@pytest.mark.parametrize("c", [0.1, 0.5])
def test_what_callees_take_is_not_on_the_way(c: float) -> None:
    """Calls of `a`: 2 of c's 4 requests to each 1.5 of d's."""
    waits = ((2 * c + 1.5 * 0.1) / 3.5 + 0.02, c + 0.01)
    window = build_window(rows(8, waits, c), rows(2, waits, c), COLUMNS, EDGES)
    named = [(window.services[a], window.services[b]) for a, b in window.edges.tolist()]
    way = dict(zip(named, window.edge_metrics["network"][0].tolist(), strict=True))
    assert way == pytest.approx({("a", "c"): 0.02, ("a", "d"): 0.02, ("b", "c"): 0.01})


def test_a_measured_call_needs_no_guess() -> None:
    columns = (*COLUMNS, "c|edge_source_p50__from_a")
    extended = np.column_stack([rows(8, (0.2, 0.2)), np.full(8, 0.15)])
    window = build_window(extended, extended[:2], columns, EDGES)
    assert "network" not in window.edge_metrics
    assert np.isfinite(window.edge_metrics["latency"]).any(axis=0).sum() == 1


def test_the_wait_stays_a_part_of_the_latency() -> None:
    window = build_window(rows(8, (0.2, 0.2)), rows(2, (0.8, 0.2)), COLUMNS, EDGES)
    latency = window.node_metrics["latency"]
    a, b = window.services.index("a"), window.services.index("b")
    assert latency[-1, a] / latency[0, a] == pytest.approx(2.0)  # the geometric mean of four times and once
    assert latency[-1, b] == pytest.approx(latency[0, b])
