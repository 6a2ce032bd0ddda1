"""`opsmend eval breach`: the early warning of the service, and what people use today, on labelled series."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, Final

from detect.breach.models import MODELS_DIR, fold_of, load_models
from detect.breach.predictor import foretell
from detect.breach.scoring import Tally, Told, by_kind, judge, summary
from detect.breach.series import Recorded
from opsmend.evaluate.breach_baselines import BASELINES
from opsmend.evaluate.breach_data import BreachDataError, read_meta, read_series
from opsmend.evaluate.breach_unseen import UNSEEN, make_unseen

OURS: Final = "opsmend"


def _ours(series: Recorded) -> Told:
    """By the shipped models; for a series that they have learned from, by those that have not."""
    return foretell(series, load_models(fold=fold_of(series)))


METHODS: Final[dict[str, Callable[[Recorded], Told]]] = {OURS: _ours, **BASELINES}
_WORKERS: Final = 2
RECORDED_LEAKS: Final = Path(__file__).parent / "recorded_leaks"
"""An hour of the fault lab by `bench/record_leaks.py`: slow leaks of memory and connections, and what stayed well."""

Job = tuple[str, Any]
Scored = tuple[str, bool, dict[str, Tally]]


def evaluate_breach(data: Path | None, *, show_progress: bool = False, seed: int = 7) -> dict[str, Any]:
    """The report. `data`: a folder with `meta.json` and `<id>.csv`; None: made series of kinds and ranges that the
    models have not seen (`seed`), and leaks recorded in the lab. Series that can't be read are counted as failed and
    named. Raises BreachDataError where there is no series at all. `scored_out_of_fold`: how many series the shipped
    models have learned from, and were therefore judged by models that have not."""
    if data is None:
        jobs: list[Job] = [("", (kind, k, seed)) for kind in UNSEEN for k in range(UNSEEN[kind])]
        jobs += [(str(RECORDED_LEAKS), entry) for entry in read_meta(RECORDED_LEAKS)]
    else:
        jobs = [(str(data), entry) for entry in read_meta(data)]
    failures: list[str] = []
    n_out_of_fold = 0
    tallies: dict[str, list[Tally]] = {name: [] for name in METHODS}
    for failure, is_out_of_fold, scored in _progress(jobs, show_progress):
        if failure:
            failures.append(failure)
        n_out_of_fold += is_out_of_fold
        for name, tally in scored.items():
            tallies[name].append(tally)
    kinds = {name: by_kind(some) for name, some in tallies.items()}
    groups = {kind: {"cases": {"n": scores["series"]}} | {name: kinds[name][kind] for name in METHODS}
              for kind, scores in kinds[OURS].items()}
    card = (MODELS_DIR / "breach.json").read_text()
    source = str(data) if data else f"made, unseen kinds (seed {seed}), and recorded in the lab"
    return {"what": "breach", "data": source, "cases": len(jobs), "failed": len(failures), "failures": failures, "seed": seed,
            "config_hash": hashlib.sha256(json.dumps([list(METHODS), card]).encode()).hexdigest()[:12],
            "model": json.loads(card)["version"], "model_saw_this_data": False,
            "scored_out_of_fold": n_out_of_fold,
            "methods": {name: summary(some) for name, some in tallies.items()}, "groups": groups}


def _progress(jobs: Sequence[Job], show: bool) -> Iterator[Scored]:
    from rich.console import Console
    from rich.progress import track

    with ProcessPoolExecutor(_WORKERS) as pool:
        yield from track(pool.map(score_one, jobs, chunksize=4), "series", len(jobs), console=Console(stderr=True),
                         disable=not show)


def score_one(job: Job) -> Scored:
    """(failure or "", whether the shipped models have learned from it, verdicts by method) of one series; runs in a
    process of its own."""
    folder, what = job
    try:
        series = read_series(Path(folder), what) if folder else make_unseen(*what)
        return "", fold_of(series) is not None, {name: judge(series.truth, method(series)) for name, method in METHODS.items()}
    except BreachDataError as error:
        return str(error), False, {}
