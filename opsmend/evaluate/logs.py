"""`opsmend eval logs`: the template miner on labelled lines of many systems, beside drain3 and two trivial answers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from opsmend.evaluate.logs_methods import METHODS, Answer
from opsmend.evaluate.logs_scores import grouping, template_accuracy
from opsmend.evaluate.rca_cases import CaseError

_FILE: Final = "_2k.log_structured_corrected.csv"
_NEEDED: Final = ("Content", "EventTemplate")


def evaluate_logs(data: Path, *, show_progress: bool = False) -> dict[str, Any]:
    """The report of `opsmend eval`; a case is a system. Nothing is random.

    `data` holds `<System>/<System>_2k.log_structured_corrected.csv` with the columns Content and EventTemplate. Files
    that can't be read count as failed and are named. Raises CaseError where there are none.
    """
    systems: dict[str, tuple[list[str], list[str]]] = {}
    failures: list[str] = []
    for file in sorted(data.glob(f"*/*{_FILE}")):
        try:
            systems[file.parent.name] = _read(file)
        except (OSError, ValueError) as error:
            failures.append(f"{file}: {error}")
    if not systems and not failures:
        raise CaseError(f"{data}: no */*{_FILE} in it")
    groups: dict[str, dict[str, dict[str, float]]] = {s: {} for s in systems}
    for name, method in _progress(METHODS, show_progress):
        answers = method({s: lines for s, (lines, _) in systems.items()})
        for system, (_, labels) in systems.items():
            groups[system][name] = _scores(labels, answers[system])
    methods = {name: _mean([groups[s][name] for s in systems]) for name in METHODS} if systems else {}
    return {"what": "logs", "data": str(data), "split": "all", "cases": len(systems) + len(failures),
            "failed": len(failures), "failures": failures, "config_hash": _hash(), "seed": 0,
            "methods": methods, "groups": groups}


def _read(file: Path) -> tuple[list[str], list[str]]:
    """(lines, labels). ValueError where columns or rows are missing."""
    import pandas as pd

    table = pd.read_csv(file, keep_default_na=False, dtype=str)
    missing = [column for column in _NEEDED if column not in table.columns]
    if missing or table.empty:
        raise ValueError(f"no {', '.join(missing) or 'rows'}")
    return list(table["Content"]), list(table["EventTemplate"])


def _progress(methods: dict[str, Any], is_shown: bool) -> list[tuple[str, Any]] | Any:
    if not is_shown:
        return list(methods.items())
    from rich.progress import track

    return track(list(methods.items()), description="parsing", transient=True)


def _scores(labels: Sequence[str], answer: Answer) -> dict[str, float]:
    ga, fga = grouping(labels, answer.texts)
    pa, fta = template_accuracy(labels, answer.texts)
    ga_then, _ = grouping(labels, answer.groups_then)
    pa_then, _ = template_accuracy(labels, answer.texts_then)
    scores = {"GA": ga, "FGA": fga, "PA": pa, "FTA": fta, "GA_at_emission": ga_then, "PA_at_emission": pa_then}
    return {name: round(score, 4) for name, score in scores.items()} | {
        "templates": float(len(set(answer.texts))), "lines_per_s": round(len(labels) / answer.seconds),
        "lines_per_s_known": round(len(labels) / answer.seconds_again)}


def _mean(scores: list[dict[str, float]]) -> dict[str, float]:
    return {name: round(float(np.mean([s[name] for s in scores])), 4) for name in scores[0]}


def _hash() -> str:
    from detect.templates.miner import VERSION

    return hashlib.sha256(json.dumps([VERSION, sorted(METHODS)]).encode()).hexdigest()[:12]
