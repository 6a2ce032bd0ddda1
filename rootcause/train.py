"""Making the ranker's weights: `opsmend train rootcause`. A thread per process, simulated cases alone."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ingest.errors import OpsmendError
from rootcause.earlier_weights import earlier_members
from rootcause.features import case_features
from rootcause.rankers.fused import FusedRanker
from rootcause.rankers.gnn import MODELS_DIR, GnnRanker, by_service, load_weights, sharpen
from rootcause.rankers.registry import RANKERS
from rootcause.scoring import accuracy, calibration_error, rank_chances
from rootcause.simulate import Simulated, simulate
from rootcause.types import Ranker

__all__ = ["MODELS_DIR", "TrainConfig", "train_rootcause"]


@dataclass(frozen=True)
class TrainConfig:
    """Sizes of a training."""

    graphs: int = 15000
    epochs: int = 4
    members: int = 5
    batch: int = 64
    learning_rate: float = 3e-3
    calibration: int = 1000
    """Simulated cases that the temperature is fitted on."""
    workers: int = 2
    """Processes that simulate, then fit a member each; 0: this one. What comes out is the same."""
    none_bias: float = 1.6
    """How far the log odds of "none of these" against all suspects together must be above 0 for it to be the answer: likelier
    than five to one. An engineer who is told "nothing" stops looking. Made-up faults are fainter than those that somebody is
    called for, so it is set on recorded cases that choices are made on and made-up recordings: the largest of which nine
    in ten fault-free windows of each of them are recognised, those after a deploy too."""
    held_out: int = 700
    """Simulated cases for the card; neither trained nor calibrated on."""
    start: Path | None = None
    """Directory of weights to go on from, of this version or of 6; None: from nothing."""


GOING_ON = TrainConfig(graphs=10000, epochs=1, learning_rate=5e-4)
"""Sizes where `start` is given: what is new is learned, and what was learned is kept."""


def train_rootcause(out_dir: Path, *, seed: int = 0, progress: bool = True,
                    config: TrainConfig | None = None) -> dict[str, Any]:
    """Train, write `rootcause.safetensors` and its card; returns the card. Raises OpsmendError or OSError, before anything is
    simulated, where `start` holds no weights to go on from."""
    import torch
    from rich.console import Console
    from rich.progress import track
    from safetensors.torch import save_file

    c = config or TrainConfig()
    # Read at once: it may be the directory that is written to.
    went_on_from = json.loads((c.start / "rootcause.json").read_text())["version"] if c.start else ""
    if c.start is not None and (known := len(earlier_members(c.start))) < c.members:
        raise OpsmendError(f"train: {c.start} has {known} members, {c.members} are wanted: train from nothing, without --from",
                           reason="other_weights")
    began = time.monotonic()
    torch.set_num_threads(1)
    console = Console(stderr=True)
    made = track(_simulated(seed, c), "simulate", total=c.graphs, console=console, disable=not progress)
    tensors: dict[str, Any] = {}
    with TemporaryDirectory(prefix="opsmend-train-") as folder:
        _keep(made, Path(folder))
        for member, weights in enumerate(track(_fitted(Path(folder), c, seed), "fit", total=c.members, console=console,
                                               disable=not progress)):
            tensors |= {f"{member}/{k}": torch.from_numpy(v) for k, v in weights.items()}
    out_dir.mkdir(parents=True, exist_ok=True)
    save_file(tensors, str(out_dir / "rootcause.safetensors"))
    card: dict[str, Any] = {
        "model": "rootcause", "version": f"rootcause-7-{seed}", "members": c.members, "temperature": 1.0,
        "none_bias": c.none_bias, "seed": seed, "data": f"{c.graphs} simulated cases (rootcause/simulate), no real one; "
                              f"{c.calibration} for the temperature, {c.held_out} held out", "revision": _revision()}
    if c.start is not None:
        card["went_on_from"] = went_on_from
    _write(out_dir, card)
    ranker = GnnRanker(out_dir)
    cases = [simulate(np.random.default_rng([seed, 1, n])) for n in range(c.calibration)]
    card["temperature"] = _temperature(ranker, cases)
    _write(out_dir, card)
    card["metrics"] = _score([simulate(np.random.default_rng([seed, 2, n])) for n in range(c.held_out)], out_dir)
    card["seconds"] = round(time.monotonic() - began)
    _write(out_dir, card)
    return card


def _write(out_dir: Path, card: dict[str, Any]) -> None:
    (out_dir / "rootcause.json").write_text(json.dumps(card, indent=2) + "\n")
    load_weights.cache_clear()


Item = tuple[Any, Any, Any, tuple[int, ...]]
Arrays = tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.float32], tuple[int, ...]]


def _arrays(of: tuple[int, int, int]) -> Arrays:
    s = simulate(np.random.default_rng(of))
    features = case_features(s.case)
    return features.node, s.case.edges.astype(np.int64).T.copy(), features.edge, s.targets


def _simulated(seed: int, c: TrainConfig) -> Iterator[Arrays]:
    """In the same order, whoever makes them."""
    wanted = [(seed, 0, n) for n in range(c.graphs)]
    if c.workers == 0:
        yield from map(_arrays, wanted)
        return
    with ProcessPoolExecutor(c.workers, mp_context=get_context("spawn")) as pool:
        yield from pool.map(_arrays, wanted, chunksize=50)


_PARTS = ("node", "edges", "edge", "targets")


def _keep(made: Iterable[Arrays], folder: Path) -> None:
    """All cases end to end in one file per part, and where each one begins: processes map them, and share the memory."""
    cases = [(node, edges.T, edge, np.array(targets, dtype=np.int64)) for node, edges, edge, targets in made]
    for k, part in enumerate(_PARTS):
        np.save(folder / f"{part}.npy", np.concatenate([case[k] for case in cases]))
        np.save(folder / f"{part}_begins.npy", np.cumsum([0] + [len(case[k]) for case in cases]))


def _items(folder: Path) -> list[Item]:
    import torch

    columns = []
    for part in _PARTS:
        table = np.load(folder / f"{part}.npy", mmap_mode="c")  # copy on write: torch wants it writable, nobody writes
        begins = np.load(folder / f"{part}_begins.npy").tolist()
        columns.append([table[a:b] for a, b in pairwise(begins)])
    return [(torch.from_numpy(node), torch.from_numpy(edges).T, torch.from_numpy(edge), tuple(targets.tolist()))
            for node, edges, edge, targets in zip(*columns, strict=True)]


def _fitted(folder: Path, c: TrainConfig, seed: int) -> Iterator[dict[str, NDArray[np.float32]]]:
    """The weights of each member, in order; the same whoever fits them, as each has a thread and a seed of its own."""
    wanted = [(folder, c, seed, member) for member in range(c.members)]
    if c.workers == 0:
        yield from map(_fit, wanted)
        return
    with ProcessPoolExecutor(min(c.workers, c.members), mp_context=get_context("spawn")) as pool:
        yield from pool.map(_fit, wanted)


def _fit(of: tuple[Path, TrainConfig, int, int]) -> dict[str, NDArray[np.float32]]:
    import torch

    from rootcause.rankers.model import RootCauseNet, log_probabilities

    folder, c, seed, member = of
    torch.set_num_threads(1)
    items = _items(folder)
    torch.manual_seed(seed * 100 + member)
    order = np.random.default_rng([seed, 3, member])
    net = RootCauseNet()
    if c.start is not None:
        net.load_state_dict(earlier_members(c.start)[member])
    net.train()
    optimiser = torch.optim.AdamW(net.parameters(), lr=c.learning_rate, weight_decay=1e-2)
    total = c.epochs * -(-len(items) // c.batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, c.learning_rate, total_steps=total)
    for _ in range(c.epochs):
        shuffled = order.permutation(len(items))
        for at in range(0, len(items), c.batch):
            x, edges, attr, graph, count, where, share = _batch([items[i] for i in shuffled[at:at + c.batch]])
            log_p = torch.cat(log_probabilities(net, x, edges, attr, graph, count))
            optimiser.zero_grad()
            (-(log_p[where] * share).sum() / count).backward()
            torch.nn.utils.clip_grad_norm_(net.parameters(), 2.0)
            optimiser.step()
            schedule.step()
    return {name: v.contiguous().numpy() for name, v in net.state_dict().items()}


def _batch(items: list[Item]) -> tuple[Any, ...]:
    """One graph of all, and which of its candidates (services of all graphs, then calls, then "none") are right, by how
    much: a case with two faults asks for half each."""
    import torch

    offsets = np.cumsum([0] + [len(x) for x, *_ in items])
    graph = torch.cat([torch.full((len(x),), i) for i, (x, *_) in enumerate(items)])
    edges = torch.cat([e + int(o) for (_, e, _, _), o in zip(items, offsets, strict=False)], dim=1)
    lines = np.cumsum([0] + [len(a) for _, _, a, _ in items])
    total, calls = int(offsets[-1]), int(lines[-1])
    where: list[int] = []
    share: list[float] = []
    for i, (x, _, _, targets) in enumerate(items):
        found = [int(offsets[i]) + t if t < len(x) else total + int(lines[i]) + t - len(x) for t in targets]
        where += found or [total + calls + i]
        share += [1 / max(1, len(found))] * max(1, len(found))
    return (torch.cat([x for x, *_ in items]), edges, torch.cat([a for _, _, a, _ in items]), graph, len(items),
            torch.tensor(where), torch.tensor(share))


def _temperature(ranker: GnnRanker, cases: list[Simulated]) -> float:
    """The one of a grid with the smallest negative log likelihood (Guo et al., ICML 2017)."""
    log_p = [ranker.log_probabilities(s.case) for s in cases]
    grid = np.exp(np.linspace(np.log(0.4), np.log(4.0), 60))

    def loss(temperature: float) -> float:
        """That the first suspect is one of the culprits is what is promised, whichever of them."""
        p = [by_service(sharpen(q, temperature), s.case)[0] for q, s in zip(log_p, cases, strict=True)]
        return float(np.mean([-np.log(max(float(q[sorted(set(services_of(s))) or [-1]].sum()), 1e-12))
                              for q, s in zip(p, cases, strict=True)]))

    return round(float(min(grid, key=loss)), 3)


def _score(held: list[Simulated], directory: Path) -> dict[str, Any]:
    """AC@k on held-out cases with a cause, for the model and every baseline; how well "none" is told apart; ECE."""
    out: dict[str, Any] = {}
    trained: dict[str, Ranker] = {r.name: r for r in (GnnRanker(directory), FusedRanker(directory))}
    for name, make in RANKERS.items():
        ranker = trained.get(name) or make()
        rankings = [ranker.rank(s.case) for s in held]
        chances = [rank_chances(r.scores, services_of(s), 5) for r, s in zip(rankings, held, strict=True) if s.root >= 0]
        out[name] = {k: round(v, 3) for k, v in accuracy(chances).items()}
        if name in trained:
            p = [np.append(r.scores, r.p_none or 0.0) for r in rankings]
            out[name] |= _probabilities(p, held) | {"by_fault": _by_fault(p, held)}
    return out


def services_of(s: Simulated) -> list[int]:
    """The services that are at fault, or called where the fault is; empty for none."""
    n = len(s.case.services)
    return [t if t < n else int(s.case.edges[t - n, 1]) for t in s.targets]


def _is_right(p: NDArray[np.float64], s: Simulated) -> bool:
    return int(np.argmax(p)) in (services_of(s) or [len(p) - 1])


def _probabilities(p: list[NDArray[np.float64]], held: list[Simulated]) -> dict[str, float]:
    right = [float(_is_right(q, s)) for q, s in zip(p, held, strict=True)]
    calm = [float(np.argmax(q) == len(q) - 1) for q, s in zip(p, held, strict=True) if s.root < 0]
    missed = [float(np.argmax(q) == len(q) - 1) for q, s in zip(p, held, strict=True) if s.root >= 0]
    return {"ECE": round(calibration_error([float(q.max()) for q in p], right), 3),
            "none_recognised": round(float(np.mean(calm or [0.0])), 3),
            "none_wrongly": round(float(np.mean(missed or [0.0])), 3)}


def _by_fault(p: list[NDArray[np.float64]], held: list[Simulated]) -> dict[str, float]:
    found: dict[str, list[float]] = {}
    for q, s in zip(p, held, strict=True):
        found.setdefault(s.fault, []).append(float(_is_right(q, s)))
    return {fault: round(float(np.mean(hits)), 2) for fault, hits in sorted(found.items())}


def _revision() -> str:
    done = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    return done.stdout.strip()
