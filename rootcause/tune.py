"""Fine-tuning the ranker's heads on incidents whose cause somebody confirmed.

A few incidents teach a large network their own noise, so four things hold it: the rounds of messages stay as shipped and
only the three heads (services, calls, "none of these") move; every step sees as many simulated cases as incidents; the
weights are drawn back to the shipped ones (L2-SP, Li et al., ICML 2018); and what is kept is a mean of the shipped and
the tuned weights (Wortsman et al., CVPR 2022). What the heads see does not change, so it is computed once.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch_geometric.utils import softmax

from rootcause.features import case_features
from rootcause.rankers.gnn import MODELS_DIR
from rootcause.rankers.model import RootCauseNet
from rootcause.simulate import simulate
from rootcause.types import CaseWindow

HEADS = ("head", "call", "none")
State = Mapping[str, Tensor]


@dataclass(frozen=True)
class Confirmed:
    """A window and what was wrong in it."""

    case: CaseWindow
    targets: tuple[int, ...]
    """A service by its index, a call by n + its row in `case.edges`; empty: nothing was wrong."""
    group: str = ""
    """Incidents of one group are never on both sides of a contest."""

    @property
    def services(self) -> tuple[int, ...]:
        """The culprits; of a call the service that is called."""
        n = len(self.case.services)
        return tuple(t if t < n else int(self.case.edges[t - n, 1]) for t in self.targets)


@dataclass(frozen=True)
class TuneConfig:
    """How far it may move."""

    steps: int = 60
    batch: int = 32
    """Incidents per step, and as many simulated cases."""
    learning_rate: float = 3e-3
    anchor: float = 1e-2
    """Weight of the squared distance from the shipped weights."""
    part: float = 0.5
    """How much of the way from the shipped to the tuned weights is kept, 0..1."""


@dataclass(frozen=True)
class Seen:
    """What the heads of one member see of a case."""

    inputs: tuple[Tensor, Tensor, Tensor]  # of the services [n, a], the calls [m, b], "none" [1, c]
    targets: tuple[int, ...]


def simulated(seed: int, number: int, stream: int) -> list[Confirmed]:
    """Simulated cases; another `stream` holds others. Cost: some 20 ms each, and as much again in `views`."""
    drawn = (simulate(np.random.default_rng([seed, stream, n])) for n in range(number))
    return [Confirmed(s.case, s.targets, s.fault) for s in drawn]


def load_members(directory: Path = MODELS_DIR) -> list[State]:
    """The weights of each member. Raises OSError where there are none."""
    from safetensors.torch import load_file

    tensors = load_file(str(directory / "rootcause.safetensors"))
    names = sorted({k.split("/", 1)[0] for k in tensors}, key=int)
    return [{k.split("/", 1)[1]: v for k, v in tensors.items() if k.startswith(f"{n}/")} for n in names]


def views(members: Sequence[State], cases: Sequence[Confirmed]) -> list[list[Seen]]:
    """[members][cases] what the heads see. Cost: that of the features, and 3 ms per member and case."""
    nets = [_net(m) for m in members]
    out: list[list[Seen]] = [[] for _ in members]
    for one in cases:
        features = case_features(one.case)
        edges = torch.from_numpy(one.case.edges.astype(np.int64).T.copy()).reshape(2, -1)
        given = (torch.from_numpy(features.node), edges, torch.from_numpy(features.edge),
                 torch.zeros(len(features.node), dtype=torch.int64), 1)
        for net, seen in zip(nets, out, strict=True):
            seen.append(Seen(_head_inputs(net, given), one.targets))
    return out


def _net(state: State) -> RootCauseNet:
    net = RootCauseNet()
    net.load_state_dict(dict(state))
    return net.eval()


def _head_inputs(net: RootCauseNet, given: tuple[Any, ...]) -> tuple[Tensor, Tensor, Tensor]:
    caught: dict[str, Tensor] = {}

    def catch(name: str) -> Any:
        return getattr(net, name).register_forward_pre_hook(lambda _, inputs: caught.__setitem__(name, inputs[0].detach()))

    hooks = [catch(name) for name in HEADS]
    try:
        with torch.no_grad():
            net(*given)
    finally:
        for hook in hooks:
            hook.remove()
    return caught["head"], caught["call"], caught["none"]


def tune(members: Sequence[State], incidents: Sequence[Sequence[Seen]], replay: Sequence[Sequence[Seen]], config: TuneConfig,
         seed: int = 0) -> list[State]:
    """Every member with its heads tuned; `incidents` and `replay` as `views` gives them. Deterministic. Cost: some 10 ms
    per member and step. Raises ValueError without an incident."""
    if not incidents or not incidents[0]:
        raise ValueError("no incident to learn from")
    return [_tuned(state, mine, made, config, np.random.default_rng([seed, 9, n]))
            for n, (state, mine, made) in enumerate(zip(members, incidents, replay, strict=True))]


def _tuned(shipped: State, incidents: Sequence[Seen], replay: Sequence[Seen], c: TuneConfig,
           rng: np.random.Generator) -> State:
    heads = _heads(shipped)
    start = {name: p.detach().clone() for name, p in heads.named_parameters()}
    optimiser = torch.optim.Adam(heads.parameters(), lr=c.learning_rate)
    for step in range(c.steps):
        for group in optimiser.param_groups:  # down to nothing along half a cosine
            group["lr"] = c.learning_rate * 0.5 * (1 + float(np.cos(np.pi * step / c.steps)))
        loss = _loss(heads, [incidents[i] for i in rng.permutation(len(incidents))[:c.batch]])
        if replay:
            loss = loss + _loss(heads, [replay[i] for i in rng.permutation(len(replay))[:c.batch]])
        for name, p in heads.named_parameters():
            loss = loss + c.anchor * ((p - start[name]) ** 2).sum()
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    moved = {name: start[name] + c.part * (p.detach() - start[name]) for name, p in heads.named_parameters()}
    return {name: moved.get(name, value).contiguous() for name, value in shipped.items()}


def _heads(state: State) -> nn.ModuleDict:
    net = _net(state)
    return nn.ModuleDict({name: copy.deepcopy(getattr(net, name)) for name in HEADS})


def _joint(heads: nn.ModuleDict, cases: Sequence[Seen]) -> tuple[Tensor, list[int]]:
    """(log p of every candidate of every case, listwise per case: services, calls and "none" of the first, and so on;
    where each case begins)."""
    columns = [torch.cat([c.inputs[k] for c in cases]) for k in range(3)]
    logits = [heads[name](column).squeeze(1) for name, column in zip(HEADS, columns, strict=True)]
    sizes = [[len(c.inputs[k]) for c in cases] for k in range(3)]
    owner = [torch.repeat_interleave(torch.arange(len(cases)), torch.tensor(size)) for size in sizes]
    order = torch.argsort(torch.cat(owner), stable=True)
    p: Any = softmax(torch.cat(logits)[order], torch.cat(owner)[order])
    starts = np.cumsum([0] + [sum(s) for s in zip(*sizes, strict=True)]).tolist()
    return torch.log(p.clamp_min(1e-9)), starts


def _loss(heads: nn.ModuleDict, cases: Sequence[Seen]) -> Tensor:
    """Mean over the cases of -log p of the culprits, each with an equal share; of "none" where there is none."""
    log_p, starts = _joint(heads, cases)
    where: list[int] = []
    share: list[float] = []
    for case, begin, end in zip(cases, starts, starts[1:], strict=False):
        found = [begin + t for t in case.targets] or [end - 1]
        where += found
        share += [1 / len(found)] * len(found)
    return -(log_p[torch.tensor(where)] * torch.tensor(share)).sum() / len(cases)


def log_probabilities(members: Sequence[State], seen: Sequence[Sequence[Seen]]) -> list[np.ndarray[Any, np.dtype[np.float64]]]:
    """Of each case [n + m + 1] mean over the members, before the temperature: as `GnnRanker.log_probabilities`."""
    out: list[Any] = []
    for state, cases in zip(members, seen, strict=True):
        heads = _heads(state)
        with torch.no_grad():
            log_p, starts = _joint(heads, cases)
        out.append([log_p[a:b].double().clamp_min(-20).numpy() for a, b in pairwise(starts)])
    return [np.mean(of_case, axis=0) for of_case in zip(*out, strict=True)]
