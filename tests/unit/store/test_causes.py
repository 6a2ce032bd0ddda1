"""Confirmed causes: the newest word per incident, with a window that comes back as it was, and not for ever."""

from __future__ import annotations

import numpy as np
import pytest
import sqlalchemy as sa

from opsmend.causes import ConfirmedCause, packed, targets_of, unpacked
from opsmend.store import causes
from opsmend.store.causes import CauseLog
from rootcause.simulate import simulate
from rootcause.types import CaseWindow


def window(seed: int = 0) -> CaseWindow:
    return simulate(np.random.default_rng(seed)).case


def word(n: int, service: str = "cart", peer: str = "") -> ConfirmedCause:
    return ConfirmedCause(f"i{n}", service, peer, "ana <b>", 7 + n)


def test_a_window_comes_back_as_it_was() -> None:
    for seed in range(6):
        one = window(seed)
        two = unpacked(packed(one))
        assert (two.services, two.baseline_rows, two.changes, two.signals) == (
            one.services, one.baseline_rows, one.changes, one.signals)
        assert two.ts_ns.tolist() == one.ts_ns.tolist() and two.edges.tolist() == one.edges.tolist()
        for before, after in ((one.node_metrics, two.node_metrics), (one.edge_metrics, two.edge_metrics)):
            known = {name for name, table in before.items() if np.isfinite(table).any()}
            assert set(after) == known
            assert all(np.array_equal(before[name], after[name], equal_nan=True) for name in known)


def test_a_call_is_a_candidate_behind_the_services() -> None:
    one = window()
    caller, callee = (one.services[i] for i in one.edges[1])
    assert targets_of(word(0, caller, callee), one) == (len(one.services) + 1,)
    assert targets_of(word(0, callee), one) == (one.services.index(callee),)


def test_the_newest_word_counts_and_the_log_is_bounded(engine: sa.Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    log = CauseLog(engine)
    assert log.get("i0") is None and log.all() == []
    for service in ("cart", "db"):
        log.put(word(0, service), window())
    assert log.get("i0") == word(0, "db")
    monkeypatch.setattr(causes, "_KEPT", 3)
    for n in range(1, 6):
        log.put(word(n), window(n))
    assert [cause.incident_id for cause, _ in log.all()] == ["i3", "i4", "i5"]
