"""Tuned weights on disk: never in place of the shipped ones, and of no use beside others than they were made from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rootcause.rankers.gnn import MODELS_DIR, load_weights

if TYPE_CHECKING:
    from torch import Tensor


def fingerprint(directory: Path = MODELS_DIR) -> str:
    """Of the weights there: tuned ones are of no use beside others than they were made from. Raises OSError."""
    return hashlib.sha256((directory / "rootcause.safetensors").read_bytes()).hexdigest()[:16]


def tuned_card(base: Path, seed: int, data: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """The card of the base with what is different now."""
    shipped = json.loads((base / "rootcause.json").read_text())
    print_of = fingerprint(base)
    mark = hashlib.sha256(json.dumps([print_of, seed, data, dict(config)]).encode()).hexdigest()[:8]
    return {**{k: shipped[k] for k in ("model", "members", "temperature", "none_bias", "trust") if k in shipped},
            "version": f"{shipped['version']}+{mark}", "base": shipped["version"], "base_fingerprint": print_of,
            "seed": seed, "data": data, "config": dict(config)}


def write(members: Sequence[Mapping[str, Tensor]], card: dict[str, Any], out_dir: Path) -> None:
    """Both files, the card last: a directory without one is not read. Raises ValueError for the shipped directory."""
    if out_dir.resolve() == MODELS_DIR.resolve():
        raise ValueError("tuned weights never replace the shipped ones")
    from safetensors.torch import save_file

    out_dir.mkdir(parents=True, exist_ok=True)
    tensors = {f"{n}/{name}": value for n, state in enumerate(members) for name, value in state.items()}
    (out_dir / "rootcause.json").unlink(missing_ok=True)
    save_file(tensors, str(out_dir / "rootcause.safetensors"))
    (out_dir / "rootcause.json").write_text(json.dumps(card, indent=2) + "\n")
    load_weights.cache_clear()
