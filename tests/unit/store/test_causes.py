"""Confirmed causes: the newest word per incident, with a window that comes back as it was, and not for ever."""

from __future__ import annotations

import numpy as np
import pytest
import sqlalchemy as sa

from detect.types import Incident, Observations, Signal
from ingest.types import SeriesKey
from opsmend.causes import ConfirmedCause, Culprit, packed, targets_of, told_apart, unpacked, window_of
from opsmend.store import causes
from opsmend.store.causes import CauseLog
from rootcause.simulate import simulate
from rootcause.types import CaseWindow, ServiceGraph, Suspect

S = 10**9
T = 1_795_530_200 * S


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


def seen_of(*series: SeriesKey) -> Observations:
    ts_ns = np.arange(T - 200 * S, T + 100 * S, 2 * S)
    return Observations(ts_ns, series, np.ones((len(ts_ns), len(series))))


def test_what_was_not_seen_then_is_refused_and_hosts_are_told_from_services() -> None:
    sign = Signal("s", "t", "d", "latency", "cart", T, T, 0.9, "k")
    incident = Incident("i", "t", "f", T, T, "open", "warning", "cart", ("cart",), (sign,), (), T)
    graph = ServiceGraph(("cart", "db"), frozenset({("cart", "db")}), kinds={"node-7": "host"},
                         rests_on=frozenset({("cart", "node-7")}), instances={"cart": {"cart-1": "node-7"}})
    seen = seen_of(SeriesKey("cart", "process.up", "cart-2"), SeriesKey("db", "process.up"))
    before = (Suspect("node-3", 0.8, kind="host"), Suspect("cart", 0.1, instances=("cart-0",)))

    def said(*culprits: Culprit) -> ConfirmedCause:
        return ConfirmedCause.of("i", told_apart(culprits, graph, before), "ana", T)

    for fine in ((Culprit("node-7"),), (Culprit("node-3"), Culprit("db")), (Culprit("cart", "db"),), (),
                 *((Culprit("cart", instance=f"cart-{n}"),) for n in range(3))):
        window_of(incident, graph, seen, (), said(*fine), before)
    assert [c.kind for c in said(Culprit("node-7"), Culprit("node-3"), Culprit("cart")).culprits] == ["host", "host", ""]
    assert said(Culprit("db"), Culprit("db")).also == (), "who is named twice counts once"
    for wrong, why in ((Culprit("node-9"), "no host"), (Culprit("db", "cart"), "no calls"),
                       (Culprit("cart", instance="x"), "no instance"),
                       (Culprit("node-7", "cart"), "calls nobody"), (Culprit("cart", "db", "cart-1"), "not of calls")):
        with pytest.raises(ValueError, match=why):
            window_of(incident, graph, seen, (), said(Culprit("cart"), wrong), before)


def test_what_is_learned_from_has_no_rows_of_an_incident_before_it() -> None:
    def incident(name: str, at_ns: int, *, closed_ns: int = 0) -> Incident:
        sign = Signal(name, "t", "d", "latency", "cart", at_ns, at_ns, 0.9, "k", is_open=not closed_ns)
        return Incident(name, "t", "f", at_ns, at_ns, "closed" if closed_ns else "open", "warning", "cart", ("cart",), (sign,),
                        (), at_ns, closed_ns)

    graph, seen = ServiceGraph(("cart",), frozenset()), seen_of(SeriesKey("cart", "http.server.latency_p95_seconds"))
    before = incident("before", T - 100 * S, closed_ns=T - 40 * S)
    learned = window_of(incident("i", T), graph, seen, (), word(0), others=[before])
    usual = (learned.ts_ns[:learned.baseline_rows] - T) // S
    assert usual.min() == -200 and not ((usual >= -103) & (usual <= -40)).any()
    assert len(window_of(incident("i", T), graph, seen, (), word(0)).ts_ns) == len(learned.ts_ns) + 32


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
