"""Fitting the zero-shot weights: `opsmend train rootcause-alerts --data DIR` over labelled sets, one member each."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rootcause.alerts.case import KINDS, AlertCase
from rootcause.alerts.features import PLAIN_FEATURES, plain_table
from rootcause.alerts.history import history_of
from rootcause.alerts.listwise import fit_listwise, sharpened
from rootcause.alerts.rankers import MODEL, load_members

Floats = NDArray[np.float64]
RIDGE = 0.3


def prior_weights() -> Floats:
    """What is believed before any labelled incident: a call that only its caller found slow or failed was lost at the
    callee. Systems whose traces don't tell a caller's part of a call from others never show one: no labels of theirs
    can teach it, and it must not be unlearnt from them."""
    out = np.zeros(PLAIN_FEATURES)
    out[[k for k, kind in enumerate(KINDS) if kind.startswith("lost.")]] = 1.0
    return out


def tables_of(cases: Sequence[AlertCase]) -> list[Floats]:
    """The features of each case, its history being the other ones of the sequence (all of one system)."""
    history = history_of(cases)
    out = []
    for case in cases:
        with history.without(case) as said:
            out.append(plain_table(case, said, history))
    return out


def train_alerts(systems: Mapping[str, tuple[Sequence[AlertCase], Sequence[int]]], out: Path = MODEL) -> dict[str, Any]:
    """`systems`: cases and the index of each root among its instances. Writes the model card with the weights and
    returns it. Raises ValueError where there is no case."""
    members = []
    for system, (cases, roots) in sorted(systems.items()):
        tables = tables_of(cases)
        weights = sharpened(tables, roots, fit_listwise(tables, roots, ridge=RIDGE, prior=prior_weights()))
        members.append({"trained_on": system, "cases": len(cases), "weights": [round(float(w), 5) for w in weights]})
    if not members:
        raise ValueError("no labelled case to fit on")
    card: dict[str, Any] = {
        "model": "rootcause-alerts", "version": "alerts-2", "ridge": RIDGE,
        "data": "labelled alert sets, one member per system; a member is never used on its own system",
        "members": members}
    out.write_text(json.dumps(card, indent=1) + "\n")
    load_members.cache_clear()
    return card
