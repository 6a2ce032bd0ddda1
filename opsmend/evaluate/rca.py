"""`opsmend eval rca`: every ranker on recorded cases, which none of them was trained on."""

from __future__ import annotations

import hashlib
import json
import time
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from opsmend.config import ConfigError
from opsmend.evaluate.rca_alert_cases import alert_folders
from opsmend.evaluate.rca_alerts import evaluate_alerts
from opsmend.evaluate.rca_cases import CaseError, RecordedCase, read_split, unlabelled
from opsmend.evaluate.rca_clock import Onset, check_clock, find_onset, split_at
from opsmend.evaluate.rca_made import calm_windows, overlaid, pairs, with_deploy
from opsmend.evaluate.rca_scores import (
    MISS,
    SCORES,
    abstention_curve,
    as_shares,
    floor_scores,
    floor_trust,
    places,
    summary,
    tied_scores,
)
from rootcause.rankers.registry import RANKERS, ranker_of
from rootcause.scoring import calibration_error
from rootcause.stage import RootCauseConfig
from rootcause.types import CaseWindow, Ranker, Ranking

Floats = NDArray[np.float64]
OURS = "opsmend"
FLOOR = "random"
_FAILS = (ValueError, ArithmeticError, LookupError, RuntimeError, np.linalg.LinAlgError)
"""How a ranking fails on data that it can't use."""


@dataclass(frozen=True)
class _Ranked:
    """What one ranker said of the cases, None where it failed, and what it took."""

    rankings: list[Ranking | None]
    milliseconds: float
    failures: list[str]


def evaluate_rca(data: Path, *, split: str = "", seed: int = 0, clock: str = "known", ranker: str = "",
                 weights: Path | None = None) -> dict[str, Any]:
    """The report of `opsmend eval`. `split` is "" for all cases, "test" for those marked so, "dev" for the rest;
    `ranker` one name of `RANKERS` (beside ours and the floor), or "" for all of them; `weights` is a directory of tuned
    ones that ours takes, None: the shipped ones.

    `seed` is that of the bootstrap. Cases that can't be read and cases on which a ranker fails count as misses and
    are named. Alert-level sets are recognised by their `events.csv`; beside series they are in `alerts`. Raises
    CaseError where there are no cases, ConfigError for unknown names.
    """
    check_clock(clock)
    if alert_folders(data):  # sets without series
        alerts = evaluate_alerts(data, split=split, seed=seed)
        if not any(data.rglob("metrics.csv")):
            return alerts
        report = evaluate_series_cases(data, split=split, seed=seed, clock=clock, ranker=ranker, weights=weights)
        return report | {"alerts": alerts, "failed": report["failed"] + alerts["failed"],
                         "failures": report["failures"] + alerts["failures"]}
    return evaluate_series_cases(data, split=split, seed=seed, clock=clock, ranker=ranker, weights=weights)


def evaluate_series_cases(data: Path, *, split: str, seed: int, clock: str, ranker: str,
                          weights: Path | None = None) -> dict[str, Any]:
    """Of the cases with series."""
    rankers = _chosen(ranker, weights)
    cases, failures, lost = read_split(data, split, clock)
    if not cases and not failures:
        raise CaseError(f"{data}: no case in the split '{split}'")
    onsets: list[Onset] = []
    # Of the whole fault-free recording: nothing was wrong there by the source's word, whatever the clock.
    calm = [(window, f"{case.name} {k}") for case in (cases if clock == "known" else read_split(data, split, "known")[0])
            for k, window in enumerate(calm_windows(case))]
    if clock == "detected":
        before = cases
        onsets = [find_onset(case.window) for case in before]
        cases = [replace(case, window=split_at(case.window, at)) for case, at in zip(before, onsets, strict=True)]
    groups = _groups(cases, lost)
    rows: dict[str, list[Floats]] = {}
    methods: dict[str, dict[str, Any]] = {}
    for name, one in rankers.items():
        ranked = _rank(name, one, [case.window for case in cases], [case.name for case in cases])
        rows[name] = [_score(r, c, is_ours=name == OURS) for r, c in zip(ranked.rankings, cases, strict=True)]
        rows[name] += [MISS] * len(lost)
        methods[name] = summary(rows[name], seed) | {"ms_per_case": ranked.milliseconds}
        failures += ranked.failures
        methods[name] |= _trust(ranked.rankings, cases, len(lost), is_ours=name == OURS)
        if any(r is not None and r.p_none is not None for r in ranked.rankings):
            methods[name] |= _calm(name, one, calm)
        methods[name] |= _two_at_once(name, one, cases)
    rows[FLOOR] = [floor_scores(len(case.window.services)) for case in cases] + [MISS] * len(lost)
    methods[FLOOR] = summary(rows[FLOOR], seed) | floor_trust([len(case.window.services) for case in cases], len(lost))
    report: dict[str, Any] = {
        "what": "rca", "data": str(data), "split": split or "all", "clock": clock, "seed": seed,
        "cases": len(cases) + len(lost), "failed": len(failures), "failures": failures,
        "config_hash": _hash([*rankers, split, clock, *_cards(weights)]), "methods": methods,
        "groups": {group: {"cases": {"n": float(len(at))}} | {name: summary([rows[name][i] for i in at], seed) for name in rows}
                   for group, at in groups.items()}}
    if notes := [*(note for case in cases for note in case.notes), *unlabelled(data)]:
        report["notes"] = notes
    if onsets:
        report["onsets"] = _onsets(before, onsets)
    return report


def _chosen(only: str, weights: Path | None = None) -> dict[str, Ranker]:
    """The service's ranker under our name, and the others."""
    if weights is not None and not (weights / "rootcause.json").is_file():
        raise ConfigError(f"eval: no rootcause.json in {weights}")
    served = RootCauseConfig().ranker
    if only and only not in RANKERS and only != OURS:
        raise ConfigError(f"eval: unknown ranker '{only}'; known: {', '.join(RANKERS)}")
    return {OURS: ranker_of(served, str(weights or ""))} | {name: make() for name, make in RANKERS.items()
                                        if name not in (served, FLOOR) and only in ("", name)}


def _rank(name: str, ranker: Ranker, windows: Sequence[CaseWindow], labels: Sequence[str]) -> _Ranked:
    rankings: list[Ranking | None] = []
    failures: list[str] = []
    seconds = 0.0
    with suppress(*_FAILS):  # the first call loads the weights; of a window that fails is told when it is its turn
        for window in windows[-1:]:
            ranker.rank(window)
    for window, label in zip(windows, labels, strict=True):
        try:
            fresh = replace(window)  # of which nothing is known from the ranking before
            began = time.perf_counter()
            rankings.append(ranker.rank(fresh))
            seconds += time.perf_counter() - began
        except _FAILS as error:
            rankings.append(None)
            failures.append(f"{name} on {label}: {type(error).__name__}: {error}"[:300])
    return _Ranked(rankings, round(1e3 * seconds / max(1, len(rankings) - len(failures)), 2), failures)


def _score(ranking: Ranking | None, case: RecordedCase, *, is_ours: bool) -> Floats:
    if ranking is None:
        return MISS
    return tied_scores(ranking.scores, case.window.services.index(case.root), is_ours=is_ours)


def _first(ranking: Ranking) -> tuple[float, float]:
    """(probability of the first suspect, how far it is ahead of the second and of "none": the service's margin)."""
    scores = ranking.scores if ranking.p_none is not None else as_shares(ranking.scores)
    second, top = np.sort(np.concatenate([[0.0, 0.0], scores]))[-2:].tolist()
    return top, top - max(second, float(ranking.p_none or 0.0))


def _says_none(ranking: Ranking | None) -> float:
    return 0.0 if ranking is None else float((ranking.p_none or 0.0) > float(ranking.scores.max(initial=0.0)))


def _trust(rankings: Sequence[Ranking | None], cases: Sequence[RecordedCase], lost: int, *, is_ours: bool) -> dict[str, Any]:
    """Calibration of the first answer, "none of these" included, and accuracy when only the surest are answered; of who
    gives no probabilities by shares of the scores. Of who does: how often "none" is (wrongly) said, and at the margin below
    which the service says "cannot tell" how much is answered. Cases that could not be read are wrong and never sure."""
    confidence, right, margins, hits = [], [], [-1.0] * lost, [0.0] * lost
    for ranking, case in zip(rankings, cases, strict=True):
        if ranking is None:
            margins.append(-1.0)
            hits.append(0.0)
            continue
        top, margin = _first(ranking)
        is_none = _says_none(ranking)
        hit = float(_score(ranking, case, is_ours=is_ours)[0])
        confidence.append(max(top, float(ranking.p_none or 0.0)))
        right.append(hit * (1.0 - is_none))
        margins.append(margin)
        hits.append(hit)
    found: dict[str, Any] = {"ECE": round(calibration_error(confidence, right), 4),
                             "abstention": abstention_curve(margins, hits)}
    if any(r is not None and r.p_none is not None for r in rankings):
        told = [h for h, m in zip(hits, margins, strict=True) if m >= RootCauseConfig().margin]
        found |= {"none_wrongly": round(float(np.mean([_says_none(r) for r in rankings])), 4),
                  "answered": round(len(told) / max(1, len(hits)), 4), "AC@1 answered": round(float(np.mean(told or [0.0])), 4)}
    return found


def _calm(name: str, ranker: Ranker, calm: Sequence[tuple[CaseWindow, str]]) -> dict[str, float]:
    """How often it says "none of these" on windows in which nothing was wrong, and when a service of them was
    deployed just before."""
    if not calm:
        return {"calm_windows": 0.0}
    windows, labels = [window for window, _ in calm], [label for _, label in calm]
    nothing = _rank(name, ranker, windows, labels).rankings
    deployed = _rank(name, ranker, [with_deploy(w, k) for w, k in calm], labels).rankings
    return {"calm_windows": float(len(calm)), "none_recognised": round(float(np.mean([_says_none(r) for r in nothing])), 4),
            "none_with_deploy": round(float(np.mean([_says_none(r) for r in deployed])), 4)}


def _two_at_once(name: str, ranker: Ranker, cases: Sequence[RecordedCase]) -> dict[str, float]:
    """Share of overlaid pairs of which both roots are among the first three; ties against us."""
    made = [(window, one, other) for one, other in pairs(cases) if (window := overlaid(one, other)) is not None]
    rankings = _rank(name, ranker, [m[0] for m in made], [f"{m[1].name} + {m[2].name}" for m in made]).rankings
    found = [ranking is not None and max(places(ranking.scores, window.services.index(c.root))[1] for c in roots) <= 3
             for ranking, (window, *roots) in zip(rankings, made, strict=True)]
    return {"pairs": float(len(found)), "both_in_3": round(float(np.mean(found)), 4)} if found else {}


def _groups(cases: Sequence[RecordedCase], lost: Sequence[str]) -> dict[str, list[int]]:
    out: dict[str, list[int]] = defaultdict(list)
    for i, case in enumerate(cases):
        out[f"{case.system}{'/' + case.split if case.split else ''}"].append(i)
        out[f"{case.system}: {case.fault}"].append(i)
    for i, system in enumerate(lost):
        out[f"{system}: not read"].append(len(cases) + i)
    return dict(sorted(out.items()))


def _onsets(cases: Sequence[RecordedCase], onsets: Sequence[Onset]) -> dict[str, float]:
    """Rows from the recorded beginning to the found one, and how many were clear."""
    off = np.array([at.row - case.window.baseline_rows for case, at in zip(cases, onsets, strict=True)], dtype=np.float64)
    return {"clear": round(float(np.mean([at.is_clear for at in onsets])), 4), "rows_off_median": float(np.median(np.abs(off))),
            "rows_early": float((off < -1).sum()), "rows_late": float((off > 1).sum())}


def _cards(weights: Path | None) -> list[str]:
    return [(weights / "rootcause.json").read_text()] if weights else []


def _hash(parts: list[str]) -> str:
    from rootcause.rankers.gnn import MODELS_DIR

    card = (MODELS_DIR / "rootcause.json").read_text()
    return hashlib.sha256(json.dumps([parts, card, SCORES]).encode()).hexdigest()[:12]
