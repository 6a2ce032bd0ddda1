"""What fine-tuning on recorded incidents brings, whatever the contest says of it.

    python bench/rootcause_tuning.py DIR [--test | --adapt]

Without `--test` every root of DIR is left out in turn (and, below it, every incident). With it the cases not marked `test`
are tuned on and those marked so are scored, once. With `--adapt` what is tuned on are faults injected into the calm windows
of DIR, and what is scored are its incidents.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import torch

sys.path[0] = str(Path(__file__).resolve().parent.parent)  # or bench/ingest.py would be taken for the package of its name

from opsmend.calm import recorded_calm
from opsmend.confirmed import of_case
from opsmend.evaluate.rca_cases import read_split
from rootcause.adapt import adapt
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
    arguments.add_argument("--adapt", action="store_true", help="tune on injected faults")
    arguments.add_argument("--seed", type=int, default=0)
    a = arguments.parse_args()
    torch.set_num_threads(1)
    if a.adapt:
        adapted(a.data, a.seed)
        return
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


def adapted(data: Path, seed: int) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        always = ContestConfig(sure=0.0, forgetting=1.0, abstention=1.0)
        card = adapt(recorded_calm(data), Path(scratch), data=str(data), seed=seed, contest=always)
        print("contest", json.dumps(card["contest"]), flush=True)
        for split in ("dev", "test"):
            cases = incidents_of(data, split)
            if cases:
                members = load_members()
                seen, weights = views(members, cases), load_weights()
                tell(f"{split}: shipped", case_scores(cases, log_probabilities(members, seen), weights)[0])
                if card["kept"]:
                    tuned = load_members(Path(scratch))
                    tell(f"{split}: adapted", case_scores(cases, log_probabilities(tuned, seen), weights)[0])


def tell(what: str, scores: dict[str, float]) -> None:
    print(what, json.dumps(scores), flush=True)


if __name__ == "__main__":
    main()
