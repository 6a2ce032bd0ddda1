"""Making the ranker's weights: `opsmend train rootcause`. One thread, a few minutes."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np

from rootcause.features import edge_features, node_features
from rootcause.rankers.gnn import MODELS_DIR
from rootcause.simulate import Simulated, simulate

__all__ = ["MODELS_DIR", "train_rootcause"]


def _tensors(cases: list[Simulated]) -> list[Any]:
    import torch

    return [(torch.from_numpy(node_features(s.case)), torch.from_numpy(s.case.edges.astype(np.int64).T.copy()),
             torch.from_numpy(edge_features(s.case)), s.root) for s in cases]


def _batch(items: list[Any]) -> tuple[Any, ...]:
    import torch

    offsets = np.cumsum([0] + [len(x) for x, *_ in items])
    graph = torch.cat([torch.full((len(x),), i) for i, (x, *_) in enumerate(items)])
    edges = torch.cat([e + int(o) for (_, e, _, _), o in zip(items, offsets, strict=False)], dim=1)
    roots = [int(offsets[i]) + root if root >= 0 else -1 for i, (*_, root) in enumerate(items)]
    return (torch.cat([x for x, *_ in items]), edges, torch.cat([a for _, _, a, _ in items]), graph, len(items),
            torch.tensor(roots))


def train_rootcause(out_dir: Path, *, seed: int = 0, progress: bool = True, graphs: int = 6000, epochs: int = 12,
                    members: int = 3) -> dict[str, Any]:
    """Train, write `rootcause.safetensors` and its card; returns the card."""
    import torch
    from rich.console import Console
    from rich.progress import track
    from safetensors.torch import save_file

    from rootcause.rankers.model import RootCauseNet, log_probabilities

    torch.set_num_threads(1)
    rng = np.random.default_rng(seed)
    console = Console(stderr=True)
    drawn = [simulate(rng) for _ in track(range(graphs), "simulate", console=console, disable=not progress)]
    items = _tensors(drawn)
    held = [simulate(np.random.default_rng([seed, 1, n])) for n in range(800)]
    nets = []
    for member in range(members):
        torch.manual_seed(seed * 100 + member)
        order = np.random.default_rng([seed, 2, member])
        net = RootCauseNet()
        optimiser = torch.optim.AdamW(net.parameters(), lr=2e-3, weight_decay=1e-3)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 4e-3, total_steps=epochs * (len(items) // 64 + 1))
        for _ in track(range(epochs), f"model {member + 1} of {members}", console=console, disable=not progress):
            shuffled = order.permutation(len(items))
            for at in range(0, len(items), 64):
                x, edges, attr, graph, count, roots = _batch([items[i] for i in shuffled[at:at + 64]])
                log_p, log_none = log_probabilities(net, x, edges, attr, graph, count)
                picked = torch.where(roots >= 0, log_p[roots.clamp_min(0)], log_none)
                optimiser.zero_grad()
                (-picked.mean()).backward()  # type: ignore[no-untyped-call]
                optimiser.step()
                schedule.step()
        nets.append(net.eval())
    out_dir.mkdir(parents=True, exist_ok=True)
    tensors = {f"{n}/{k}": v.contiguous() for n, net in enumerate(nets) for k, v in net.state_dict().items()}
    save_file(tensors, str(out_dir / "rootcause.safetensors"))
    card: dict[str, Any] = {
        "model": "rootcause", "version": f"rootcause-1-{seed}", "members": members, "temperature": 1.0, "seed": seed,
        "data": f"{graphs} simulated cases (rootcause/simulate.py); 800 held out", "revision": _revision()}
    (out_dir / "rootcause.json").write_text(json.dumps(card, indent=2) + "\n")
    card["metrics"] = _score(held, out_dir)
    (out_dir / "rootcause.json").write_text(json.dumps(card, indent=2) + "\n")
    return card


def _score(held: list[Simulated], out_dir: Path) -> dict[str, Any]:
    """AC@1, AC@3 on held-out cases with a cause, for the model and every baseline; "none" recognised."""
    from rootcause.rankers.gnn import GnnRanker, load_nets
    from rootcause.rankers.registry import RANKERS

    load_nets.cache_clear()
    out: dict[str, Any] = {}
    for name, make in RANKERS.items():
        ranker = GnnRanker(out_dir) if name == "gnn" else make()
        hits, top3, none_right, nones, sure, right = 0, 0, 0, 0, 0.0, 0
        for s in held:
            ranking = ranker.rank(s.case)
            order = np.argsort(-ranking.scores, kind="stable")
            if s.root < 0:
                nones += 1
                none_right += ranking.p_none is not None and ranking.p_none > ranking.scores.max()
                continue
            hits += int(order[0] == s.root)
            top3 += int(s.root in order[:3])
            sure += float(ranking.scores.max()) if ranking.p_none is not None else 0.0
            right += int(order[0] == s.root)
        cases = len(held) - nones
        out[name] = {"AC@1": round(hits / cases, 3), "AC@3": round(top3 / cases, 3)}
        if name == "gnn":
            out[name] |= {"none_recognised": round(none_right / nones, 3), "mean_confidence": round(sure / cases, 3)}
    return out


def _revision() -> str:
    done = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    return done.stdout.strip()
