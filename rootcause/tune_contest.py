"""Whether tuned weights are better than the shipped ones: a grouped cross-validation over the incidents, and what the
tuning costs on simulated cases. Weights are written only where they are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rootcause.rankers.gnn import MODELS_DIR, Weights, by_service, decide, load_weights, sharpen, with_past
from rootcause.tune import Confirmed, Seen, State, TuneConfig, load_members, log_probabilities, simulated, tune, views
from rootcause.tune_files import tuned_card, write

Floats = NDArray[np.float64]
Views = list[list[Seen]]
_WORST = 1e-3
"""A probability below this counts as this: no single case decides a contest."""


@dataclass(frozen=True)
class ContestConfig:
    """What is asked of a challenger."""

    folds: int = 10
    fewest: int = 8
    """Incidents with a cause."""
    fewest_groups: int = 3
    sure: float = 0.95
    """Share of bootstrap draws (of whole groups) in which the mean log probability of the true cause must have risen."""
    forgetting: float = 0.01
    """How much AC@1 on simulated cases may fall."""
    abstention: float = 0.02
    """How much more often "none of these" may be said where there is a cause, or not be said where there is none."""
    replay: int = 300
    validation: int = 300
    """Simulated cases that are trained on beside the incidents, and others that are not."""


@dataclass(frozen=True)
class Verdict:
    """Both on the same held-out cases; `reason` in words for people."""

    is_better: bool
    reason: str
    cases: int = 0
    groups: int = 0
    shipped: dict[str, float] | None = None
    tuned: dict[str, float] | None = None
    simulated_shipped: dict[str, float] | None = None
    simulated_tuned: dict[str, float] | None = None
    gain: float = 0.0
    """Mean of log p of the true cause, tuned minus shipped."""
    surely: float = 0.0
    """Share of bootstrap draws in which it is above 0."""


def fine_tune(incidents: Sequence[Confirmed], out_dir: Path, *, data: str, base: Path = MODELS_DIR, seed: int = 0,
              config: TuneConfig | None = None, contest: ContestConfig | None = None,
              tell: Callable[[str], None] = lambda _: None) -> dict[str, Any]:
    """Tune, judge, and write `rootcause.safetensors` and its card to `out_dir` where the verdict is for it; returns the
    card. `data` says where the incidents come from. Raises OSError without shipped weights."""
    c, k = config or TuneConfig(), contest or ContestConfig()
    card = tuned_card(base, seed, f"{data}: {len([i for i in incidents if i.targets])} incidents with a confirmed cause, "
                                  f"{len([i for i in incidents if not i.targets])} windows without a fault", asdict(c))
    if why := too_few(incidents, k):
        return card | {"kept": False, "contest": asdict(Verdict(False, why))}
    members, weights = load_members(base), load_weights(base)
    tell("what the network sees of the incidents")
    seen = views(members, incidents)
    tell(f"{k.replay + k.validation} simulated cases")
    replay, held = views(members, simulated(seed, k.replay, 21)), simulated(seed, k.validation, 22)
    tell("tuning, leaving groups out in turn")
    outside = cross_validated(members, seen, incidents, replay, c, k, seed)
    tuned = tune(members, seen, replay, c, seed)
    validation = views(members, held)
    verdict = judge(incidents, log_probabilities(members, seen), outside, held, log_probabilities(members, validation),
                    log_probabilities(tuned, validation), weights, k, seed)
    card |= {"kept": verdict.is_better, "contest": asdict(verdict)}
    if verdict.is_better:
        write(tuned, card, out_dir)
    return card


def too_few(incidents: Sequence[Confirmed], k: ContestConfig) -> str:
    """Why there can be no contest, or ""."""
    causes = [i for i in incidents if i.targets]
    groups = {i.group for i in causes}
    if len(causes) < k.fewest:
        return f"{len(causes)} incidents with a confirmed cause, at least {k.fewest} are needed"
    if len(groups) < k.fewest_groups:
        return (f"all {len(causes)} incidents have one of {len(groups)} causes ({', '.join(sorted(groups))}): whether "
                f"others would be found too can't be told from fewer than {k.fewest_groups}")
    return ""


def folds(incidents: Sequence[Confirmed], number: int) -> Iterator[list[int]]:
    """Indexes of the incidents of each fold; groups stay whole, the largest are placed first."""
    sizes = Counter(i.group for i in incidents)
    of: dict[str, int] = {}
    load = [0] * min(number, len(sizes))
    for group, size in sorted(sizes.items(), key=lambda item: (-item[1], item[0])):
        of[group] = int(np.argmin(load))
        load[of[group]] += size
    for fold in range(len(load)):
        yield [n for n, i in enumerate(incidents) if of[i.group] == fold]


def cross_validated(members: Sequence[State], seen: Views, incidents: Sequence[Confirmed], replay: Views, c: TuneConfig,
                    k: ContestConfig, seed: int) -> list[Floats]:
    """log p of every incident by weights that saw none of its group."""
    out: dict[int, Floats] = {}
    for left_out in folds(incidents, k.folds):
        rest = [n for n in range(len(incidents)) if n not in set(left_out)]
        tuned = tune(members, _pick(seen, rest), replay, c, seed)
        out |= dict(zip(left_out, log_probabilities(tuned, _pick(seen, left_out)), strict=True))
    return [out[n] for n in range(len(incidents))]


def _pick(seen: Views, at: Sequence[int]) -> Views:
    return [[of_member[n] for n in at] for of_member in seen]


def judge(incidents: Sequence[Confirmed], before: Sequence[Floats], after: Sequence[Floats], held: Sequence[Confirmed],
          held_before: Sequence[Floats], held_after: Sequence[Floats], weights: Weights, k: ContestConfig,
          seed: int) -> Verdict:
    """By log p before the temperature of shipped (`before`) and tuned weights (`after`) on both kinds of cases."""
    shipped, was = case_scores(incidents, before, weights)
    tuned, now = case_scores(incidents, after, weights)
    made_shipped, _ = case_scores(held, held_before, weights)
    made_tuned, _ = case_scores(held, held_after, weights)
    groups = sorted({i.group for i in incidents})
    sums = np.array([[sum(now[n] - was[n] for n, i in enumerate(incidents) if i.group == g),
                      sum(i.group == g for i in incidents)] for g in groups])  # [groups, 2]
    draws = np.random.default_rng([seed, 31]).integers(0, len(groups), (2000, len(groups)))
    total = sums[draws].sum(axis=1)
    gain, surely = float(np.mean(now - was)), float(np.mean(total[:, 0] > 0))
    why = _against(shipped, tuned, made_shipped, made_tuned, surely, k)
    return Verdict(not why, why or "more of the true causes' probability on incidents that it had not seen",
                   len(incidents), len(groups), shipped, tuned, made_shipped, made_tuned, round(gain, 4), round(surely, 4))


def _against(shipped: dict[str, float], tuned: dict[str, float], made_shipped: dict[str, float],
             made_tuned: dict[str, float], surely: float, k: ContestConfig) -> str:
    for name in ("AC@1", "AC@3", "MRR"):
        if tuned[name] < shipped[name]:
            return f"{name} on incidents that it had not seen falls from {shipped[name]:.3f} to {tuned[name]:.3f}"
    for before, after, on in ((shipped, tuned, "incidents"), (made_shipped, made_tuned, "simulated cases")):
        wrongly = after["none_wrongly"] - before["none_wrongly"]
        missed = before.get("none_recognised", 0.0) - after.get("none_recognised", 0.0)
        if max(wrongly, missed) > k.abstention:
            return f"\"none of these\" on {on}: {wrongly:+.3f} more often wrong, {missed:+.3f} more often missed"
    if made_tuned["AC@1"] < made_shipped["AC@1"] - k.forgetting:
        return f"it forgets: AC@1 on simulated cases falls from {made_shipped['AC@1']:.3f} to {made_tuned['AC@1']:.3f}"
    if tuned["MRR"] == shipped["MRR"]:
        return "no true cause of an incident that it had not seen moves up"
    if surely < k.sure:
        return f"the gain could be chance: above 0 in {surely:.0%} of the draws, {k.sure:.0%} are asked for"
    return ""


def case_scores(cases: Sequence[Confirmed], log_p: Sequence[Floats], weights: Weights) -> tuple[dict[str, float], Floats]:
    """(AC@1, AC@3, MRR, log p of the answer, both errors of "none of these"; log p of the answer by case). A case with several
    culprits counts by the best placed; ties are against us."""
    places, none, calm = [], [], []
    gains = np.zeros(len(cases))
    for n, (one, raw) in enumerate(zip(cases, log_p, strict=True)):
        p = decide(with_past(by_service(sharpen(raw, weights.temperature), one.case)[0], one.case), weights.none_bias)
        says_none = float(p[-1] > p[:-1].max())
        if not one.targets:
            calm.append(says_none)
            gains[n] = np.log(max(float(p[-1]), _WORST))
            continue
        best = max(float(p[r]) for r in one.services)
        places.append(float((p[:-1] >= best).sum()))
        none.append(says_none)
        gains[n] = np.log(max(best, _WORST))
    scores = {"AC@1": [float(r <= 1) for r in places], "AC@3": [float(r <= 3) for r in places],
              "MRR": [1 / r for r in places], "none_wrongly": none, "none_recognised": calm}
    return {name: round(float(np.mean(values)), 4) for name, values in scores.items() if values} | {
        "log_p": round(float(np.mean(gains)), 4)}, gains
