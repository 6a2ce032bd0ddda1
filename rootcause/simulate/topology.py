"""Made-up systems: layers, shared stores, external services, seldom-called callees, twins of a service."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class System:
    """Services 0..n-1; a callee always has a larger number than its caller. Edges are sorted by caller."""

    n: int
    edges: NDArray[np.int32]  # [m, 2] caller, callee
    fanout: Floats  # [m] calls per request of the caller; below 1: only some requests call
    handled: Floats  # [m] share of the callee's failures that the caller answers without failing itself
    retries: Floats  # [m] extra calls per failed call
    timeout: Floats  # [m] seconds
    is_store: Bools  # [n]
    is_external: Bools  # [n]
    entry: Floats  # [n] requests per second that come from outside
    own_seconds: Floats  # [n] time of its own per request
    pool: Floats  # [n] calls to stores at once that a service can have
    twins: tuple[tuple[int, int], ...]  # (twin, original): the twin is a second name under which a caller sees it

    def edges_to(self, i: int) -> NDArray[np.int64]:
        return np.flatnonzero(self.edges[:, 1] == i)

    def edges_from(self, i: int) -> NDArray[np.int64]:
        return np.flatnonzero(self.edges[:, 0] == i)


def draw_system(rng: np.random.Generator) -> System:
    """5 to 59 services."""
    n = int(rng.integers(5, 14)) if rng.random() < 0.5 else int(rng.integers(14, 60))
    stores = int(rng.integers(1, max(2, n // 5) + 1))
    externals = int(rng.integers(0, max(1, n // 10) + 1))
    first_leaf = n - stores - externals
    entries = int(rng.integers(1, max(2, min(5, first_leaf // 3)) + 1))
    pairs = set()
    chainy = rng.random()  # how often a service has the newest one as its caller: deep chains
    for i in range(entries, n):
        callers = min(i, first_leaf)
        count = 1 if rng.random() < 0.55 else int(rng.integers(2, 5))
        if i >= first_leaf and rng.random() < 0.6:
            count += int(rng.integers(0, max(1, first_leaf // 3)))  # a store that many share
        for _ in range(count):
            near = rng.random() < chainy * 0.6
            caller = callers - 1 if near else int(rng.integers(0, callers) * rng.random())
            pairs.add((caller, i))
    edges = np.array(sorted(pairs), dtype=np.int32).reshape(-1, 2)
    m = len(edges)
    is_store = np.arange(n) >= first_leaf
    is_external = np.arange(n) >= n - externals
    fanout = np.where(rng.random(m) < 0.25, rng.lognormal(-2.5, 0.8, m), rng.lognormal(-0.3, 0.6, m))
    fanout = np.where(rng.random(m) < 0.12, np.exp(rng.uniform(np.log(1e-5), np.log(2e-2), m)), fanout)
    entry = np.zeros(n)
    entry[:entries] = np.exp(rng.uniform(np.log(0.3), np.log(300))) * rng.lognormal(0, 1.5, entries)
    if rng.random() < 0.2:  # some services further down are called from outside as well
        entry[rng.integers(0, first_leaf)] += entry[:entries].mean() * rng.uniform(0.1, 1)
    own = np.where(is_store, rng.lognormal(-6, 0.8, n), rng.lognormal(-4.5, 1.0, n))
    timeout = np.exp(rng.uniform(np.log(0.3), np.log(30))) * (1 - edges[:, 0] / (2.0 * n))
    twins = _twins(rng, edges, entries, first_leaf)
    return System(
        n, edges, np.minimum(fanout, 4.0), np.where(rng.random(m) < 0.2, rng.uniform(0.5, 1, m), rng.uniform(0, 0.1, m)),
        np.where(rng.random(m) < 0.25, rng.uniform(0.5, 2, m), 0.0), timeout, is_store & ~is_external, is_external,
        entry, own, rng.integers(4, 30, n).astype(float), twins)


def _twins(rng: np.random.Generator, edges: NDArray[np.int32], entries: int,
           first_leaf: int) -> tuple[tuple[int, int], ...]:
    """A leaf becomes a second name of another callee of its caller: a load balancer, a "remote" address."""
    out = []
    if rng.random() < 0.6:
        for twin in rng.permutation(np.arange(entries, first_leaf))[:3].tolist():
            if (edges[:, 0] == twin).any():
                continue
            callers = edges[edges[:, 1] == twin, 0]
            siblings = [int(b) for a, b in edges.tolist() if a in callers and b != twin and b < first_leaf]
            if siblings:
                out.append((int(twin), int(rng.choice(siblings))))
    return tuple(out)
