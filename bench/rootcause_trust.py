"""What the first suspect's certainty is worth: `python bench/rootcause_trust.py DIR [--write]`.

The networks' probabilities are right on the cases that were simulated for them, which are fainter than what somebody is
called for. Here slope and offset of the log odds are fitted (Platt 1999) on the cases of DIR that are not marked test, on
made-up recordings (`made_cases.py`) and on simulated cases, every set with the same weight; fault-free windows of the
recordings are among them, as cases in which whoever is named is named wrongly. `--write` puts both into the shipped card.

Prints, before and after: calibration error, the share that the service's margin lets through, and how many of it are right;
and the same for other margins.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

sys.path[0] = str(Path(__file__).resolve().parent.parent)  # or bench/ingest.py would be taken for the package of its name

from bench.made_cases import write_set
from opsmend.evaluate.rca_cases import RecordedCase, cases_to_learn_from
from opsmend.evaluate.rca_made import calm_windows
from rootcause.rankers.fused import FusedRanker, trusted
from rootcause.rankers.gnn import MODELS_DIR
from rootcause.scoring import calibration_error, fit_trust
from rootcause.simulate import simulate
from rootcause.stage import RootCauseConfig
from rootcause.train import services_of
from rootcause.types import CaseWindow

KINDS = ("large", "small", "canary")
SYSTEMS, CASES, SIMULATED, CALM = 4, 12, 300, 2
MARGINS = (0.15, 0.4, 0.5, 0.55, 0.6, 0.7)


@dataclass(frozen=True)
class Seen:
    """What was said of a window, [n + 1] with "none of these" last, and who is at fault in it (nobody: empty)."""

    p: NDArray[np.float64]
    roots: tuple[int, ...]

    @property
    def names_somebody(self) -> bool:
        return int(np.argmax(self.p)) < len(self.p) - 1


def recorded(cases: list[RecordedCase], ranker: FusedRanker, sets: dict[str, list[Seen]]) -> None:
    for case in cases:
        sets[case.system].append(seen(case.window, (case.window.services.index(case.root),), ranker))
        for n, window in enumerate(calm_windows(case)):
            if n < CALM:
                sets[f"{case.system} (calm)"].append(seen(window, (), ranker))


def seen(window: CaseWindow, roots: tuple[int, ...], ranker: FusedRanker) -> Seen:
    said = ranker.say(window)
    return Seen(np.append(said.services, said.none), roots)


def gather(data: Path, seed: int) -> dict[str, list[Seen]]:
    ranker = FusedRanker()
    sets: dict[str, list[Seen]] = defaultdict(list)
    recorded(cases_to_learn_from(data), ranker, sets)
    with tempfile.TemporaryDirectory() as folder:
        for kind in KINDS:
            for k in range(SYSTEMS):
                write_set(Path(folder) / kind / str(k), kind, CASES, np.random.default_rng([seed, 91, k]))
            made: dict[str, list[Seen]] = defaultdict(list)
            recorded(cases_to_learn_from(Path(folder) / kind), ranker, made)
            for name, of_system in made.items():
                sets[f"made {kind}{' (calm)' if name.endswith('(calm)') else ''}"] += of_system
    for n in range(SIMULATED):
        made_up = simulate(np.random.default_rng([seed, 92, n]))
        sets["simulated"].append(seen(made_up.case, tuple(services_of(made_up)), ranker))
    return sets


def fitted(sets: dict[str, list[Seen]]) -> tuple[float, float]:
    """On those windows in which somebody is named."""
    named = [(float(one.p.max()), float(int(np.argmax(one.p)) in one.roots), 1 / len(of_set))
             for of_set in sets.values() for one in of_set if one.names_somebody]
    weight = np.array([w for *_, w in named])
    return fit_trust([p for p, *_ in named], [right for _, right, _ in named], list(weight / weight.mean()))


def told(sets: dict[str, list[Seen]], trust: tuple[float, float], margins: tuple[float, ...]) -> None:
    """A table of sets: calibration error, and per margin share told / share of these that is right."""
    print(f"{'':24s} {'cases':>5s} {'ECE':>5s} " + " ".join(f"{f'told at {m}':>12s}" for m in margins))
    everything = [one for of_set in sets.values() for one in of_set]
    for name, some in {**sets, "all": everything}.items():
        faults = [one for one in some if one.roots]
        if not faults:
            continue
        p = [trusted(one.p, trust) for one in faults]
        hit = np.array([float(int(np.argmax(q[:-1])) in one.roots) for q, one in zip(p, faults, strict=True)])
        is_said = np.array([one.names_somebody for one in faults])
        ahead = np.array([float(q[:-1].max()) - float(np.sort(q)[-2]) if said else -1.0
                          for q, said in zip(p, is_said.tolist(), strict=True)])
        error = calibration_error([float(q.max()) for q in p], (hit * is_said).tolist())
        cells = [f"{(ahead >= m).mean():5.2f} /{hit[ahead >= m].mean() if (ahead >= m).any() else 0.0:5.2f}" for m in margins]
        print(f"{name:24s} {len(faults):5d} {error:5.2f} " + " ".join(cells))


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("data", type=Path)
    arguments.add_argument("--seed", type=int, default=0)
    arguments.add_argument("--write", action="store_true", help="into the shipped card")
    a = arguments.parse_args()
    sets = gather(a.data, a.seed)
    trust = fitted(sets)
    print("as the networks say it")
    told(sets, (1.0, 0.0), MARGINS)
    print(f"\nslope {trust[0]:.3f}, offset {trust[1]:.3f} (margin served: {RootCauseConfig().margin})")
    told(sets, trust, MARGINS)
    if a.write:
        file = MODELS_DIR / "rootcause.json"
        card = json.loads(file.read_text())
        card["trust"] = [round(t, 3) for t in trust]
        file.write_text(json.dumps(card, indent=2) + "\n")


if __name__ == "__main__":
    main()
