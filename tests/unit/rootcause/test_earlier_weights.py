"""Going on from weights that know fewer columns."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from ingest.errors import OpsmendError
from ingest.types import Change
from rootcause.earlier_weights import earlier_members, widened
from rootcause.features import ADDED_COLUMNS, NODE_FEATURES, case_features
from rootcause.novelty import ALL_TOGETHER
from rootcause.rankers.gnn import MODELS_DIR
from rootcause.simulate import simulate
from rootcause.train import TrainConfig, train_rootcause
from rootcause.types import CaseWindow

_KNOWN = [k for k in range(NODE_FEATURES) if k not in set(ADDED_COLUMNS)]
_NEW = ("disk", "space", "self_time")


def without(case: CaseWindow) -> CaseWindow:
    """What version 6 would have seen."""
    return replace(case, node_metrics={k: v for k, v in case.node_metrics.items() if k not in _NEW},
                   changes=tuple(c for c in case.changes if c.kind != "scale"))


def test_added_columns_are_those_that_the_new_channels_move() -> None:
    case = without(simulate(np.random.default_rng(3)).case)
    rng = np.random.default_rng(4)
    shape = (len(case.ts_ns), len(case.services))
    full = replace(case, node_metrics={**case.node_metrics, **{name: rng.lognormal(0, 0.3, shape) for name in _NEW}},
                   changes=(*case.changes, *(Change(int(case.ts_ns[case.baseline_rows]), case.services[0], "scale", a, b, "hpa")
                                             for a, b in (("1", "3"), ("5", "2")))))
    few, many = case_features(case).node, case_features(full).node
    moved = set(np.flatnonzero(np.abs(few - many).max(axis=0) > 0).tolist())
    of_all = set(range(NODE_FEATURES - ALL_TOGETHER, NODE_FEATURES))  # how loud everything is together
    assert len(moved - of_all - set(ADDED_COLUMNS)) <= 3, "but for which service was unusual first, in whatever it is"
    assert {ADDED_COLUMNS[-2], ADDED_COLUMNS[-1]} <= moved
    assert len(moved & set(ADDED_COLUMNS)) > 20
    assert not few[:, list(ADDED_COLUMNS)].any()


def test_wider_weights_say_what_they_said_where_nothing_new_is_seen() -> None:
    weight = torch.randn(4, len(_KNOWN), generator=torch.Generator().manual_seed(1))
    node = case_features(without(simulate(np.random.default_rng(5)).case)).node
    said = torch.from_numpy(node[:, _KNOWN]) @ weight.T
    assert torch.allclose(torch.from_numpy(node) @ widened(weight).T, said, atol=1e-4)
    assert widened(widened(weight)).equal(widened(weight))


def test_weights_of_another_width_are_refused_in_words() -> None:
    with pytest.raises(OpsmendError, match="without --from"):
        widened(torch.zeros(2, 17))


def test_training_goes_on_from_earlier_weights_and_names_them(tmp_path: Path) -> None:
    old = tmp_path / "old"
    old.mkdir()
    tensors = load_file(MODELS_DIR / "rootcause.safetensors")
    kept = {k: v for k, v in tensors.items() if k.startswith(("0/", "1/"))}
    for member in "01":
        kept[f"{member}/lift.0.weight"] = kept[f"{member}/lift.0.weight"][:, _KNOWN].contiguous()
    save_file(kept, old / "rootcause.safetensors")
    (old / "rootcause.json").write_text('{"version": "rootcause-6-9"}')
    sizes = TrainConfig(graphs=32, epochs=1, members=2, calibration=8, held_out=8, workers=0, learning_rate=1e-5, start=old)
    card = train_rootcause(old, seed=2, progress=False, config=sizes)  # into the same directory
    assert card["went_on_from"] == "rootcause-6-9"
    now = earlier_members(old)
    assert len(now) == 2
    before = kept["1/lift.0.weight"]
    assert torch.allclose(now[1]["lift.0.weight"][:, _KNOWN], before, atol=1e-3)
    assert not torch.equal(now[1]["lift.0.weight"][:, _KNOWN], before)


@pytest.mark.parametrize(("width", "says"), [(NODE_FEATURES, "1 members, 2 are wanted"), (17, "weights of 17 columns")])
def test_weights_that_cannot_be_gone_on_from_are_refused_before_anything_is_simulated(tmp_path: Path, width: int,
                                                                                       says: str) -> None:
    save_file({"0/lift.0.weight": torch.zeros(2, width)}, tmp_path / "rootcause.safetensors")
    (tmp_path / "rootcause.json").write_text('{"version": "rootcause-6-9"}')
    endless = TrainConfig(graphs=10**9, members=2, workers=0, start=tmp_path)
    with pytest.raises(OpsmendError, match=says):
        train_rootcause(tmp_path / "new", progress=False, config=endless)
    assert not (tmp_path / "new").exists()
