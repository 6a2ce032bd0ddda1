"""What fine-tuning on recorded incidents brings, whatever the contest says of it.

    python bench/rootcause_tuning.py DIR [--test]

Without `--test` every root of DIR is left out in turn (and, below it, every incident). With it the cases not marked `test`
are tuned on and those marked so are scored, once.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path

import torch

sys.path[0] = str(Path(__file__).resolve().parent.parent)  # or bench/ingest.py would be taken for the package of its name

from opsmend.confirmed import of_case
from opsmend.evaluate.rca_cases import read_split
from rootcause.rankers.gnn import load_weights
from rootcause.tune import Confirmed, TuneConfig, load_members, log_probabilities, simulated, tune, views
from rootcause.tune_contest import ContestConfig, case_scores, cross_validated


def incidents_of(data: Path, split: str) -> list[Confirmed]:
    cases, failures, _ = read_split(data, split, "known")
    if failures:
        raise SystemExit("\n".join(failures))
    return [one for case in cases for one in of_case(case)]


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("data", type=Path)
    arguments.add_argument("--test", action="store_true", help="score the cases marked test, tune on the others")
    arguments.add_argument("--seed", type=int, default=0)
    a = arguments.parse_args()
    torch.set_num_threads(1)
    members, weights, c, k = load_members(), load_weights(), TuneConfig(), ContestConfig()
    replay = views(members, simulated(a.seed, k.replay, 21))
    train = incidents_of(a.data, "dev" if a.test else "")
    seen = views(members, train)
    if a.test:
        held = incidents_of(a.data, "test")
        unseen = views(members, held)
        tell("shipped", case_scores(held, log_probabilities(members, unseen), weights)[0])
        tell("tuned", case_scores(held, log_probabilities(tune(members, seen, replay, c, a.seed), unseen), weights)[0])
        return
    tell("shipped", case_scores(train, log_probabilities(members, seen), weights)[0])
    out = cross_validated(members, seen, train, replay, c, k, a.seed)
    tell("tuned, roots left out", case_scores(train, out, weights)[0])
    alone = [replace(one, group=f"{n}") for n, one in enumerate(train)]
    out = cross_validated(members, seen, alone, replay, c, k, a.seed)
    tell("tuned, incidents left out, ten folds", case_scores(train, out, weights)[0])


def tell(what: str, scores: dict[str, float]) -> None:
    print(what, json.dumps(scores), flush=True)


if __name__ == "__main__":
    main()
