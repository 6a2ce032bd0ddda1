"""Folded and sparse, DBSCAN gives the labels that it gives on raw alerts with a table of all pairs."""

from __future__ import annotations

import numpy as np
import pytest

from detect.convergence.neighbours import cluster, fold, neighbour_graph
from detect.convergence.relations import host_of, relations
from detect.types import Signal

CALLS = frozenset({("front", "cart"), ("front", "orders"), ("orders", "db"), ("mail", "smtp")})
SERVICES = ("front", "cart", "orders", "db", "mail", "smtp", "alone")


def renumbered(labels: np.ndarray) -> list[int]:
    order = {-1: -1}
    return [order.setdefault(label, len(order)) for label in labels.tolist()]


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("min_weight", [1, 2, 5])
def test_the_labels_are_those_of_plain_dbscan_on_raw_alerts(seed: int, min_weight: int) -> None:
    from sklearn.cluster import DBSCAN

    rng = np.random.default_rng(seed)
    n, eps, hop_cost = 400, 30.0, 0.15
    places = tuple((a, b) for a in SERVICES for b in ("", "db"))
    place = rng.integers(0, len(places), n)
    onset = np.round(rng.choice([0.0, 120.0, 400.0], n) + rng.exponential(60.0, n), 1)
    weight = rng.integers(1, 3, n).astype(float)
    related = relations(CALLS, frozenset(), 4)
    points = fold(place, places, onset, weight, 10.0)
    ours = cluster(points, neighbour_graph(points, related, eps, hop_cost, 4), min_weight)[points.inverse]

    raw = points.onset_s[points.inverse]  # the onset of its fold
    ends = [{a, b} - {""} for a, b in (places[p] for p in place)]
    hops = np.array([[min((related.of(x).get(y, 99) for x in p for y in q), default=99) for q in ends] for p in ends])
    apart = np.abs(raw[:, None] - raw[None, :]) / eps + np.where(hops > 4, 1e6, hop_cost * hops)
    plain = DBSCAN(eps=1.0, min_samples=min_weight, metric="precomputed").fit_predict(apart, sample_weight=weight)
    assert renumbered(ours) == renumbered(plain)
    assert len(set(ours.tolist())) > 2


def test_folding_adds_weights_and_keeps_the_earliest_onset() -> None:
    points = fold(np.array([0, 1, 0, 0]), (("a", ""), ("b", "")), np.array([9.0, 3.0, 1.0, 12.0]),
                  np.array([1.0, 2.0, 4.0, 8.0]), 10.0)
    assert points.onset_s.tolist() == [1.0, 12.0, 3.0]
    assert points.weight.tolist() == [5.0, 8.0, 2.0]
    assert points.inverse.tolist() == [0, 2, 0, 1]


def test_nothing_is_no_group() -> None:
    points = fold(np.zeros(0, dtype=np.int64), (), np.zeros(0), np.zeros(0), 10.0)
    assert len(cluster(points, neighbour_graph(points, relations(CALLS, frozenset(), 4), 30.0, 0.15, 4), 2)) == 0


def test_services_that_no_call_names_are_placed_by_their_host() -> None:
    hosts = frozenset({("cache", "h1"), ("cart", "h1"), ("orders", "h1"), ("mail", "h2"), ("queue", "h2")})
    related = relations(CALLS, hosts, 4)
    assert related.near("cache") == {"cache", "cart", "orders", "h1"}
    assert related.near("queue") == {"queue", "mail", "h2"}
    assert related.of("cart")["orders"] == 4  # both are called: that they share a host brings them no nearer


def test_callees_of_one_caller_are_far_and_those_of_a_gateway_unrelated() -> None:
    related = relations(frozenset({("front", "cart"), ("front", "orders")}), frozenset(), 4)
    assert related.of("cart") == {"cart": 0, "front": 1, "orders": 4}
    assert related.near("cart") == {"cart", "front"}
    gateway = relations(frozenset(("front", f"s{n}") for n in range(33)), frozenset(), 4)
    assert gateway.of("s0") == {"s0": 0, "front": 1}


@pytest.mark.parametrize(("instance", "host"), [
    ("10.0.0.3:9100", "10.0.0.3"), ("10.0.0.3", "10.0.0.3"), ("127.0.0.1:9100", ""), ("localhost:80", ""), ("", ""),
    ("node-7:9100", "node-7"), ("pod:x", "pod:x")])
def test_the_host_of_an_alert(instance: str, host: str) -> None:
    assert host_of(Signal("i", "t", "d", "alert", "cart", 0, 0, 0.6, "k", instance=instance)) == host
