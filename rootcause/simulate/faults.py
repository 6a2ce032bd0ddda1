"""The faults: where each can sit, and what it does to a system while it lasts."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from rootcause.simulate.physics import Conditions
from rootcause.simulate.topology import Floats, System

FAULTS = ("down", "hang", "crash_loop", "bad_config", "cpu", "leak", "pool", "lock", "cache_full", "logs", "error",
          "slow", "net_delay", "net_loss", "early_return", "disk_full",
          "disk_slow", "scaled_down", "none", "none_change", "none_load", "none_host",
          "none_hiccup")
_WEIGHTS = {"error": 2.5, "slow": 3.0, "cpu": 2.0, "early_return": 1.5, "net_delay": 2.0, "net_loss": 1.5,
            "none": 2.0, "none_hiccup": 1.0, "none_change": 2.0, "pool": 1.5}
STORE_FAULTS = frozenset({"lock", "cache_full"})
_DISK_FAULTS = frozenset({"disk_full", "disk_slow"})
_OTHER_WAY = frozenset({"error", "early_return", "bad_config", "cache_full", "net_loss", "slow", "pool"})
BY_CHANGE = {"crash_loop": 0.9, "bad_config": 0.9, "cpu": 0.5, "leak": 0.5, "pool": 0.6, "logs": 0.7, "error": 0.4,
             "early_return": 0.4, "slow": 0.2, "scaled_down": 1.0}
"""How often a change of the service is behind it."""


@dataclass
class Marks:
    """What a fault leaves on the root's own gauges: factors and additions, [t]."""

    cpu_added: Floats | None = None  # cores
    memory_factor: Floats | None = None
    log_factor: Floats | None = None
    waiting: Floats | None = None  # for a place in the pool
    locks: Floats | None = None
    refused: Floats | None = None
    disk_added: Floats | None = None  # share of time that its disk is busy
    space_added: Floats | None = None  # how much of the room that was left on its disk is taken, 0..1
    kept: Floats | None = None  # share of its instances that are left
    disk_with: tuple[int, ...] = ()  # who rests on the same volume
    exits: bool = False
    shape: Floats | None = None  # how much of the fault there is, 0..1
    strange: bool = False  # its requests are handled in another way than usual
    call: int = -1  # the edge it sits on, where only the calls of one caller meet it
    kinds: list[str] = field(default_factory=list)  # physical kinds that a watcher can see


@dataclass(frozen=True)
class Struck:
    """A fault, where it sits, and what it left on the gauges there."""

    fault: str
    root: int
    marks: Marks


def draw_fault(rng: np.random.Generator) -> str:
    weights = np.array([_WEIGHTS.get(name, 1.0) for name in FAULTS])
    return str(rng.choice(FAULTS, p=weights / weights.sum()))


def draw_root(fault: str, system: System, rng: np.random.Generator) -> int:
    """-1 where there is no cause. Services that see no traffic worth the name are seldom the one."""
    if fault.startswith("none"):
        return -1
    ok = system.is_store.copy() if fault in STORE_FAULTS else np.ones(system.n, bool)
    if fault in _DISK_FAULTS:
        ok &= ~system.is_external
    if fault in ("crash_loop", "cpu", "leak", "pool", "logs", "bad_config", "early_return", "scaled_down"):
        ok &= ~system.is_store & ~system.is_external
    for twin, _ in system.twins:
        ok[twin] = False
    if fault in ("bad_config", "pool") or (fault == "early_return" and rng.random() < 0.6):
        ok &= np.isin(np.arange(system.n), system.edges[:, 0])
    if not ok.any():
        ok = ~system.is_external
    if fault in ("net_delay", "net_loss") and rng.random() < 0.6:  # only who has several callers shows which way is broken
        shared = ok & (np.bincount(system.edges[:, 1], minlength=system.n) > 1)
        ok = shared if shared.any() else ok
    if fault in _DISK_FAULTS and rng.random() < 0.5 and (ok & system.is_store).any():
        ok &= system.is_store
    doubled = [original for _, original in system.twins if ok[original]]
    if doubled and rng.random() < 0.4:  # hard to tell from its second name: worth more practice than chance gives
        return int(rng.choice(doubled))
    return int(rng.choice(np.flatnonzero(ok)))


def strike(fault: str, root: int, system: System, given: Conditions, onset: int, step: float,
           rng: np.random.Generator) -> Marks:
    """Change `given` from row `onset` on; returns what the root's own gauges show."""
    t = len(given.load)
    ramp = _shape(t, onset, step, rng)
    on = ramp > 0
    into, out_of = system.edges_to(root), system.edges_from(root)
    if fault in ("net_delay", "net_loss") and len(into) > 1 and rng.random() < 0.5:  # the way from one caller only
        into, out_of = rng.choice(into, size=1), into[:0]
    size = float(rng.beta(1.0, 1.3)) * 0.95 + 0.04
    factor = float(np.exp(rng.uniform(np.log(1.7), np.log(80))))
    marks = Marks(shape=ramp, strange=fault in ("error", "early_return", "bad_config", "crash_loop"))
    if fault in ("net_delay", "net_loss") and len(into) < len(system.edges_to(root)):
        marks.call = int(into[0])
    if rng.random() < 0.15:  # one bad instance of several: only a part of the requests meets it
        part = float(rng.uniform(0.05, 0.5))
        size, factor = size * part, 1 + (factor - 1) * part
    match fault:
        case "down":
            given.is_down[on, root] = True
            marks.kinds.append("process.down")
        case "hang":
            given.is_hung[on, root] = True
            marks.kinds.append("hang")
        case "crash_loop":
            gone = on & (rng.random(t) < rng.uniform(0.2, 0.8))
            given.edge_error[np.ix_(gone, into)] = rng.uniform(0.6, 1.0)
            given.own_error[on, root] = rng.uniform(0.05, 0.6)
            marks.exits = True
            marks.kinds.append("crash_loop")
        case "bad_config":
            bad = rng.choice(out_of, size=max(1, min(len(out_of), int(rng.integers(1, 3)))), replace=False)
            given.edge_error[np.ix_(on, bad)] = rng.uniform(0.5, 1.0)
        case "cpu":
            marks.cpu_added = ramp * float(np.exp(rng.uniform(np.log(0.05), np.log(2.0))))
            given.own_seconds[:, root] *= 1 + ramp * (factor - 1) * float(rng.random() < 0.8)
        case "leak":
            grown = np.clip((np.arange(t) - onset) / max(1, t - onset), 0, 1)
            marks.memory_factor = 1 + grown * float(np.exp(rng.uniform(np.log(0.15), np.log(6))))
            given.own_seconds[:, root] *= 1 + ramp * (factor ** 0.4 - 1) * float(rng.random() < 0.6)
            given.own_error[:, root] += ramp * size * 0.5 * float(rng.random() < 0.3)
        case "pool":
            marks.waiting = ramp * rng.uniform(1, 15)
            marks.kinds.append("saturation")
            stores = out_of[system.is_store[system.edges[out_of, 1]]]
            if len(stores) and rng.random() < 0.6:  # the wait for a place counts as a part of the call
                given.edge_error[:, stores] += ramp[:, None] * size
                given.edge_seconds[:, stores] += ramp[:, None] * rng.uniform(0.1, 0.8)
            else:
                given.own_error[:, root] += ramp * size
                given.own_seconds[:, root] += ramp * rng.uniform(0.1, 0.8)
        case "lock":
            marks.locks = ramp * rng.uniform(1, 12)
            marks.kinds.append("lock_wait")
            users = into[rng.random(len(into)) < 0.6] if len(into) > 1 else into
            users = users if len(users) else into
            given.edge_seconds[:, users] += ramp[:, None] * system.timeout[users] * rng.uniform(0.3, 2.0)
        case "cache_full":
            marks.refused = ramp * rng.uniform(1, 60)
            marks.kinds.append("cache_full")
            given.edge_error[:, into] += ramp[:, None] * rng.uniform(0.0, 1.0, len(into))
        case "logs":
            marks.log_factor = 1 + ramp * rng.uniform(15, 400)
            marks.cpu_added = ramp * rng.uniform(0, 0.3)
            given.own_seconds[:, root] *= 1 + ramp * rng.uniform(0, 1)
        case "error":
            given.own_error[:, root] += ramp * size
            if rng.random() < 0.5:  # it fails halfway: what comes first is called as ever
                done = out_of[:int(rng.integers(0, len(out_of) + 1))]
                given.often[:, done] /= 1 - 0.95 * (ramp * size)[:, None]
        case "slow":
            given.own_seconds[:, root] *= 1 + ramp * (factor - 1)
            given.own_seconds[:, root] += ramp * rng.uniform(0, 0.05)
        case "net_delay":
            added = ramp[:, None] * float(np.exp(rng.uniform(np.log(0.01), np.log(3))))
            given.edge_seconds[:, into] += added
            given.edge_seconds[:, out_of] += added * float(rng.random() < 0.7)
        case "net_loss":
            given.edge_error[:, into] += ramp[:, None] * size
            given.edge_error[:, out_of] += ramp[:, None] * size * rng.random()
            given.edge_seconds[:, into] += ramp[:, None] * rng.uniform(0, 0.3)
        case "early_return":
            share = float(rng.uniform(0.1, 1.0)) * float(np.clip(size, 0.1, 1.0) if rng.random() < 0.5 else 1.0)
            if rng.random() < 0.5:
                given.skipped[:, root] += ramp * share
            else:  # it returns halfway: only what comes after that is not called
                given.often[:, out_of[int(rng.integers(0, max(1, len(out_of)))):]] *= 1 - (ramp * share)[:, None]
            given.own_error[:, root] += ramp * size * float(rng.random() < 0.6)
        case "disk_full" | "disk_slow":
            _disk(fault, root, system, given, ramp, size, factor, marks, rng)
        case "scaled_down":
            marks.kept = 1 - ramp * rng.uniform(0.3, 0.9)
            given.own_seconds[:, root] *= 1 + ramp * (factor - 1)
            given.own_error[:, root] += ramp * size * 0.6 * float(rng.random() < 0.5)
            if rng.random() < 0.5:
                marks.waiting = ramp * rng.uniform(1, 10)
                marks.kinds.append("saturation")
    if fault in _OTHER_WAY and rng.random() < 0.4:
        _take_another_way(system, given, out_of, ramp, size, rng)
    np.clip(given.edge_error, 0, 1, out=given.edge_error)
    np.clip(given.own_error, 0, 1, out=given.own_error)
    return marks


def _disk(fault: str, root: int, system: System, given: Conditions, ramp: Floats, size: float, factor: float, marks: Marks,
          rng: np.random.Generator) -> None:
    """A full disk fails what writes, a slow one keeps everybody waiting who reads or writes. Others that rest on the same
    volume feel a part of it."""
    others = np.flatnonzero(~system.is_external)
    if rng.random() < 0.3:
        near = rng.choice(others, size=min(len(others), int(rng.integers(1, 4))), replace=False)
        marks.disk_with = tuple(i for i in near.tolist() if i != root)
    if fault == "disk_full":
        marks.space_added = np.clip(ramp * rng.uniform(0.85, 1.0), 0, 1)
        marks.disk_added = ramp * rng.uniform(0, 0.3) * float(rng.random() < 0.3)
        if rng.random() < 0.6:
            marks.kinds.append("saturation")
    else:
        marks.disk_added = ramp * rng.uniform(0.2, 1.0)
    for i, part in ((root, 1.0), *((i, float(rng.uniform(0.05, 0.6))) for i in marks.disk_with)):
        if fault == "disk_full":  # what only reads goes on as ever
            given.own_error[:, i] += ramp * size * part
            given.own_seconds[:, i] *= 1 + ramp * rng.uniform(0, 1) * part * float(rng.random() < 0.4)
        else:
            given.own_seconds[:, i] *= 1 + ramp * (factor - 1) * part
            given.own_seconds[:, i] += ramp * rng.uniform(0, 0.1) * part


def _take_another_way(system: System, given: Conditions, out_of: NDArray[np.int64], ramp: Floats, size: float,
                      rng: np.random.Generator) -> None:
    """Who fails asks somebody that it hardly ever asks: a fallback, a place for reports, what it has not got cached. That one
    is innocent, however new its traffic is."""
    seldom = out_of[system.fanout[out_of] < 0.1]
    if len(seldom):
        e = int(rng.choice(seldom))
        part = ramp * min(1.0, size) * rng.uniform(0.2, 1.2)
        given.often[:, e] = np.minimum(given.often[:, e] + part / system.fanout[e], 2.0 / system.fanout[e])


def _shape(t: int, onset: int, step: float, rng: np.random.Generator) -> Floats:
    """0 before, then a step, a ramp, or a step with gaps, perhaps only for a while; [t] in 0..1."""
    left = t - onset
    if rng.random() < 0.3:  # it comes late in the window, or is over before its end
        onset += int(rng.integers(0, max(1, left // 3)))
    # At a row a minute a fault may be over before the window ends; one that lasts seconds is a hiccup.
    end = t if step < 60 or rng.random() < 0.7 else onset + max(2, int(left * rng.uniform(0.35, 0.9)))
    after = np.arange(t) - onset
    shape: Floats = ((after >= 0) & (np.arange(t) < end)).astype(float)
    kind = rng.random()
    if kind < 0.25:
        shape *= np.clip((after + 1) / max(2.0, 0.5 * left), 0, 1)
    elif kind < 0.35:
        shape *= rng.random(t) < 0.75
    return shape
