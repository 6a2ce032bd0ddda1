"""Fitting the zero-shot weights: `opsmend train rootcause-alerts --data DIR` over labelled sets, one member each."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rootcause.alerts.case import AlertCase, told
from rootcause.alerts.features import plain_table, rich_table
from rootcause.alerts.history import history_of
from rootcause.alerts.listwise import fit_listwise, sharpened
from rootcause.alerts.rankers import MODEL, load_members

Floats = NDArray[np.float64]
RIDGE = 0.3


def tables_of(cases: Sequence[AlertCase], *, is_rich: bool = False) -> list[Floats]:
    """The features of each case, its history being the other ones of the sequence (all of one system)."""
    said = [told(case) for case in cases]
    history = history_of(said)
    out = []
    for case, one in zip(cases, said, strict=True):
        history.add(one, -1)
        out.append((rich_table if is_rich else plain_table)(case, one, history))
        history.add(one)
    return out


def train_alerts(systems: Mapping[str, tuple[Sequence[AlertCase], Sequence[int]]], out: Path = MODEL) -> dict[str, Any]:
    """`systems`: cases and the index of each root among its instances. Writes the model card with the weights and
    returns it. Raises ValueError where there is no case."""
    members = []
    for system, (cases, roots) in sorted(systems.items()):
        tables = tables_of(cases)
        weights = sharpened(tables, roots, fit_listwise(tables, roots, ridge=RIDGE))
        members.append({"trained_on": system, "cases": len(cases), "weights": [round(float(w), 5) for w in weights]})
    if not members:
        raise ValueError("no labelled case to fit on")
    card: dict[str, Any] = {
        "model": "rootcause-alerts", "version": "alerts-1", "ridge": RIDGE,
        "data": "labelled alert sets, one member per system; a member is never used on its own system",
        "members": members}
    out.write_text(json.dumps(card, indent=1) + "\n")
    load_members.cache_clear()
    return card
