"""Making the early-warning models: `opsmend train breach`. Two cores, some minutes."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from detect.breach.episode import Policy
from detect.breach.features import BEST_ETA, BEST_SURE, FEATURES, N_COLUMNS, N_FEATURES, run
from detect.breach.memory import new_state
from detect.breach.models import LEAST_SURE, MODELS_DIR, QUANTILES, BreachModels, write_models
from detect.breach.scoring import LEAST_LEAD, by_kind, judge, summary
from detect.breach.series import Recorded
from detect.breach.synthetic.make import make_series
from detect.breach.trees import Trees, from_sklearn

T = TypeVar("T")

VERSION: Final = 3
POLICY: Final = Policy()
_EVERY = 6
"""Minutes between two rows of a training series."""
_BREACHING = 0.5


@dataclass
class Table:
    """Rows to learn from. `label`: 1 a ramp into the limit, 0 none, -1 not to be learned from."""

    rows: NDArray[np.float32]  # [n, N_COLUMNS]
    label: NDArray[np.int8]  # [n]
    left: NDArray[np.float64]  # [n] minutes to the crossing, NaN: none
    weight: NDArray[np.float64]  # [n]


def labels(series: Recorded, at: NDArray[np.float64]) -> tuple[NDArray[np.int8], NDArray[np.float64]]:
    """(label, minutes left) at the times `at`. Ramps that are cancelled or out of scope teach nothing."""
    truth = series.truth
    label, left = np.zeros(len(at), np.int8), np.full(len(at), np.nan)
    for e in truth.episodes:
        inside = (at >= e.onset) & (at <= e.end)
        if e.cancelled or not truth.in_scope:
            label[inside] = -1
        else:
            left[inside] = (e.crossing - at[inside]) / 60
            label[inside] = np.where(e.crossing - at[inside] >= LEAST_LEAD, 1, -1)
    over = at >= truth.end
    label[over], left[over] = -1, np.nan
    return label, left


def rows_of(series: Recorded, every: int = _EVERY) -> Table:
    """The rows of one series at which something rises; together they weigh the root of their number."""
    n = len(series.ticks)
    rows, there = np.full((n, N_COLUMNS), np.nan), np.zeros(n, np.bool_)
    run(new_state(), series.ticks, series.values, series.spreads, series.limit, series.size, rows, there, every)
    there &= (rows[:, BEST_SURE] >= LEAST_SURE) & (rows[:, BEST_ETA] < 10.0)
    label, left = labels(series, series.at[there])
    weight = np.full(len(label), 1.0 / np.sqrt(max(1, int((label >= 0).sum()))))
    return Table(rows[there].astype(np.float32), label, left, weight)


def joined(tables: Sequence[Table]) -> Table:
    return Table(*(np.concatenate([getattr(t, f) for t in tables]) for f in ("rows", "label", "left", "weight")))


def fit(table: Table, *, seed: int = 0, policy: Policy = POLICY, version: str = "", workers: int = 2) -> BreachModels:
    """Gate and quantiles; the interval is not widened yet."""
    ramp = np.isfinite(table.left) & (table.left > 0)
    target = np.log(np.maximum(table.left[ramp], 0.5)) - table.rows[ramp, BEST_ETA]
    with ProcessPoolExecutor(workers) as pool:
        gate = pool.submit(fit_gate, table, seed)
        quantiles = [pool.submit(_fit_quantile, q, table.rows[ramp], target, table.weight[ramp], seed) for q in QUANTILES]
        return BreachModels(gate.result(), tuple(q.result() for q in quantiles), (0.0, 0.0), policy, version)


def fit_gate(table: Table, seed: int, rounds: int = 180, bins: int = 255) -> Trees:
    """The gate alone. `bins` of each feature: the library looks for their bounds one by one, which takes seconds."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    judged = table.label >= 0
    return _grown(HistGradientBoostingClassifier(
        max_iter=rounds, learning_rate=0.11, max_leaf_nodes=24, max_bins=bins, min_samples_leaf=200, l2_regularization=5.0,
        max_features=0.5, early_stopping=False, random_state=seed), table.rows[judged], table.label[judged],
        table.weight[judged])


def fit_middle(table: Table, seed: int, bins: int = 255) -> Trees:
    """The median of the time that is left, from fewer rows than the made series give."""
    from sklearn.ensemble import HistGradientBoostingRegressor

    ramp = np.isfinite(table.left) & (table.left > 0)
    target = np.log(np.maximum(table.left[ramp], 0.5)) - table.rows[ramp, BEST_ETA]
    return _grown(HistGradientBoostingRegressor(
        loss="quantile", quantile=0.5, max_iter=40, learning_rate=0.15, max_leaf_nodes=12, min_samples_leaf=60,
        max_bins=bins, max_features=0.4, early_stopping=False, random_state=seed), table.rows[ramp], target, table.weight[ramp])


def _fit_quantile(q: float, rows: NDArray[np.float32], target: NDArray[np.float64], weight: NDArray[np.float64],
                  seed: int) -> Trees:
    from sklearn.ensemble import HistGradientBoostingRegressor

    return _grown(HistGradientBoostingRegressor(
        loss="quantile", quantile=q, max_iter=70, learning_rate=0.15, max_leaf_nodes=16, min_samples_leaf=200,
        max_features=0.5, early_stopping=False, random_state=seed), rows, target, weight)


def _grown(model: Any, rows: NDArray[np.float32], target: NDArray[Any], weight: NDArray[np.float64]) -> Trees:
    """Fitted on one thread: where the cores are shared, OpenMP's threads wait for each other most of the time."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):
        return from_sklearn(model.fit(rows[:, :N_FEATURES], target, sample_weight=weight))


def widening(models: BreachModels, table: Table) -> tuple[float, float]:
    """How far out each end has to go for 5 % of held-back rows to lie beyond it (never inwards)."""
    ramp = np.isfinite(table.left) & (table.left > 0)
    told = np.log(models.judge(table.rows[ramp].astype(np.float64)).ticks)
    truth = np.log(np.maximum(table.left[ramp], 0.5))
    there = np.isfinite(told[:, 0])
    order_weight = table.weight[ramp][there]
    return (max(0.0, _weighted_quantile((told[:, 0] - truth)[there], order_weight, 1 - QUANTILES[0])),
            max(0.0, _weighted_quantile((truth - told[:, 2])[there], order_weight, QUANTILES[2])))


def _weighted_quantile(values: NDArray[np.float64], weight: NDArray[np.float64], q: float) -> float:
    order = np.argsort(values)
    total = np.cumsum(weight[order])
    return float(values[order][min(len(values) - 1, int(np.searchsorted(total, q * total[-1])))])


def made(number: tuple[int, int, int]) -> Recorded:
    """A made series by (seed, stream, number); half of them breach."""
    return make_series(np.random.default_rng(list(number)), "-".join(map(str, number)),
                       breaching=number[2] % 100 < 100 * _BREACHING)


def made_rows(number: tuple[int, int, int]) -> Table:
    """Its rows."""
    return rows_of(made(number))


def each(what: Callable[[tuple[int, int, int]], T], n: int, seed: int, stream: int, title: str, *,
         progress: bool) -> list[T]:
    """`what` of the first `n` made series of a stream, in two processes."""
    from rich.console import Console
    from rich.progress import track

    with ProcessPoolExecutor(2) as pool:
        done = pool.map(what, [(seed, stream, k) for k in range(n)], chunksize=8)
        return list(track(done, title, n, console=Console(stderr=True), disable=not progress))


def scores(models: BreachModels, series: Sequence[Recorded]) -> dict[str, Any]:
    """`metrics` and `metrics_by_kind` of a card."""
    from detect.breach.predictor import foretell

    tallies = [judge(s.truth, foretell(s, models)) for s in series]
    return {"metrics": summary(tallies),
            "metrics_by_kind": {k: v for k, v in by_kind(tallies).items() if v["series"] >= 5}}


def train_breach(out: Path = MODELS_DIR, *, seed: int = 0, progress: bool = True, series: int = 4600,
                 check: int = 400) -> dict[str, Any]:
    """Make series, learn, score on other made series, write `breach.safetensors` and its card; returns the card.
    What was learned from recorded series is gone then (`detect.breach.recorded.learn` makes it anew)."""
    began = time.perf_counter()
    tables = each(made_rows, series, seed, 1, "training series", progress=progress)
    models = fit(joined(tables), seed=seed, version=f"breach-{VERSION}-{seed}")
    held = each(made_rows, check, seed, 2, "series for the width", progress=progress)
    models = replace(models, widen=widening(models, joined(held)))
    card: dict[str, Any] = {
        "model": "breach", "version": models.version, "data": "made series (detect/breach/synthetic)", "seed": seed,
        "series": series, "rows": int(sum(len(t.rows) for t in tables)), "quantiles": QUANTILES, "widen": models.widen,
        "policy": asdict(models.policy),
        **scores(models, each(made, check, seed, 3, "series to score", progress=progress)),
        "features": FEATURES, "seconds": round(time.perf_counter() - began)}
    write_models(models, out, card)
    return card
