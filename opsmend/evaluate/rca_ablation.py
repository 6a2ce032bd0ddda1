"""Does it pay to look at metrics, logs and traces together? Root cause from each alone, and from ways to join them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from opsmend.evaluate.rca_alert_cases import LabelledAlerts, alert_folders, read_alert_cases
from opsmend.evaluate.rca_cases import CaseError, read_split
from opsmend.evaluate.rca_clock import check_clock, find_onset, split_at
from opsmend.evaluate.rca_scores import MISS, floor_scores, summary, tied_scores
from rootcause.alerts.case import AlertCase
from rootcause.alerts.history import history_of
from rootcause.alerts.rankers import ZeroShotAlerts
from rootcause.rankers.registry import RANKERS
from rootcause.stage import RootCauseConfig
from rootcause.types import CaseWindow, Ranker

Floats = NDArray[np.float64]
MODALITIES: Final = ("metrics", "logs", "traces")
ALIGN_SECONDS: Final = 60.0
"""Lines and spans are put into the row of metrics of the same minute: that far apart is still the same moment."""
EARLY, LATE, LEARNED, FLOOR = "early (opsmend)", "late (votes)", "attention (learned)", "random"
_LOGS: Final = frozenset({"logs", "error_lines", "templates"})
_TRACES: Final = frozenset({"spans", "pattern", "network", "self_time"})
_ALERT_OF: Final = {"metrics": "metric", "logs": "log", "traces": "trace"}
_FOLDS: Final = 5
_STEPS: Final = 300
_RATE: Final = 0.5


@dataclass(frozen=True)
class _Seen:
    """One case through each pair of eyes: probabilities [n] of its candidates, None where a modality has nothing."""

    system: str
    root: int
    early: Floats
    alone: Mapping[str, Floats | None]
    fault: str = ""

    def votes(self) -> tuple[Floats, NDArray[np.bool_]]:
        """([3, n], [3] who has a say)."""
        said = [self.alone[m] for m in MODALITIES]
        return (np.stack([np.zeros_like(self.early) if p is None else p for p in said]),
                np.array([p is not None for p in said]))


def evaluate_rca_ablation(data: Path, *, split: str = "", clock: str = "known", seed: int = 0) -> dict[str, Any]:
    """The report of `opsmend eval rca --ablation`: fusions for methods, per system and (`faults`) per kind of fault.

    "metrics", "logs", "traces": the shipped ranker with every other modality taken away. "early": all in one feature
    space, which is what ships. "late": the probabilities of the three added up. "attention": the same with softmax
    weights per modality, learned on the other folds of the same system's cases (five-fold; nothing else here has seen
    a label). A modality that a case lacks has no vote; with none left, the candidates are equal. Series and alert-level
    sets are recognised by their files. Raises CaseError where there is no case, ConfigError for an unknown clock.
    """
    seen: list[_Seen] = []
    failures: list[str] = []
    lost: list[str] = []
    check_clock(clock)
    has_alerts = bool(alert_folders(data))
    if has_alerts:
        alerts, failures, _ = read_alert_cases(data)
        lost += ["alerts"] * len(failures)
        seen += _through_alerts([c for c in alerts if not split or (c.split == "test") == (split == "test")])
    if any(data.rglob("metrics.csv")) or not has_alerts:
        ranker = RANKERS[RootCauseConfig().ranker]()
        cases, failed, unread = read_split(data, split, clock)
        failures += failed
        lost += unread
        for case in cases:
            window = split_at(case.window, find_onset(case.window)) if clock == "detected" else case.window
            seen.append(replace(_through_series(window, case.system, case.root, ranker), fault=case.fault))
    if not seen and not failures:
        raise CaseError(f"{data}: no case in the split '{split}'")
    rows = _rows(seen)
    return {"what": "rca ablation", "data": str(data), "split": split or "all", "clock": clock, "seed": seed,
            "align_seconds": ALIGN_SECONDS, "cases": len(seen) + len(failures), "failed": len(failures),
            "failures": failures, "groups": _grouped([s.system for s in seen], rows, seed),
            "weights": _mean_weights(seen),
            "faults": _grouped([s.fault for s in seen], rows, seed),
            "methods": {name: summary([*r, *([MISS] * len(lost))], seed) for name, r in rows.items()}}


def _grouped(names: Sequence[str], rows: Mapping[str, Sequence[Floats]], seed: int) -> dict[str, dict[str, Any]]:
    out = {}
    for name in sorted(set(names)):
        at = [i for i, other in enumerate(names) if other == name]
        out[name] = {"cases": {"n": float(len(at))}} | {method: summary([r[i] for i in at], seed) for method, r in rows.items()}
    return out


def only(window: CaseWindow, modality: str) -> CaseWindow | None:
    """The window with the indicators of one modality; None where nothing of it was recorded."""
    def is_of(name: str) -> bool:
        return (name in _LOGS if modality == "logs" else name in _TRACES if modality == "traces"
                else name not in _LOGS | _TRACES)

    node = {k: v for k, v in window.node_metrics.items() if is_of(k)}
    edge = {k: v for k, v in window.edge_metrics.items() if is_of(k)}
    if not any(np.isfinite(v).any() for v in (*node.values(), *edge.values())):
        return None
    return replace(window, node_metrics=node, edge_metrics=edge, signals=())


def _through_series(window: CaseWindow, system: str, root: str, ranker: Ranker) -> _Seen:
    parts = {m: only(window, m) for m in MODALITIES}
    return _Seen(system, window.services.index(root), ranker.rank(window).scores,
                 {m: None if part is None else _share(ranker.rank(part).scores) for m, part in parts.items()})


def _share(scores: Floats) -> Floats:
    """Among the candidates: "none of these" does not vote."""
    out: Floats = scores / max(float(scores.sum()), 1e-12)
    return out


def _through_alerts(cases: Sequence[LabelledAlerts]) -> list[_Seen]:
    """Zero-shot over the alerts of one modality, its history being those of the system's other incidents."""
    systems: dict[str, list[LabelledAlerts]] = defaultdict(list)
    for case in cases:
        systems[case.system].append(case)
    out = []
    for system, members in sorted(systems.items()):
        by = {name: _zero_shot([_part(c.case, kind) for c in members])
              for name, kind in (("early", ""), *_ALERT_OF.items())}
        out += [_Seen(system, case.root_index, by["early"][i],
                      {m: by[m][i] if _part(case.case, kind).alerts else None for m, kind in _ALERT_OF.items()}, case.fault)
                for i, case in enumerate(members)]
    return out


def _part(case: AlertCase, kind: str) -> AlertCase:
    return replace(case, alerts=tuple(a for a in case.alerts if kind in ("", a.modality)))


def _zero_shot(cases: Sequence[AlertCase]) -> list[Floats]:
    history, ranker = history_of(cases), ZeroShotAlerts()
    out = []
    for case in cases:
        with history.without(case):
            out.append(ranker.rank(case, history))
    return out


def _rows(seen: Sequence[_Seen]) -> dict[str, list[Floats]]:
    """method -> scores of each case; ties against us."""
    learned = _learned(seen)
    methods: dict[str, list[Floats]] = {m: [] for m in (*MODALITIES, EARLY, LATE, LEARNED, FLOOR)}
    for case, weights in zip(seen, learned, strict=True):
        equal = np.zeros_like(case.early)
        for m in MODALITIES:
            alone = case.alone[m]
            methods[m].append(tied_scores(equal if alone is None else alone, case.root, is_ours=True))
        votes, has = case.votes()
        methods[EARLY].append(tied_scores(case.early, case.root, is_ours=True))
        methods[LATE].append(tied_scores(votes.sum(axis=0), case.root, is_ours=True))
        methods[LEARNED].append(tied_scores((weights * has) @ votes, case.root, is_ours=True))
        methods[FLOOR].append(floor_scores(len(case.early)))
    return methods


def _learned(seen: Sequence[_Seen]) -> list[Floats]:
    """[3] weights for each case, from the other folds of its system."""
    out = [np.full(3, 1 / 3)] * len(seen)
    for system in {s.system for s in seen}:
        at = np.array([i for i, s in enumerate(seen) if s.system == system])
        shuffled = np.random.default_rng(0).permutation(at)
        for fold in range(_FOLDS):
            left_out = set(shuffled[fold::_FOLDS].tolist())
            weights = attention([seen[i] for i in at.tolist() if i not in left_out])
            for i in left_out:
                out[i] = weights
    return out


def _mean_weights(seen: Sequence[_Seen]) -> dict[str, list[float]]:
    return {system: [round(float(w), 3) for w in attention([s for s in seen if s.system == system])]
            for system in sorted({s.system for s in seen})}


def attention(cases: Sequence[_Seen]) -> Floats:
    """[3] softmax weights of the modalities with a small log loss of the root, by gradient descent; deterministic.
    Equal for no case."""
    told_of = [(votes[:, case.root], has) for case in cases for votes, has in (case.votes(),) if has.any()]
    logits = np.zeros(3)
    if not told_of:
        return np.full(3, 1 / 3)
    p = np.clip(np.stack([votes for votes, _ in told_of], axis=1), 1e-3, 1.0)  # [3, cases]
    has = np.stack([has for _, has in told_of], axis=1).astype(np.float64)
    for _ in range(_STEPS):
        raw = np.exp(logits)[:, None] * has
        share = raw / np.maximum(raw.sum(axis=0), 1e-9)
        mixed = (share * p).sum(axis=0)
        logits += _RATE * (share * (p - mixed) / mixed).mean(axis=1)
    weights: Floats = np.exp(logits - logits.max())
    weights /= weights.sum()
    return weights
