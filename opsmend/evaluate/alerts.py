"""`opsmend eval alerts`: storms of recorded faults, grouped by the service's own convergence and by what others do."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np

from detect.convergence.config import ConvergenceConfig
from detect.detectors.external_alert import ExternalAlertConfig
from opsmend.evaluate.alerts_data import Fault, read_faults, read_graph, split_faults
from opsmend.evaluate.alerts_methods import METHODS
from opsmend.evaluate.alerts_scores import scores
from opsmend.evaluate.alerts_storms import MIN_ALERTS, SCENARIOS, Storm, calls_of, hosts_of, make_storms
from opsmend.evaluate.alerts_stream import stream
from opsmend.evaluate.alerts_track import id_switches, tracked
from opsmend.evaluate.rca_cases import CaseError

OURS: Final = "opsmend"
SEEDS: Final = (0, 1, 2)
STORMS: Final = 12
"""Per scenario and seed."""
_TRACKED: Final = 6
"""Storms per scenario that ids are followed in: every method is run anew on every minute of these."""
_TRACK_SECONDS: Final = 60.0
Progress = Callable[[str, int, int], None]


def evaluate_alerts(data: Path, *, split: str = "test", storms: int = STORMS, seeds: Sequence[int] = SEEDS,
                    progress: Progress | None = None) -> dict[str, Any]:
    """The report of `opsmend eval`; a case is a storm. `split`: "test" (the default), "dev", or "" for all faults.

    Scores are means over the storms of all seeds; `sd` is their spread between seeds. A scenario for which there are
    too few faults with at least ten alerts is a failure, and named. Raises CaseError where data can't be read.
    """
    every = read_faults(data)
    faults = split_faults(every, split)
    made = storms_of(every, faults, storms, seeds, read_graph(data))
    groups: dict[str, dict[str, dict[str, float]]] = {}
    for name, found in made.items():
        if found:
            groups[name] = {"cases": {"n": float(len(found))}} | {
                method: _scored(method, found, storms, progress and _named(progress, f"{name}, {method}"))
                for method in METHODS}
    return report_of(data, split, groups, list(METHODS), seeds, len(faults))


def report_of(data: Path, split: str, groups: dict[str, dict[str, dict[str, float]]], methods: Sequence[str],
              seeds: Sequence[int], faults: int) -> dict[str, Any]:
    """The report around the groups; scenarios that are missing are failures. CaseError where all are."""
    failures = [f"{name}: fewer than {s.faults} faults with {MIN_ALERTS} alerts in the split '{split}'"
                for name, s in SCENARIOS.items() if name not in groups]
    if not groups and not faults:
        raise CaseError(f"{data}: no faults in the split '{split}'")
    cases = sum(int(group["cases"]["n"]) for group in groups.values())
    return {"what": "alerts", "data": str(data), "split": split or "all", "cases": cases + len(failures),
            "failed": len(failures), "failures": failures, "config_hash": _hash(methods, seeds), "seed": list(seeds),
            "faults": faults, "methods": {m: mean_of([g[m] for g in groups.values()]) for m in methods if groups},
            "groups": groups}


def storms_of(every: Sequence[Fault], faults: Sequence[Fault], storms: int, seeds: Sequence[int],
              graph: frozenset[tuple[str, str]] = frozenset()) -> dict[str, list[Storm]]:
    """Storms of all seeds, by scenario. What calls what (`graph` and what alerts name), and what runs where, is known of
    the whole system."""
    calls, hosts = calls_of(every) | graph, hosts_of(every)
    return {name: [s for seed in seeds for s in make_storms(faults, scenario, storms, seed, calls, hosts)]
            for name, scenario in SCENARIOS.items()}


def _scored(method: str, storms: Sequence[Storm], per_seed: int, progress: Progress | None) -> dict[str, float]:
    rows, switches = [], []
    for at, storm in enumerate(storms):
        if method == OURS:
            snapshots = [labels for _, labels, _ in stream(storm)]
            rows.append(scores(storm.fault, snapshots[-1]))
            if at < _TRACKED:
                # As often as the others are looked at, so that the figures can be compared.
                switches.append(id_switches(storm.fault, [*snapshots[5::6], snapshots[-1]]))
        else:
            rows.append(scores(storm.fault, METHODS[method](storm)))
            if at < _TRACKED:
                switches.append(id_switches(storm.fault, tracked(storm, METHODS[method], _TRACK_SECONDS)))
        if progress is not None:
            progress("", at + 1, len(storms))
    of_seed = [np.mean([r["AMI"] for r in rows[i: i + per_seed]]) for i in range(0, len(rows), per_seed)]
    return mean_of(rows) | {"id_switches": round(float(np.mean(switches)), 4),
                          "AMI_sd": round(float(np.std(of_seed)), 4)}


def _named(progress: Progress, name: str) -> Progress:
    return lambda _, done, total: progress(name, done, total)


def mean_of(rows: Sequence[dict[str, float]]) -> dict[str, float]:
    """Mean of each score."""
    return {name: round(float(np.mean([row[name] for row in rows])), 4) for name in rows[0]}


def _hash(methods: Sequence[str], seeds: Sequence[int]) -> str:
    body = [msgspec.to_builtins(ConvergenceConfig()), msgspec.to_builtins(ExternalAlertConfig()), list(seeds),
            sorted(methods), sorted(SCENARIOS)]
    return hashlib.sha256(json.dumps(body).encode()).hexdigest()[:12]
