"""Learning from recorded series with labels beside the made ones: `opsmend train breach --data DIR`.

In folds, by series: for each fold there is a part that has not seen it, so that `opsmend eval breach` can score every
series with models that have not learned from it. The shipped ones have seen them all. Beside each series the gates learn
from the same one in another shape (`varied`): without these they take every ramp that begins with the record for a
healthy one, as it is in most sets. The ends of the interval are those of the made series alone.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from detect.breach.models import (
    MODELS_DIR,
    BreachModelError,
    FromRecorded,
    from_parts,
    read_card,
    tensors,
    write_recorded,
)
from detect.breach.scoring import judge, summary
from detect.breach.series import Recorded, fingerprint
from detect.breach.train import POLICY, VERSION, Table, each, fit_gate, fit_middle, joined, made, rows_of, scores
from detect.breach.varied import varied

FOLDS: Final = 5
EVERY: Final = 6
"""Minutes between two rows of a recorded series."""
VARIANTS: Final = 1
"""Other shapes of each series; together they weigh as much as one series."""


def folds_of(series: Sequence[Recorded]) -> list[int]:
    """A fold for each series: each kind's are dealt out in turn."""
    dealt: Counter[str] = Counter()
    out = []
    for one in series:
        out.append(dealt[one.truth.kind] % FOLDS)
        dealt[one.truth.kind] += 1
    return out


def _fit(own: Sequence[Table], other: Sequence[Table], seed: int, rounds: int, bins: int) -> FromRecorded:
    """`own`: rows of the series as they are; `other`: of the varied ones, for the gate alone."""
    return FromRecorded(fit_gate(joined([*own, *other]), seed, rounds, bins), fit_middle(joined(own), seed, bins))


def learn(series: Sequence[Recorded], name: str, out: Path = MODELS_DIR, *, seed: int = 0, progress: bool = True,
          check: int = 400, rounds: int = 180, bins: int = 64) -> dict[str, Any]:
    """Add a gate and a median learned from recorded series to the models in `out`, which were made before
    (`train_breach`), and write them with their card, which says by fingerprint what was seen; returns the card. `name`:
    of the data, for the card; `rounds`: trees of a gate; `bins`: of a feature; `check`: made series to score. Raises
    BreachModelError where there are no models, or no kind with a series for each fold."""
    from rich.console import Console
    from rich.progress import track

    from detect.breach.predictor import foretell

    began = time.perf_counter()
    arrays, card = tensors(out), read_card(out)
    folds = folds_of(series)
    if len(set(folds)) < FOLDS:
        raise BreachModelError(f"to learn from recorded series, at least {FOLDS} of one kind are needed")
    tables, others = [], []
    for k, one in enumerate(track(series, "recorded series", console=Console(stderr=True), disable=not progress)):
        tables.append(rows_of(one, EVERY))
        shapes = [rows_of(varied(one, np.random.default_rng([seed + 1, k, n])), EVERY) for n in range(VARIANTS)]
        others.append(replace(joined(shapes), weight=joined(shapes).weight / VARIANTS))
    parts = [_fit([t for t, fold in zip(tables, folds, strict=True) if fold != held],
                  [t for t, fold in zip(others, folds, strict=True) if fold != held], seed, rounds, bins)
             for held in track([*range(FOLDS), None], "folds, and all", console=Console(stderr=True),
                               disable=not progress)]
    card |= {"version": f"breach-{VERSION}-{card['seed']}-r{seed}", "policy": asdict(POLICY), "recorded": {
        "data": name, "seed": seed, "series": len(series), "rows": int(sum(len(t.rows) for t in tables)),
        "varied_rows": int(sum(len(t.rows) for t in others)),
        "folds": {fingerprint(s): fold for s, fold in zip(series, folds, strict=True)}}}
    unseen = [from_parts(arrays, card, part) for part in parts]
    card["recorded"]["metrics_out_of_fold"] = summary(
        [judge(s.truth, foretell(s, unseen[fold])) for s, fold in zip(series, folds, strict=True)])
    card |= scores(unseen[-1], each(made, check, int(card["seed"]), 3, "series to score", progress=progress))
    card["recorded"]["seconds"] = round(time.perf_counter() - began)
    write_recorded(parts[-1], parts[:-1], out, card)
    return card
