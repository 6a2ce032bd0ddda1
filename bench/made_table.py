"""`python bench/made_table.py [--seed 5] [--kinds small canary large load second_day] [--systems 6] [--cases 16]`.

Makes systems (`made_cases.py`) and prints AC@1 / AC@3 / Avg@5 of every ranker on them, clock known and detected, as a table
for the docs; then AC@1 by kind of fault. The same cases and scores as `opsmend eval rca`, without what else that measures.
A quarter of an hour on one core.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np

sys.path[0] = str(Path(__file__).resolve().parent.parent)  # or bench/ingest.py would be taken for the package of its name

from opsmend.evaluate.rca_cases import RecordedCase, read_split
from opsmend.evaluate.rca_clock import CLOCKS, find_onset, split_at
from opsmend.evaluate.rca_scores import floor_scores, tied_scores
from rootcause.rankers.registry import RANKERS, ranker_of
from rootcause.stage import RootCauseConfig

_KINDS = ("small", "canary", "large", "load", "second_day")
_FIRST, _THIRD, _MEAN = 0, 1, 2  # of a row of scores: AC@1, AC@3, Avg@5


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, default=5)
    parser.add_argument("--kinds", nargs="+", choices=_KINDS, default=_KINDS)
    parser.add_argument("--systems", type=int, default=6)
    parser.add_argument("--cases", type=int, default=16)
    args = parser.parse_args()
    cells: dict[str, list[str]] = defaultdict(list)
    by_fault: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        for kind in args.kinds:
            out = Path(folder) / kind
            subprocess.run([sys.executable, str(Path(__file__).with_name("made_cases.py")), "--out", str(out), "--kind", kind,
                            *(f"--{name}={getattr(args, name)}" for name in ("seed", "systems", "cases"))], check=True)
            for clock in CLOCKS:
                cases, failures, _ = read_split(out, "", clock)
                if failures:
                    sys.exit(f"{kind}: {failures[0]}")
                if clock == "detected":
                    cases = [replace(case, window=split_at(case.window, find_onset(case.window))) for case in cases]
                scores = scores_of(cases)
                for name, rows in scores.items():
                    mean = rows.mean(axis=0)
                    cells[name].append(f"{mean[_FIRST]:.2f} / {mean[_THIRD]:.2f} / {mean[_MEAN]:.2f}")
                if clock == "known":
                    for fault in sorted({case.fault for case in cases}):
                        of = [k for k, case in enumerate(cases) if case.fault == fault]
                        ranked = sorted(((float(rows[of, _FIRST].mean()), name) for name, rows in scores.items()), reverse=True)
                        ours = next(value for value, name in ranked if name == "opsmend")
                        best = next((value, name) for value, name in ranked if name not in ("opsmend", "gnn"))
                        by_fault.append(f"| {kind}: {fault} | {len(of)} | {ours:.2f} | {best[0]:.2f} {best[1]} |")
                print(f"{kind}, {clock}: {len(cases)} cases", file=sys.stderr)
    heads = [f"{kind}, {clock}" for kind in args.kinds for clock in CLOCKS]
    print("| | " + " | ".join(heads) + " |\n|" + "---|" * (len(heads) + 1))
    for name, row in cells.items():
        print(f"| {f'**{name}**' if name == 'opsmend' else name} | " + " | ".join(row) + " |")
    print("\n| fault | cases | opsmend | best baseline |\n|---|---|---|---|\n" + "\n".join(by_fault))


def scores_of(cases: list[RecordedCase]) -> dict[str, np.ndarray]:
    """Of each ranker [cases, scores]; ours under our name, ties broken against it."""
    served = RootCauseConfig().ranker
    rankers = {"opsmend": ranker_of(served)}
    rankers |= {name: make() for name, make in RANKERS.items() if name not in (served, "random")}
    found = {name: np.array([tied_scores(ranker.rank(case.window).scores, case.window.services.index(case.root),
                                         is_ours=name == "opsmend") for case in cases]) for name, ranker in rankers.items()}
    return found | {"random": np.array([floor_scores(len(case.window.services)) for case in cases])}


if __name__ == "__main__":
    main()
