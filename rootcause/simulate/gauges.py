"""What processes and stores say of themselves: gauges with noise, and anomalies of the innocent."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rootcause.simulate.faults import Struck
from rootcause.simulate.physics import Conditions, Flow
from rootcause.simulate.topology import Floats, System

Table = dict[str, Floats]


def gauges(system: System, given: Conditions, found: Flow, served: Floats, struck: Sequence[Struck], step: float,
            rng: np.random.Generator) -> Table:
    """CPU, memory, log lines, pools, locks, refusals, and whether the process is there and answers; all [t, n]."""
    t, n = given.load.shape
    gone = given.is_down
    gauge: Table = {}
    usual = np.maximum(np.median(served, axis=0), 1e-6)
    cpu: Floats = rng.uniform(0.005, 0.1, n) + rng.uniform(0.01, 0.6, n) * served / usual
    cpu = cpu * np.exp(rng.normal(0, rng.uniform(0.03, 0.25), (t, n)))
    memory: Floats = rng.uniform(3e7, 8e8, n) * np.exp(rng.normal(0, 0.004, (t, n)))
    memory *= 1 + rng.uniform(-0.05, 0.15, n) * np.linspace(0, 1, t)[:, None]
    logs = rng.lognormal(0, 1.5, n) * (0.1 + served / usual) + rng.uniform(0, 3, n) * served * found.error
    waiting = np.zeros((t, n))
    for i in range(n):
        to_stores = [e for e in system.edges_from(i).tolist() if system.is_store[system.edges[e, 1]]]
        if to_stores:
            at_once = (found.edge_traffic[:, to_stores] * found.edge_seconds[:, to_stores]).sum(axis=1)
            waiting[:, i] = np.maximum(0, at_once - max(system.pool[i], 3 * float(np.median(at_once))))
        else:
            waiting[:, i] = np.nan
    locks, refused = np.full((t, n), np.nan), np.full((t, n), np.nan)
    locked = {s.root for s in struck if s.marks.locks is not None}
    for i in np.flatnonzero(system.is_store).tolist():
        (locks if rng.random() < 0.6 or i in locked else refused)[:, i] = 0.0
        if rng.random() < 0.15:  # short waits are usual
            locks[:, i] = np.where(np.isfinite(locks[:, i]), rng.poisson(0.1, t), np.nan)
    for root, marks in ((s.root, s.marks) for s in struck):
        if marks.cpu_added is not None:
            cpu[:, root] += marks.cpu_added * rng.uniform(0.8, 1.2, t)
        if marks.memory_factor is not None:
            memory[:, root] *= marks.memory_factor
        if marks.log_factor is not None:
            logs[:, root] *= marks.log_factor
        if marks.waiting is not None:
            waiting[:, root] = np.nan_to_num(waiting[:, root]) + np.round(marks.waiting * rng.uniform(0.5, 1.2, t))
        if marks.locks is not None:
            locks[:, root] = np.nan_to_num(locks[:, root]) + np.round(marks.locks)
        if marks.refused is not None:
            refused[:, root] = np.nan_to_num(refused[:, root]) + rng.poisson(np.maximum(marks.refused, 0))
        if marks.kept is not None:  # what all instances have together; those that are left work more
            memory[:, root] *= marks.kept
            cpu[:, root] *= 0.3 * marks.kept + 0.7
        if marks.exits:
            gone = gone.copy()
            gone[:, root] |= (given.own_error[:, root] > 0.04) & (rng.random(t) < rng.uniform(0, 0.6))
    _innocent_gauges(cpu, memory, logs, {s.root for s in struck}, rng)
    gauge["disk"], gauge["space"] = _disks(system, served / usual, cpu, struck, rng)
    for name, table in (("cpu", cpu), ("memory", memory), ("disk", gauge["disk"]), ("space", gauge["space"])):
        gauge[name] = np.where(gone, np.nan, table)
    lines = np.clip(np.where(gone | given.is_hung, 0, logs) * step, 0, 1e9)
    gauge["logs"] = rng.poisson(lines) / step
    gauge["saturation"], gauge["lock_wait"], gauge["cache_full"] = waiting, locks, refused
    gauge["up"] = np.where(gone, 0.0, 1.0)
    gauge["responsive"] = np.where(gone | given.is_hung, 0.0, 1.0)
    gauge["responsive"][rng.random((t, n)) < 0.002] = 0.0
    return gauge


def _disks(system: System, load: Floats, cpu: Floats, struck: Sequence[Struck],
           rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Share of time that the disk of each is busy, and share of its space that is taken, [t, n]. Most services hardly write;
    backups and compactions are nobody's fault. Who waits for a disk does not compute: `cpu` is changed."""
    t, n = load.shape
    low, high = np.where(system.is_store, [[0.01], [0.5]], [[1e-4], [0.05]])
    busy = np.exp(rng.uniform(np.log(low), np.log(high))) * (0.3 + 0.7 * np.minimum(load, 4.0) ** rng.uniform(0, 1, n))
    busy = busy * np.exp(rng.normal(0, rng.uniform(0.05, 0.5), (t, n)))
    taken = rng.uniform(0.05, 0.85, n) + rng.uniform(0, 0.05, n) * np.linspace(0, 1, t)[:, None] * (rng.random(n) < 0.5)
    taken = taken + rng.normal(0, 0.002, (t, n)) * (rng.random(n) < 0.5)
    for _ in range(int(rng.poisson(0.8))):
        i, at = int(rng.integers(0, n)), max(1, t - int(rng.integers(2, 60)))
        if rng.random() < 0.7:
            busy[at:at + int(rng.integers(1, 20)), i] += np.exp(rng.uniform(np.log(0.02), np.log(0.9)))
        else:
            taken[at:, i] += rng.uniform(-0.3, 0.25)
    for s in struck:
        if s.marks.disk_added is not None:
            for i in (s.root, *s.marks.disk_with):
                busy[:, i] += s.marks.disk_added * (1.0 if i == s.root else rng.uniform(0.1, 1.0))
                cpu[:, i] *= 1 - rng.uniform(0, 0.6) * np.clip(s.marks.disk_added, 0, 1)
        if s.marks.space_added is not None:
            for i in (s.root, *s.marks.disk_with):  # of a volume the same is told of whoever rests on it
                taken[:, i] += (1 - taken[:, i]) * s.marks.space_added
        if s.marks.log_factor is not None and rng.random() < 0.5:  # lines end on a disk
            busy[:, s.root] *= 1 + np.log1p(s.marks.log_factor - 1) * rng.uniform(0, 2)
        if s.marks.memory_factor is not None and rng.random() < 0.3:  # and pages that are out of memory
            busy[:, s.root] += (s.marks.memory_factor - 1) * rng.uniform(0, 0.3)
    if rng.random() < 0.3:  # told in bytes, and without an end
        busy *= rng.lognormal(15, 1, n)
    else:
        busy = np.minimum(busy, 1.0)
    taken = np.clip(taken, 0, 1) * (rng.lognormal(22, 1, n) if rng.random() < 0.4 else 1.0)
    tells = rng.random(n) < np.where(system.is_store, 0.9, rng.uniform(0.3, 1.0))
    return np.where(tells, busy, np.nan), np.where(tells, taken, np.nan)


def _innocent_gauges(cpu: Floats, memory: Floats, logs: Floats, roots: set[int], rng: np.random.Generator) -> None:
    """Batch jobs, caches that fill, chatty releases: changes that nobody feels."""
    t, n = cpu.shape
    for _ in range(int(rng.poisson(1.2))):
        i = int(rng.integers(0, n))
        if i in roots:
            continue
        at = max(1, t - int(rng.integers(2, 40)))
        rows = slice(at, None) if rng.random() < 0.6 else slice(at, at + int(rng.integers(2, 8)))
        match int(rng.integers(0, 3)):
            case 0:
                cpu[rows, i] += float(np.exp(rng.uniform(np.log(0.03), np.log(0.8))))
            case 1:
                memory[rows, i] *= rng.uniform(1.1, 2.0)
            case _:
                logs[rows, i] *= rng.uniform(3, 60)
