"""Weights of an earlier version in networks that know more columns: `opsmend train rootcause --from DIR`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ingest.errors import OpsmendError
from rootcause.features import ADDED_COLUMNS, NODE_FEATURES

if TYPE_CHECKING:
    from torch import Tensor

_FIRST = "lift.0.weight"


def earlier_members(directory: Path) -> list[dict[str, Tensor]]:
    """The members there, each with a weight of zero for every column that it does not know: until it has learned of them it
    says what it said. Raises OSError where there are none, OpsmendError where they are of neither version."""
    from safetensors.torch import load_file

    members: dict[str, dict[str, Tensor]] = {}
    for name, value in load_file(str(directory / "rootcause.safetensors")).items():
        member, part = name.split("/", 1)
        members.setdefault(member, {})[part] = widened(value) if part == _FIRST else value
    return [members[member] for member in sorted(members, key=int)]


def widened(weight: Tensor) -> Tensor:
    """[h, NODE_FEATURES] of [h, columns of version 6 or of this one]. Raises OpsmendError for another width."""
    import torch

    added = set(ADDED_COLUMNS)
    known = [k for k in range(NODE_FEATURES) if k not in added]
    if weight.shape[1] == NODE_FEATURES:
        return weight
    if weight.shape[1] != len(known):
        raise OpsmendError(f"train: weights of {weight.shape[1]} columns, neither {NODE_FEATURES} nor {len(known)}: "
                           "train from nothing, without --from", reason="other_weights")
    out = torch.zeros(weight.shape[0], NODE_FEATURES)
    out[:, known] = weight
    return out
