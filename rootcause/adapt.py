"""Adapting the ranker to a system in which nothing has gone wrong yet: simulated faults in its own fault-free windows.

As `rootcause/tune.py`, with injected faults for incidents. The contest is about injected faults in windows that lie
after those trained on, about the same windows left alone, and about the simulated cases that the shipped weights were
validated on. It says nothing of how the system really fails.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from rootcause.adapt_inject import Injected, inject
from rootcause.rankers.gnn import MODELS_DIR, load_weights
from rootcause.robust import edge_changes, node_changes
from rootcause.tune import Confirmed, TuneConfig, load_members, log_probabilities, simulated, tune, views
from rootcause.tune_contest import ContestConfig, Verdict, judge
from rootcause.tune_files import tuned_card, write
from rootcause.types import CaseWindow

_UNUSUAL = 6.0
"""Robust deviations."""


@dataclass(frozen=True)
class AdaptConfig:
    """How much is made of the windows."""

    per_window: int = 3
    """Faults injected into each, one at a time; the window as it is comes once."""
    held_out: float = 1 / 3
    """The last ones in time."""
    fewest: int = 9
    """Windows."""


def adapt(calm: Sequence[CaseWindow], out_dir: Path, *, data: str, base: Path = MODELS_DIR, seed: int = 0,
          config: TuneConfig | None = None, contest: ContestConfig | None = None, sizes: AdaptConfig | None = None,
          tell: Callable[[str], None] = lambda _: None) -> dict[str, Any]:
    """Tune on the first of the windows, which are in order of time, judge on the others, and write
    `rootcause.safetensors` and its card to `out_dir` where the verdict is for it; returns the card. Raises OSError
    without shipped weights."""
    c, k, s = config or TuneConfig(part=0.3), contest or ContestConfig(), sizes or AdaptConfig()
    card = tuned_card(base, seed, f"{data}: simulated faults in {len(calm)} of its fault-free windows", asdict(c))
    if len(calm) < s.fewest:
        why = f"{len(calm)} fault-free windows, at least {s.fewest} are needed"
        return card | {"kept": False, "contest": asdict(Verdict(False, why))}
    first = round(len(calm) * (1 - s.held_out))
    tell(f"faults in {len(calm)} fault-free windows")
    train, held = (with_faults(part, s.per_window, [seed, 51, n]) for n, part in enumerate((calm[:first], calm[first:])))
    members, weights = load_members(base), load_weights(base)
    mine, theirs = views(members, train), views(members, held)
    tell(f"{k.replay + k.validation} simulated cases")
    made = simulated(seed, k.validation, 22)
    replay, validation = views(members, simulated(seed, k.replay, 21)), views(members, made)
    tell("tuning")
    tuned = tune(members, mine, replay, c, seed)
    verdict = judge(held, log_probabilities(members, theirs), log_probabilities(tuned, theirs), made,
                    log_probabilities(members, validation), log_probabilities(tuned, validation), weights, k, seed)
    card |= {"kept": verdict.is_better, "contest": asdict(verdict)}
    if verdict.is_better:
        write(tuned, card, out_dir)
    return card


def with_faults(calm: Sequence[CaseWindow], per_window: int, seed: Sequence[int]) -> list[Confirmed]:
    """Each window as it is, and with one fault at a time; the window is the group."""
    out = []
    for n, window in enumerate(calm):
        rng = np.random.default_rng([*seed, n])
        out.append(Confirmed(window, (), f"window {n}"))
        for _ in range(per_window):
            found = inject(window, rng)
            if found is not None and leaves_a_trace(found):
                out.append(Confirmed(found.case, (found.target,), f"window {n}"))
    return out


def leaves_a_trace(found: Injected) -> bool:
    """Whether anything at the culprit, or of calls to or from it, is further from usual than chance would take it: what
    nobody could find teaches nothing."""
    case, n = found.case, len(found.case.services)
    ends = {int(i) for i in case.edges[found.target - n]} if found.target >= n else {found.target}
    near = np.isin(np.arange(n), sorted(ends))
    lines = near[case.edges].any(axis=1) if len(case.edges) else np.zeros(0, dtype=bool)
    return any(bool((np.abs(change.z[where]) > _UNUSUAL).any()) for changes, where in (
        (node_changes(case), near), (edge_changes(case), lines)) for change in changes.values())


def stretches(usual: CaseWindow, size: int, number: int, *, before: int | None = None) -> list[CaseWindow]:
    """At most so many windows of `size` rows, evenly spread over rows in which nothing was wrong and in order of time, each
    with the `before` rows before it as its usual state (None: all of them, at least 30 and a quarter). No row is in the
    fault's part of two of them."""
    rows = len(usual.ts_ns)
    first = before or max(30, rows // 4)
    number = min(number, (rows - first) // max(1, size))
    ends = [first + size + round(k * (rows - first - size) / max(1, number - 1)) for k in range(number)]
    return [_part(usual, end - size - before if before else 0, end, size) for end in ends]


def _part(usual: CaseWindow, begin: int, end: int, size: int) -> CaseWindow:
    return replace(usual.of_rows(slice(begin, end), end - begin - size), changes=(), signals=())
