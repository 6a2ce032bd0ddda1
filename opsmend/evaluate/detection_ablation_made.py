"""Made systems that are watched for half a day, with a fault at the end or without: what each modality makes of them.

The simulator of the root-cause ranker draws the system, its ordinary weather, harmless events and the fault. Every
channel goes through the evidence that the service ships, whose threshold and calibration have seen no label.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from detect.detectors.usual import Usual
from detect.evidence.streams import Evidence, Lstm
from detect.forecaster.lstm import Forecaster, Weights
from rootcause.simulate.faults import Struck, draw_fault, draw_root, strike
from rootcause.simulate.physics import Conditions, flow
from rootcause.simulate.sensors import Profile, measure
from rootcause.simulate.topology import System, draw_system
from rootcause.simulate.weather import blip, disturb, settle
from rootcause.window import EDGE_INDICATORS, NODE_INDICATORS

Floats = NDArray[np.float64]
MODALITIES: Final = ("metrics", "logs", "traces")
STEP_SECONDS: Final = 60.0
FAULT_ROWS: Final = 30
"""A fault is looked for in so many rows from its start; systems without one end in as many ordinary rows."""
WARM_ROWS: Final = 130
"""New series are not judged yet: nothing is scored before this row."""
QUIET_ROWS: Final = 700
_CUT_ROWS: Final = 40
"""The simulator lets innocent gauges change in its last 40 rows alone: these are cut off, else any fault would look found."""
_EVENTS: Final = 3
"""Harmless events (load, a busy host, small slowness), and as many roll-outs, in the ordinary rows of a system."""
_ALL: Final = Profile("full", frozenset(NODE_INDICATORS), frozenset(EDGE_INDICATORS), False)
_LOGS: Final = frozenset({"logs", "error_lines", "templates"})
_TRACES: Final = frozenset({"spans", "pattern", "self_time"})
_FELT: Final = frozenset({"errors", "latency"})
_PAST: Final = 120
_SEVERAL: Final = 5
_CHANGE, _DEVIATIONS, _WARM_UP, _RECENT = 0.5, 3.0, 60, 30
"""Those of detect.detectors.metric_forecast."""
_NEED, _OF = 3, 4


@dataclass(frozen=True)
class Watched:
    """One system, row by row. Scores are [t], NaN where nothing was measured."""

    name: str
    fault: str
    """"" for none."""
    begin: int
    """First row of the fault, or of the rows in which there could have been one."""
    end: int
    first: int
    """Rows before this are not scored."""
    step_seconds: float
    alone: Mapping[str, Floats]
    """modality -> how odd its oddest channels are."""
    early: Mapping[str, Floats]
    """All channels in one space, and trivial baselines."""

    def quiet(self) -> NDArray[np.bool_]:
        """[t] scored rows without a fault."""
        rows = np.arange(len(next(iter(self.early.values()))))
        during = (rows >= self.begin) & (rows < self.end) & bool(self.fault)
        found: NDArray[np.bool_] = (rows >= self.first) & ~during & np.isfinite(next(iter(self.early.values())))
        return found


def watch_made(seed: int, *, is_faulty: bool, rows: int = QUIET_ROWS) -> Watched:
    """A system of 5 to 59 services for `rows` minutes or some more and FAULT_ROWS after that. About a second of work; the
    same for a seed."""
    rng = np.random.default_rng([seed, int(is_faulty)])
    system, fault = draw_system(rng), ""
    while not fault or fault.startswith("none"):
        fault = draw_fault(rng)
    t = rows + FAULT_ROWS + _CUT_ROWS
    given = Conditions.usual(system, t)
    # Who moves to another day, or is busy, does so before anything is scored.
    settle(system, given, WARM_ROWS // 2, STEP_SECONDS, rng)
    root = draw_root(fault, system, rng)
    for at in rng.integers(WARM_ROWS, rows - FAULT_ROWS, _EVENTS).tolist():
        disturb("", [root], system, given, at, STEP_SECONDS, rng)
    services = np.flatnonzero(~system.is_store & ~system.is_external)
    rolling = [(service, blip(service, given, at, STEP_SECONDS, rng)) for service, at in zip(
        rng.choice(services, _EVENTS).tolist(), rng.integers(WARM_ROWS, rows - FAULT_ROWS, _EVENTS).tolist(), strict=True)]
    struck = [Struck(fault, root, strike(fault, root, system, given, rows, STEP_SECONDS, rng))] if is_faulty else []
    node, edge = measure(system, given, flow(system, given), struck, rolling, WARM_ROWS // 2, STEP_SECONDS, _ALL, rng)
    shape = struck[0].marks.shape if struck else None
    begin = rows if shape is None else int(np.argmax(shape > 0))
    end = begin + FAULT_ROWS
    alone, early = _scores(system, {name: table[:end] for name, table in node.items()},
                           {name: table[:end] for name, table in edge.items()})
    return Watched(f"made {seed}", fault if is_faulty else "", begin, end, WARM_ROWS, STEP_SECONDS, alone, early)


def _scores(system: System, node: Mapping[str, Floats], edge: Mapping[str, Floats]) -> tuple[dict[str, Floats],
                                                                                          dict[str, Floats]]:
    """([t] by modality, [t] of all). Calls are what spans show: their channels are of the traces."""
    tables = [(_modality_of(name), table) for name, table in sorted(node.items())]
    tables += [("traces", table) for _, table in sorted(edge.items())]
    modality = np.array([m for m, table in tables for _ in range(table.shape[1])])
    values = np.concatenate([table for _, table in tables], axis=1)  # [t, s]
    is_entry = system.entry > 0
    felt = np.concatenate([is_entry & (name in _FELT) for name in sorted(node)]
                          + [np.zeros(table.shape[1], bool) for table in edge.values()])
    known = np.isfinite(values).any(axis=0)
    values, modality, felt = values[:, known], modality[known], felt[known]
    odd, z = oddities(values, STEP_SECONDS), z_scores(values)
    return {m: several(odd[:, modality == m]) for m in MODALITIES}, {
        "several": several(odd), "largest": odd.max(axis=1), "z": several(z), "entry z": z[:, felt].max(axis=1, initial=0.0)}


def several(channels: Floats) -> Floats:
    """[t] mean of the five oddest of [t, s] channels, as a fault shows in several; NaN where nothing was measured."""
    known = np.isfinite(channels)
    filled = np.sort(np.where(known, channels, 0.0), axis=1)[:, -_SEVERAL:]
    return np.where(known.any(axis=1), filled.sum(axis=1) / _SEVERAL, np.nan)


def _modality_of(indicator: str) -> str:
    return "logs" if indicator in _LOGS else "traces" if indicator in _TRACES else "metrics"


def oddities(values: Floats, step_seconds: float) -> Floats:
    """[t, s] how odd each channel is, as the service's detector of metrics has it: the rarest evidence of the last 30
    rows, while the value is away from its usual level by as much as matters, in 3 of 4 rows; else 0."""
    evidence, forecaster, usual = Evidence(), Lstm(Forecaster(Weights.load())), Usual(half_life=120)
    usual.grow(values.shape[1])
    out, rare, away = np.zeros_like(values), np.zeros_like(values), np.zeros(values.shape, bool)
    for row, now in enumerate(values):
        rare[row] = evidence.step(int(row * step_seconds * 1e9), now, forecaster).joined
        with np.errstate(invalid="ignore"):
            change = np.abs(now - usual.mean)
            away[row] = (change >= np.maximum(_CHANGE * np.abs(usual.mean), _DEVIATIONS * usual.deviation)) & (change > 0)
        away[row] &= np.isfinite(now) & (usual.count >= _WARM_UP)
        is_odd = away[max(0, row - _OF + 1): row + 1].sum(axis=0) >= _NEED
        out[row] = np.where(is_odd, rare[max(0, row - _RECENT + 1): row + 1].max(axis=0), 0.0)
        usual.learn(now, is_odd)
    return out


def z_scores(values: Floats) -> Floats:
    """[t, s] how many standard deviations of the last 120 rows a value is away from their mean, at least in this row
    and the two before; at most 100, and 0 while there are fewer than 30 rows."""
    known = np.isfinite(values)
    filled = np.where(known, values, 0.0)
    centre = filled.sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    shifted = np.where(known, values - centre, 0.0)  # sums of squares of what is small keep their digits
    n, total, square = (_past(x) for x in (known.astype(np.float64), shifted, shifted**2))
    mean = total / np.maximum(n, 1.0)
    deviation = np.sqrt(np.maximum(square / np.maximum(n, 1.0) - mean**2, 0.0))
    floor = 1e-3 * np.abs(mean + centre) + 1e-9
    z = np.where(known & (n >= 30), np.minimum(np.abs(shifted - mean) / np.maximum(deviation, floor), 100.0), 0.0)
    z[2:] = np.minimum(z[2:], np.minimum(z[1:-1], z[:-2]))
    return z


def _past(values: Floats) -> Floats:
    """[t, s] sums over the 120 rows before each row."""
    sums = np.concatenate([np.zeros((1, values.shape[1])), np.cumsum(values, axis=0)])
    row = np.arange(len(values))
    out: Floats = sums[row] - sums[np.maximum(row - _PAST, 0)]
    return out
