"""Fine-tuning: a challenger from the champion and a service's own recent series.

The last quarter of the time is held back from tuning, and a third of the series wholly: a challenger that only knows
its series by heart does not win on the others.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from detect.forecaster.contest import Verdict, contest
from detect.forecaster.examples import examples
from detect.forecaster.synthetic import Made, synthetic_batch
from detect.forecaster.weights import Weights

_CHUNK = 128
_RATE = 5e-4
HELD_TIME = 0.25
HELD_SERIES = 3
"""One in three."""
MIN_ROWS = 480


def fine_tune(champion: Weights, data: Sequence[Made], *, seed: int, now_ns: int, updates: int = 300,
              seconds: float = 120.0, clock: Callable[[], float] = time.process_time) -> Weights:
    """A challenger, tuned on the first three quarters of two thirds of the series, with made-up ones between, so that
    what the champion can do is not forgotten. Ends after `updates` or `seconds` of CPU. Raises ValueError without data.
    """
    import torch

    from detect.forecaster.network import Network

    torch.manual_seed(seed)
    torch.set_num_threads(1)
    rng = np.random.default_rng(seed)
    own = [examples(part) for part in (_tuning_part(made) for made in data) if part is not None]
    if not own:
        raise ValueError("no series long enough to tune on")
    network = Network.of(champion)
    optimiser = torch.optim.Adam(network.parameters(), lr=_RATE)
    began, done = clock(), 0
    while done < updates and clock() - began < seconds:
        made_up = examples(synthetic_batch(16, 1024, rng))
        for part in (*own, made_up):
            state = None
            for at in range(0, len(part.feats) - _CHUNK + 1, _CHUNK):
                # Down to nothing, by whichever budget ends first. The clock counts in twentieths: who ends by
                # updates gets the same weights on any machine.
                spent = max(done / updates, math.floor(20 * (clock() - began) / seconds) / 20)
                for group in optimiser.param_groups:
                    group["lr"] = _RATE * max(0.02, 1.0 - spent)
                loss, state = network.loss(part.feats[at : at + _CHUNK], part.targets[at : at + _CHUNK], state)
                optimiser.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                torch.nn.utils.clip_grad_norm_(network.parameters(), 0.5)
                optimiser.step()
                done += 1
    card = {**champion.card, "version": f"{_root(champion)}-tuned-{now_ns // 10**9}", "parent": champion.version,
            "made_ns": now_ns, "seed": seed, "updates": done, "metrics": {},
            "data": f"tuned on {sum(part.feats.shape[1] for part in own)} series of this service"}
    return Weights.of(network.tensors(), card)


def challenge(champion: Weights, data: Sequence[Made], *, seed: int, now_ns: int, updates: int = 300,
              seconds: float = 120.0) -> tuple[Weights, Verdict]:
    """Tune, and compare on what was held back: the last quarter of the time of the series not tuned on."""
    challenger = fine_tune(champion, data, seed=seed, now_ns=now_ns, updates=updates, seconds=seconds)
    verdict = contest(champion, challenger, [held_back(made) for made in data])
    card = {**challenger.card, "metrics": {"gain": round(verdict.gain, 4), "certainty": round(verdict.certainty, 2),
                                           "series": verdict.series, "by_horizon": list(verdict.by_horizon)},
            "verdict": verdict.words()}
    return replace(challenger, card=card), verdict


def held_back(made: Made) -> tuple[Made, int]:
    """The series that no tuning sees, and the first row that counts."""
    mine = np.arange(len(made.values)) % HELD_SERIES == 0
    return replace(made, values=made.values[mine], covariates=made.covariates[mine]), _split(made)


def _split(made: Made) -> int:
    return int(made.values.shape[1] * (1.0 - HELD_TIME))


def _tuning_part(made: Made) -> Made | None:
    """Rows and series to tune on, gaps filled by the last value; None if they are too few."""
    until = _split(made)
    mine = np.arange(len(made.values)) % HELD_SERIES != 0
    values, beside = made.values[mine, :until], made.covariates[mine, :until]
    known = np.isfinite(values)
    enough = known.mean(axis=1) > 0.5
    if until < MIN_ROWS or not enough.any():
        return None
    values, beside, known = values[enough], beside[enough], known[enough]
    at = np.maximum.accumulate(np.where(known, np.arange(until), 0), axis=1)
    filled = np.take_along_axis(values, at, axis=1)
    first = values[np.arange(len(values)), known.argmax(axis=1)]
    return replace(made, values=np.where(np.isfinite(filled), filled, first[:, None]), covariates=beside)


def _root(weights: Weights) -> str:
    return weights.version.split("-tuned-")[0]
