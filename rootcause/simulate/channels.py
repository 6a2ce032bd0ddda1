"""What logs and spans would say: error lines, changed templates, spans per request, time on the wire."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rootcause.simulate.faults import Struck
from rootcause.simulate.physics import Conditions, Flow
from rootcause.simulate.topology import Floats, System

Table = dict[str, Floats]
LOG_CHANNELS = frozenset({"error_lines", "templates"})
TRACE_CHANNELS = frozenset({"spans", "pattern", "self_time"})
_TALKATIVE = {"error": 0.7, "early_return": 0.8, "bad_config": 0.7, "crash_loop": 0.9, "down": 0.3, "pool": 0.6, "lock": 0.3,
              "cache_full": 0.5, "net_loss": 0.4, "logs": 0.4, "leak": 0.2, "disk_full": 0.85,
              "disk_slow": 0.25, "scaled_down": 0.1, "cpu": 0.05, "slow": 0.1, "net_delay": 0.05}
"""How often a service writes of its own fault in words that say so, or in lines it did not write before."""


def logs_of(system: System, found: Flow, served: Floats, struck: Sequence[Struck], rng: np.random.Generator) -> Table:
    """`error_lines` per second and `templates` (how far the mix of lines is from the usual one), both [t, n].

    Some services write of every failed request, some of none; who fails because of a callee writes as well.
    """
    t, n = served.shape
    quiet = rng.random(n) < 0.4
    per_failure = np.where(rng.random(n) < 0.5, rng.lognormal(-0.5, 1.0, n), 0.0)
    lines = served * np.where(quiet, 0.0, rng.lognormal(-5, 1.5, n)) + served * found.error * per_failure
    for e, (a, _) in enumerate(system.edges.tolist()):  # a failed call is written of, even where it is answered
        lines[:, a] += found.edge_traffic[:, e] * found.edge_error[:, e] * per_failure[a] * 0.5
    shift: Floats = np.abs(rng.normal(0, rng.uniform(0.1, 0.6), (t, n))) + rng.uniform(0.3, 1.5, n)
    felt = found.error > np.median(found.error, axis=0) + 0.02
    shift += felt * np.where(rng.random(n) < 0.5, rng.uniform(0.0, 2.0, n), 0.0)
    for fault, root, on in ((s.fault, s.root, s.marks.shape) for s in struck if s.marks.shape is not None):
        if rng.random() < _TALKATIVE.get(fault, 0.1):
            lines[:, root] += on * np.maximum(served[:, root], 0.05) * np.exp(rng.uniform(np.log(0.02), np.log(3)))
        if rng.random() < max(0.15, _TALKATIVE.get(fault, 0.1)):
            shift[:, root] += on * rng.uniform(0.5, 4.0)
    for _ in range(int(rng.poisson(0.7))):  # somebody innocent writes something new
        other, at = int(rng.integers(0, n)), int(rng.integers(0, t))
        lines[at:, other] += rng.exponential(0.05) * served[at:, other]
        shift[at:, other] += rng.exponential(0.7)
    return {"error_lines": lines, "templates": shift}


def spans_of(system: System, given: Conditions, found: Flow, struck: Sequence[Struck],
             rng: np.random.Generator) -> Table:
    """`spans` that a service makes per request that reaches it, `pattern` (how far their mix is from the usual one) and
    `self_time` (seconds of its own work per request), all [t, n]. A request answered early makes fewer."""
    t, n = found.traffic.shape
    inner = rng.uniform(0.0, 6.0, n) * (rng.random(n) < 0.7) + 0.05
    made = inner * (1 - 0.7 * given.skipped) * (1 - 0.3 * given.own_error)
    asked = np.maximum(found.traffic, 1e-9)
    for e, (a, _) in enumerate(system.edges.tolist()):
        made[:, a] += found.edge_traffic[:, e] / asked[:, a]
    usual = np.median(made, axis=0)
    # Who is asked for other things than usual does other things than usual: what a caller leaves out changes the mix of
    # requests of those it still calls.
    mixed = _mixed(system, found, rng)
    made *= np.exp(mixed)
    apart = np.abs(np.log(np.maximum(made, 1e-3) / np.maximum(usual, 1e-3)))
    noise = rng.uniform(0.02, 0.15, n)
    shift: Floats = np.abs(rng.normal(0, rng.uniform(0.1, 0.5), (t, n))) + rng.uniform(0.3, 1.5, n)
    shift += np.log1p((apart + np.abs(mixed)) * rng.uniform(3, 40))
    for root, on in ((s.root, s.marks.shape) for s in struck if s.marks.shape is not None and s.marks.strange):
        shift[:, root] += on * rng.uniform(0.3, 3.0)
    return {"spans": made * np.exp(rng.normal(0, 1, (t, n)) * noise), "pattern": shift,
            "self_time": _own_time(system, given, found, rng)}


def _own_time(system: System, given: Conditions, found: Flow, rng: np.random.Generator) -> Floats:
    """[t, n] seconds. Of calls without a span of the client all that the callee does not answer for counts as the caller's
    own: the way there and back, and the wait for who never answers. Who keeps no spans at all, as most stores, has none."""
    t, n = found.traffic.shape
    own = given.own_seconds.copy()
    asked, silent = np.maximum(found.traffic, 1e-9), given.is_down | given.is_hung
    unseen = rng.random(len(system.edges)) < rng.choice([0.0, 0.3, 1.0], p=[0.45, 0.25, 0.3])
    for e, (a, b) in enumerate(system.edges.tolist()):
        if unseen[e]:
            answered = np.where(silent[:, b], 0.0, found.seconds[:, b])
            own[:, a] += found.edge_traffic[:, e] / asked[:, a] * np.maximum(found.edge_seconds[:, e] - answered, 0.0)
    own *= np.exp(rng.normal(0, 1, (t, n)) * rng.uniform(0.03, 0.25, n))
    tells = np.where(system.is_store | system.is_external, rng.random() < 0.3, True)
    return np.where(tells, own, np.nan)


def _mixed(system: System, found: Flow, rng: np.random.Generator) -> Floats:
    """[t, n] how far the mix of requests of a service is from the usual one, signed: as far as its callers call it more or
    less often per request than usual, times how different its requests are from one another."""
    t, n = found.traffic.shape
    per_request = found.edge_traffic / np.maximum(found.traffic[:, system.edges[:, 0]], 1e-9)
    usual = np.median(per_request, axis=0)
    moved = np.log(np.maximum(per_request, 1e-3 * usual + 1e-12) / np.maximum(usual, 1e-12))
    out = np.zeros((t, n))
    for j in range(n):
        into = system.edges_to(j)
        if len(into):
            weight = found.edge_traffic[:, into]
            out[:, j] = (weight * moved[:, into]).sum(axis=1) / np.maximum(weight.sum(axis=1), 1e-12)
    differ = np.where(rng.random(n) < 0.5, rng.normal(0, 0.4, n), 0.0)
    return np.asarray(np.clip(out, -3, 3) * differ)


def wire_of(system: System, given: Conditions, found: Flow, rng: np.random.Generator) -> Floats:
    """[t, m] seconds that a call takes its caller beyond what the callee measures. Some callers know that of all their calls
    together only: each of these then has the mean of all."""
    t, m = given.edge_seconds.shape
    usual = rng.lognormal(-7, 0.8, m) * rng.lognormal(0, 0.6)
    # A process that waits for a processor looks like a slow network, from both ends.
    excess = np.maximum(given.own_seconds / system.own_seconds - 1.3, 0)
    waiting = (excess[:, system.edges[:, 0]] + excess[:, system.edges[:, 1]]) * usual * rng.uniform(0, 1, m)
    each = np.asarray((usual + given.edge_seconds + waiting) * np.exp(rng.normal(0, rng.uniform(0.05, 0.4), (t, m))))
    if rng.random() < 0.4:
        for a in np.flatnonzero(rng.random(system.n) < rng.choice([0.5, 1.0])).tolist():
            out = system.edges_from(a)
            if len(out) > 1:
                weight = found.edge_traffic[:, out] + 1e-12
                each[:, out] = ((each[:, out] * weight).sum(axis=1) / weight.sum(axis=1))[:, None]
    return each


def few_rows(tables: Table, names: frozenset[str], base: int, rng: np.random.Generator) -> None:
    """Lines and spans are often kept for a while around an incident only: most usual rows have none, nor do late ones."""
    if rng.random() < 0.6:
        keep = np.zeros(len(next(iter(tables.values()))), bool)
        keep[base:] = True
        if rng.random() < 0.4:  # not for long, at that
            keep[base + int(rng.integers(1, 4)):] = False
        keep[rng.choice(base, size=min(base, int(rng.integers(1, 25))), replace=False)] = True
        for name in names:
            if name in tables:
                tables[name][~keep] = np.nan
