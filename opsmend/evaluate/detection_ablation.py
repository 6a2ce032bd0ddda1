"""`opsmend eval detect`: does it pay to look at metrics, logs and traces together, to see that something is wrong?"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from opsmend.evaluate.detection_ablation_alerts import VOTE_SECONDS, first_alerts
from opsmend.evaluate.detection_ablation_fusion import ALIGN_ROWS, Ranks, Score, learn_attention, votes
from opsmend.evaluate.detection_ablation_made import (
    FAULT_ROWS,
    MODALITIES,
    QUIET_ROWS,
    STEP_SECONDS,
    Watched,
    watch_made,
)
from opsmend.evaluate.detection_ablation_recorded import Recorded, watch_recorded
from opsmend.evaluate.rca_cases import CaseError

Floats = NDArray[np.float64]
Progress = Callable[[str, int, int], None]
SYSTEMS: Final = 60
"""Made systems with a fault, and as many without, in each of the two halves."""
_TEACHERS: Final = 20
"""As many are enough to learn the weights of three modalities for a recorded day."""
BUDGETS: Final = (1.0, 5.0)
"""Half hours with a false alarm, per day and system, that the threshold is set for."""
RECORDED_BUDGET: Final = 0.01
"""Share of the ordinary rows of a recorded day that may be alarms: there are too few for less."""
RANDOM: Final = "random"


def evaluate_detection(data: Path | None = None, *, systems: int = SYSTEMS, minutes: int = QUIET_ROWS,
                       progress: Progress | None = None) -> dict[str, Any]:
    """The report of `opsmend eval detect`: ways to join modalities for methods. `minutes`: of a made system before its fault.

    Without `data`: made systems. Thresholds and learned weights come from one half, the scores from the other, whose
    systems are of other seeds. With `data`: recorded days (cases with label.json, metrics.csv and traces.csv), or the
    alerts of recorded faults (label.csv, metric, log, trace), which have no ordinary time. Raises CaseError where
    there is neither.
    """
    report: dict[str, Any] = {"what": "detect", "data": "made" if data is None else str(data), "failed": 0,
                              "failures": [], "notes": [], "align_seconds": ALIGN_ROWS * STEP_SECONDS}
    if data is not None and (data / "label.csv").is_file():
        groups = {"first alerts": first_alerts(data)}
        return report | {"cases": int(groups["first alerts"]["cases"]["n"]), "groups": groups, "align_seconds": VOTE_SECONDS}
    found = watch_recorded(data) if data is not None else Recorded()
    days, failures = found.days, found.failures
    if data is not None and not days and not failures:
        raise CaseError(f"{data}: no recorded day with a fault that can be scored; {'; '.join(found.notes)}")
    train = _made(range(systems if data is None else min(systems, _TEACHERS)), minutes, progress)
    if data is None:
        ways = _ways(train, Ranks.learn(train))
        test = _made(range(1000, 1000 + systems), minutes, progress)
        groups = {"made": _counted(test, systems) | {name: _scored(score, train, test) for name, score in ways.items()}}
        return report | {"cases": len(test), "groups": groups, "budgets_per_day": list(BUDGETS)}
    groups = {name: _counted(day[:1], len(day)) | _recorded(day, _ways(train, Ranks.learn(day))) for name, day in days.items()}
    return report | {"cases": sum(int(g["cases"]["n"]) for g in groups.values()) + len(failures), "failed": len(failures),
                     "failures": failures, "groups": groups, "notes": found.notes, "budget_share": RECORDED_BUDGET}


def _made(seeds: Sequence[int], minutes: int, progress: Progress | None) -> list[Watched]:
    out = []
    for seed in seeds:
        out += [watch_made(seed, is_faulty=is_faulty, rows=minutes) for is_faulty in (True, False)]
        if progress is not None:
            progress("made systems", len(out) // 2, len(seeds))
    return out


def _ways(train: Sequence[Watched], ranks: Ranks) -> dict[str, Score]:
    """By name. What is learned from faults comes from `train`; `ranks`: what is ordinary where they are used."""
    attention = learn_attention(train, Ranks.learn(train))
    ways: dict[str, Score] = {m: lambda w, m=m: w.alone[m] for m in MODALITIES}  # type: ignore[misc]
    ways["early (one space)"] = lambda w: w.early["several"]
    ways["early, oddest channel"] = lambda w: w.early["largest"]
    ways["late (votes)"] = lambda w: votes(ranks.rarity(w))
    ways["attention (learned)"] = lambda w: attention(ranks.rarity(w))
    ways["z-score, all channels"] = lambda w: w.early["z"]
    ways["z-score, entry"] = lambda w: w.early["entry z"]
    ways[RANDOM] = lambda w: np.random.default_rng(zlib.crc32(f"{w.name} {w.fault}".encode())).random(w.end)
    return ways


def _counted(watched: Sequence[Watched], faults: int) -> dict[str, dict[str, float]]:
    quiet = sum(int(w.quiet().sum()) * w.step_seconds for w in watched) / 86_400
    return {"cases": {"n": float(faults), "quiet_days": round(quiet, 3)}}


def _scored(score: Score, train: Sequence[Watched], test: Sequence[Watched]) -> dict[str, float]:
    """Recall and delay at thresholds that keep to the budgets on `train`, and the false alarms there were on `test`."""
    rows = [score(w) for w in test]
    learned, quiet = quiet_windows([score(w) for w in train], train), quiet_windows(rows, test)
    at_most = [float(np.nanmax(r[w.begin:w.end])) for r, w in zip(rows, test, strict=True) if w.fault]
    out = {"AUC-PR": _auc_pr(np.array(at_most), quiet)}
    windows_per_day = 86_400 / (FAULT_ROWS * STEP_SECONDS)
    for budget in BUDGETS:
        limit = threshold_for(learned, budget / windows_per_day * len(learned))
        found = _found(rows, test, limit)
        name = f"{budget:g}/day"
        out[f"recall@{name}"] = float(np.mean([delay is not None for delay in found]))
        late = [delay for delay in found if delay is not None]
        out[f"delay_s@{name}"] = float(np.median(late)) if late else float("nan")
        out[f"false_per_day@{name}"] = float((quiet >= limit).mean()) * windows_per_day
    return _known({name: round(value, 4) for name, value in out.items()})


def _known(scores: dict[str, float]) -> dict[str, float]:
    """Without what is not defined (the delay where nothing was found): the report is JSON, which has no NaN."""
    return {name: value for name, value in scores.items() if np.isfinite(value)}


def _recorded(day: Sequence[Watched], ways: Mapping[str, Score]) -> dict[str, dict[str, float]]:
    """A recorded day sets its own threshold, on its ordinary rows: there is no other. Of a single modality there is
    nothing to fuse."""
    out = {}
    is_alone = sum(bool(np.isfinite(scores).any()) for scores in day[0].alone.values()) < 2
    for name, score in ways.items():
        if is_alone and name.startswith(("early", "late", "attention")):
            continue
        rows = [score(w) for w in day]
        if not np.isfinite(np.concatenate(rows)).any():  # nobody measured that
            continue
        one = day[0]  # the ordinary rows are the same for all faults of a day
        usual = rows[0][one.quiet()]
        usual = usual[np.isfinite(usual)]
        if not len(usual):
            continue
        limit = threshold_for(usual, RECORDED_BUDGET * len(usual))
        found = _found(rows, day, limit)
        late = [d for d in found if d is not None]
        during = np.concatenate([r[w.begin:w.end] for r, w in zip(rows, day, strict=True)])
        out[name] = _known({"AUC-PR": round(_auc_pr(during[np.isfinite(during)], usual), 4),
                     "recall": round(float(np.mean([d is not None for d in found])), 4),
                     "delay_s": round(float(np.median(late)), 1) if late else float("nan"),
                     "false_share": round(float((usual >= limit).mean()), 4), "quiet_rows": float(len(usual))})
    return out


def threshold_for(windows: Floats, allowed: float) -> float:
    """The lowest score that at most `allowed` of these windows reach."""
    ordered = np.sort(windows)[::-1]
    if allowed >= len(ordered):
        return float(ordered[-1])
    return float(np.nextafter(ordered[int(allowed)], np.inf))


def quiet_windows(rows: Sequence[Floats], watched: Sequence[Watched]) -> Floats:
    """The highest score of each half hour of ordinary rows: an alarm that lasts is a false one in every half hour."""
    out: list[float] = []
    for row, w in zip(rows, watched, strict=True):
        keep = np.flatnonzero(w.quiet() & np.isfinite(row))
        block = (keep - w.first) // FAULT_ROWS
        out += [float(row[keep[block == k]].max()) for k in np.unique(block)]
    return np.array(out)


def _found(rows: Sequence[Floats], watched: Sequence[Watched], limit: float) -> list[float | None]:
    """Seconds from the start of each fault to the end of the first row at or above the threshold; None: not found."""
    out: list[float | None] = []
    for row, w in zip(rows, watched, strict=True):
        if w.fault:
            hit = np.flatnonzero(np.nan_to_num(row[w.begin:w.end], nan=-np.inf) >= limit)
            out.append(float(hit[0] + 1) * w.step_seconds if len(hit) else None)
    return out


def _auc_pr(faults: Floats, quiet: Floats) -> float:
    """Of windows by their highest scores."""
    from sklearn.metrics import average_precision_score

    return float(average_precision_score(np.concatenate([np.ones(len(faults)), np.zeros(len(quiet))]),
                                         np.concatenate([faults, quiet])))
