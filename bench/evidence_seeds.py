"""The evidence on many labelled sets of our own making: `python bench/evidence_seeds.py [--seeds 7,101,102]`.

One set of 36 series says little (another seed moves NAB by some 4 points): who changes a constant of detect/evidence
compares the mean over seeds before and after, and keeps some seeds for the end.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

sys.path[0] = str(Path(__file__).resolve().parent.parent)

from opsmend.evaluate.series_made import made_series
from opsmend.evaluate.series_run import all_answers
from opsmend.evaluate.series_scores import Composite, NabScorer, probation
from opsmend.evaluate.series_volume import vus_pr

SEEDS = "7,101,102,103,104,105,106"


def scores(seed: int) -> list[float]:
    """NAB, its low-FP profile, Fc1 (all at the operating threshold), VUS-PR."""
    series = made_series(seed)
    _, answer = next(all_answers(series))
    if answer is None:
        raise SystemExit("nothing to score")
    nab, composite = NabScorer(series), Composite(series)
    onset, state = np.concatenate(answer.onsets), np.concatenate(answer.states)
    begins = [probation(len(s.values)) for s in series]
    volumes = [vus_pr(x[b:], s.labels[b:]) for x, s, b in zip(answer.states, series, begins, strict=True)]
    return [nab.score(onset >= answer.page), nab.score(onset >= answer.page, "low_FP"),
            composite.score(state >= answer.flag), float(np.nanmean(volumes))]


def main() -> None:
    """Print a row a seed, then the mean and its standard error."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", default=SEEDS)
    seeds = [int(part) for part in parser.parse_args().seeds.split(",")]
    table = []
    print("seed    NAB  low FP    Fc1  VUS-PR")
    for seed in seeds:
        table.append(scores(seed))
        print(f"{seed:4}  {table[-1][0]:5.1f}   {table[-1][1]:5.1f}  {table[-1][2]:5.3f}   {table[-1][3]:5.3f}", flush=True)
    mean, error = np.mean(table, axis=0), np.std(table, axis=0, ddof=min(1, len(table) - 1)) / np.sqrt(len(table))
    print(f"mean  {mean[0]:5.1f}   {mean[1]:5.1f}  {mean[2]:5.3f}   {mean[3]:5.3f}")
    print(f"  +-  {error[0]:5.1f}   {error[1]:5.1f}  {error[2]:5.3f}   {error[3]:5.3f}")


if __name__ == "__main__":
    main()
