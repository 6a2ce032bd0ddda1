"""What convergence costs: `python bench/converge.py [--json FILE] [--alerts N] [--keys N]`.

Each part runs in a process of its own, so that its memory is its own. CPU seconds are of the steps alone, making the
alerts is left out; memory is the peak of the whole process.

storm    a million raw alerts of some 2,000 distinct (name, service) within 15 minutes, through the service's own
         external-alert detector and convergence, bucket by bucket.
keys     100,000 distinct (name, service, peer) of 2,000 services within 15 minutes: fold, neighbour graph, DBSCAN and
         onsets in one call; beside it the detector and convergence of the service on the same alerts.
peer     plain scikit-learn DBSCAN on the raw alerts (all pairs), as far as it runs, and whether its labels are ours.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

sys.path[0] = str(Path(__file__).resolve().parent.parent)  # or bench/ingest.py would be taken for the package of its name

from detect.convergence.converge import Convergence, ConvergenceConfig
from detect.convergence.neighbours import Points, cluster, fold, neighbour_graph
from detect.convergence.onsets import find_onsets
from detect.convergence.relations import Calls, relations
from detect.detectors.base import BucketWindow
from detect.detectors.external_alert import ExternalAlerts
from ingest.types import ExternalAlert

SECONDS, BUCKET = 900, 10
EPOCH_NS = 1_700_000_000 * 10**9
PEER_SIZES = (1_000, 3_000, 10_000)


def graph(services: int, seed: int = 0) -> Calls:
    """Calls of a made-up system: components of forty services, each called by one or two of the ones before it."""
    rng = np.random.default_rng(seed)
    calls = set()
    for at in range(services):
        first = at - at % 40
        for _ in range(1 + int(rng.random() < 0.5)):
            if at > first:
                calls.add((f"s{int(rng.integers(first, at))}", f"s{at}"))
    return frozenset(calls)


def alerts(count: int, names: int, services: int, seed: int = 0) -> Iterator[tuple[int, list[ExternalAlert]]]:
    """(start of the bucket in ns, its alerts). An alert that fires on is repeated, now and then from anew."""
    rng = np.random.default_rng(seed)
    buckets = SECONDS // BUCKET
    for bucket in range(buckets):
        n = count * (bucket + 1) // buckets - count * bucket // buckets
        name, service = rng.integers(0, names, n).tolist(), rng.integers(0, services, n).tolist()
        at_ns = EPOCH_NS + bucket * BUCKET * 10**9
        start = np.sort(at_ns + rng.integers(0, BUCKET * 10**9, n)).tolist()
        yield at_ns, [ExternalAlert(f"rule{a}", f"s{s}", f"f{a}.{s}", "firing", ns, 0, "warning")
                      for a, s, ns in zip(name, service, start, strict=True)]


def streamed(stream: Iterator[tuple[int, list[ExternalAlert]]], calls: Calls) -> dict[str, float]:
    """Through the detector and the convergence of the service."""
    detector, convergence = ExternalAlerts(), Convergence(ConvergenceConfig(), "bench")
    cpu, count, ids = 0.0, 0, set()
    convergence.step(EPOCH_NS, (), calls)
    import sklearn.cluster  # loaded by a service that has been up for a while
    import sklearn.neighbors  # noqa: F401

    for at_ns, rows in stream:
        window = BucketWindow(at_ns, BUCKET * 10**9, (), np.zeros(0), alerts=tuple(rows))
        began = time.process_time()
        signals = detector.step(window)
        told = convergence.step(at_ns, signals, calls)
        cpu += time.process_time() - began
        count += len(rows)
        ids |= {i.id for i in told if i.state != "merged"}
    return {"alerts": count, "cpu_s": round(cpu, 2), "incidents": len(ids), "rss_mb": _rss()}


def storm(count: int) -> dict[str, float]:
    return streamed(alerts(count, 10, 200), graph(200))


def keys_streamed(count: int) -> dict[str, float]:
    return streamed(distinct(count, 2_000), graph(2_000))


def distinct(count: int, services: int) -> Iterator[tuple[int, list[ExternalAlert]]]:
    rng = np.random.default_rng(0)
    place, at_s = rng.integers(0, services, count), np.sort(rng.uniform(0, SECONDS, count))
    for bucket in range(SECONDS // BUCKET):
        low, high = np.searchsorted(at_s, [bucket * BUCKET, (bucket + 1) * BUCKET])
        yield EPOCH_NS + bucket * BUCKET * 10**9, [
            ExternalAlert(f"rule{n}", f"s{place[n]}", f"f{n}", "firing", EPOCH_NS + int(at_s[n] * 1e9), 0, "warning")
            for n in range(low, high)]


def points(count: int, services: int) -> tuple[Points, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    place, at_s = rng.integers(0, services, count).astype(np.int64), np.sort(rng.uniform(0, SECONDS, count))
    places = tuple((f"s{n}", "") for n in range(services))
    return fold(place, places, at_s, np.full(count, 2.0), ConvergenceConfig().fold_seconds), place, at_s


def keys(count: int) -> dict[str, float]:
    """100k distinct keys at once."""
    import sklearn.cluster
    import sklearn.neighbors  # noqa: F401

    c, calls = ConvergenceConfig(), graph(2_000)
    began = time.process_time()
    folded, _, _ = points(count, 2_000)
    near = neighbour_graph(folded, relations(calls, frozenset(), c.max_hops), c.eps_seconds, c.hop_cost, c.max_hops)
    labels = cluster(folded, near, 2)
    runs = [folded.onset_s[labels == label] for label in np.unique(labels[labels >= 0])]
    incidents = sum(len(find_onsets(run, c.onsets).start_s) for run in runs)
    return {"keys": count, "points": len(labels), "neighbours": int(near.nnz), "groups": len(runs),
            "incidents": incidents, "cpu_s": round(time.process_time() - began, 2), "rss_mb": _rss()}


def peer(count: int) -> dict[str, float]:
    """Plain DBSCAN on raw alerts by a table of all pairs; the same labels?"""
    from sklearn.cluster import DBSCAN

    c, services = ConvergenceConfig(), 200
    related = relations(graph(services), frozenset(), c.max_hops)
    folded, place, _ = points(count, services)
    onset = folded.onset_s[folded.inverse]
    began = time.process_time()
    hops = np.full((services, services), np.inf)
    for a in range(services):
        for other, n in related.of(f"s{a}").items():
            if n <= c.max_hops:
                hops[a, int(other[1:])] = n
    apart = np.abs(onset[:, None] - onset[None, :]) / c.eps_seconds + c.hop_cost * hops[place[:, None], place[None, :]]
    plain = DBSCAN(eps=1.0, min_samples=2, metric="precomputed").fit_predict(
        np.minimum(apart, 1e6), sample_weight=np.full(count, 2.0))
    theirs_s = time.process_time() - began
    began = time.process_time()
    folded, place, _ = points(count, services)
    ours = cluster(folded, neighbour_graph(folded, related, c.eps_seconds, c.hop_cost, c.max_hops), 2)[folded.inverse]
    return {"alerts": count, "plain_cpu_s": round(theirs_s, 2), "ours_cpu_s": round(time.process_time() - began, 3),
            "equal_labels": bool(np.array_equal(_renumbered(plain), _renumbered(ours))), "rss_mb": _rss()}


def _renumbered(labels: np.ndarray) -> np.ndarray:
    order: dict[int, int] = {-1: -1}
    return np.array([order.setdefault(label, len(order)) for label in labels.tolist()])


def _rss() -> float:
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)


def _apart(work: Callable[[int], dict[str, float]], count: int) -> dict[str, float]:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(work, (count,))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--alerts", type=int, default=1_000_000)
    parser.add_argument("--keys", type=int, default=100_000)
    arguments = parser.parse_args()
    rows: dict[str, Any] = {"storm": _apart(storm, arguments.alerts), "keys": _apart(keys, arguments.keys),
                            "keys_streamed": _apart(keys_streamed, arguments.keys)}
    for n in PEER_SIZES:
        rows[f"plain_{n}"] = _apart(peer, n)
    for name, row in rows.items():
        print(f"{name:14} " + "  ".join(f"{k} {v}" for k, v in row.items()))
    last = rows[f"plain_{PEER_SIZES[-1]}"]
    report = {"name": "convergence", "unit": "CPU s per million raw alerts",
              "ours": round(rows["storm"]["cpu_s"] * 1e6 / rows["storm"]["alerts"], 3),
              "peers": {f"scikit-learn DBSCAN on {last['alerts']} raw alerts, s": last["plain_cpu_s"]},
              "ratio": round(last["plain_cpu_s"] / max(last["ours_cpu_s"], 1e-9), 1), "parts": rows}
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
