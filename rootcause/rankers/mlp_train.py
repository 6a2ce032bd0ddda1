"""Making the weights of the network without edges: `opsmend train rootcause-mlp`."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np

from rootcause.rankers.mlp import load_mlp, node_table, width_of
from rootcause.simulate import simulate
from rootcause.window import NODE_INDICATORS

_HIDDEN = 64
_BATCH = 64
_RATE = 3e-3


def train_mlp(out_dir: Path, *, seed: int = 0, progress: bool = True, graphs: int = 7000, epochs: int = 12) -> dict[str, Any]:
    """Train on the cases that the graph network trains on (same seeds), write `mlp.safetensors` and its card, which
    is returned. Listwise loss with "none of these", as there."""
    import torch
    from rich.console import Console
    from rich.progress import track
    from safetensors.torch import save_file

    began = time.monotonic()
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    console = Console(stderr=True)
    items = []
    for n in track(range(graphs), "simulate", console=console, disable=not progress):
        made = simulate(np.random.default_rng([seed, 0, n]))
        items.append((torch.from_numpy(node_table(made.case, NODE_INDICATORS)).float(), made.root))
    net = _net(width_of(NODE_INDICATORS))
    order = np.random.default_rng([seed, 3])
    optimiser = torch.optim.AdamW(net.parameters(), lr=_RATE, weight_decay=1e-2)
    steps = epochs * -(-len(items) // _BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, _RATE, total_steps=steps)
    for _ in track(range(epochs), "network without edges", console=console, disable=not progress):
        shuffled = order.permutation(len(items))
        for at in range(0, len(items), _BATCH):
            loss = _loss(net, [items[i] for i in shuffled[at:at + _BATCH]])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
    out_dir.mkdir(parents=True, exist_ok=True)
    save_file({k: v.contiguous() for k, v in net.state_dict().items()}, str(out_dir / "mlp.safetensors"))
    card: dict[str, Any] = {"model": "rootcause-mlp", "version": f"mlp-1-{seed}", "seed": seed,
                            "data": f"{graphs} simulated cases (rootcause/simulate), no real one",
                            "indicators": list(NODE_INDICATORS), "seconds": round(time.monotonic() - began)}
    (out_dir / "mlp.json").write_text(json.dumps(card, indent=2) + "\n")
    load_mlp.cache_clear()
    return card


def _net(width: int) -> Any:
    from torch import nn

    def two(inputs: int) -> Any:
        return nn.Sequential(nn.Linear(inputs, _HIDDEN), nn.ReLU(), nn.Linear(_HIDDEN, 1))

    return nn.ModuleDict({"lift": nn.Sequential(nn.Linear(width, _HIDDEN), nn.ReLU(), nn.Linear(_HIDDEN, _HIDDEN)),
                          "head": two(3 * _HIDDEN), "none": two(2 * _HIDDEN)})


def _loss(net: Any, batch: list[tuple[Any, int]]) -> Any:
    import torch

    sizes = [len(x) for x, _ in batch]
    graph = torch.repeat_interleave(torch.arange(len(batch)), torch.tensor(sizes))
    h = torch.relu(net["lift"](torch.cat([x for x, _ in batch])))
    index = graph[:, None].expand_as(h)
    mean = torch.zeros(len(batch), h.shape[1]).scatter_reduce(0, index, h, "mean", include_self=False)
    top = torch.zeros(len(batch), h.shape[1]).scatter_reduce(0, index, h, "amax", include_self=False)
    pooled = torch.cat([mean, top], dim=1)
    logits = net["head"](torch.cat([h, pooled[graph]], dim=1))[:, 0]
    none = net["none"](pooled)[:, 0]
    total, at = torch.zeros(()), 0
    for k, (size, (_, root)) in enumerate(zip(sizes, batch, strict=True)):
        one = torch.cat([logits[at:at + size], none[k:k + 1]])
        total = total - torch.log_softmax(one, 0)[root]  # root -1 is the last: none
        at += size
    return total / len(batch)
