"""The stage: when it may speak, and what it gives as reasons."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from detect.types import Evidence, Incident, Observations, Signal
from ingest.errors import OpsmendError
from ingest.types import Change, SeriesKey
from rootcause.graph import graph_hash
from rootcause.stage import RootCause, RootCauseConfig
from rootcause.types import Diagnosis, ServiceGraph

S = 10**9
GRAPH = ServiceGraph(("gateway", "orders", "payments"), frozenset({("gateway", "orders"), ("orders", "payments")}),
                     frozenset({"payments"}))
ONSET = 100


def signal(service: str, kind: str, at: int, score: float = 0.9, peer: str = "") -> Signal:
    text = "its process is gone" if kind == "process.down" else "error ratio 100%"
    return Signal(f"{service}{peer}{kind}", "t", "d", kind, service, at * S, at * S, score,  # type: ignore[arg-type]
                  f"{service}{kind}", peer=peer, evidence=(Evidence(text),))


def incident(*signals: Signal) -> Incident:
    first = min((s.start_ns for s in signals), default=ONSET * S)
    return Incident("i", "t", "f", first, first, "open", "critical", "", tuple(sorted({s.service for s in signals})),
                    signals, (), first)


def seen(down_at: int | None = None, rows: int = 110) -> Observations:
    rng = np.random.default_rng(0)
    keys, columns = [], []
    for service in GRAPH.services:
        failed = np.clip(rng.normal(0, 0.001, rows), 0, 1)
        up = np.ones(rows)
        latency = 0.05 * rng.lognormal(0, 0.1, rows)
        if down_at is not None and service != "payments":
            failed[down_at:] = 1.0
        if down_at is not None and service == "payments":
            up[down_at:], failed[down_at:], latency[down_at:] = 0.0, np.nan, np.nan
        keys += [SeriesKey(service, "process.up"), SeriesKey(service, "http.server.error_ratio"),
                 SeriesKey(service, "http.server.latency_p95_seconds")]
        columns += [up, failed, latency]
    return Observations(np.arange(rows, dtype=np.int64) * S, tuple(keys), np.array(columns).T)


def diagnose(signals: list[Signal], observed: Observations, changes: tuple[Change, ...] = (),
             config: RootCauseConfig | None = None) -> Diagnosis:
    return RootCause(config).diagnose(incident(*signals), GRAPH, observed, changes, 110 * S)


DOWN = [signal("payments", "process.down", ONSET), signal("orders", "error_ratio", ONSET + 2),
        signal("gateway", "error_ratio", ONSET + 2), signal("orders", "error_ratio", ONSET + 2, peer="payments")]


def test_dead_callee_is_named_with_path_and_reasons() -> None:
    diagnosis = diagnose(DOWN, seen(ONSET))
    first = diagnosis.suspects[0]
    assert first.service == "payments"
    assert not diagnosis.cannot_tell
    assert first.path == ("payments", "orders", "gateway")
    assert first.signal_kinds == ("process.down",)
    texts = [e.text for e in first.evidence]
    assert "its process is gone" in texts
    assert "calls to it from orders fail or are slow" in texts
    assert any(t.startswith("its first sign came 2 s before those of its callers orders") for t in texts)
    assert any(not e.is_for and "not ours to repair" in e.text for e in first.evidence)
    assert diagnosis.graph_hash == graph_hash(GRAPH)
    assert diagnosis.model_version


@pytest.mark.parametrize(("change", "said"), [
    (Change(40 * S, "payments", "scale", "1", "5", "ana"), "scaled from 5 to 1 60 s before the first sign"),
    (Change(40 * S, "payments", "scale"), "scaled to another size 60 s before the first sign"),
    (Change(105 * S, "payments", "scale", "1", "5"), ""),
    (Change(40 * S, "payments", "scale", "1", "5", "opsmend"), ""),
    (Change(40 * S, "orders", "scale", "1", "5"), "")])
def test_a_change_of_size_is_a_fact_and_nothing_to_roll_back(change: Change, said: str) -> None:
    first = diagnose(DOWN, seen(ONSET), (change,)).suspects[0]
    assert first.service == "payments" and first.change is None
    assert [e.text for e in first.evidence if e.text.startswith("scaled")] == ([said] if said else [])


def test_probabilities_add_up() -> None:
    diagnosis = diagnose(DOWN, seen(ONSET))
    total = diagnosis.p_none + sum(s.probability for s in diagnosis.suspects)
    assert 0.97 <= total <= 1.0 + 1e-6
    ordered = [s.probability for s in diagnosis.suspects]
    assert ordered == sorted(ordered, reverse=True)


@pytest.mark.parametrize("observed", [
    Observations(np.zeros(0, np.int64), (), np.zeros((0, 0))),
    Observations(np.arange(50, dtype=np.int64) * S, (), np.zeros((50, 0))),  # ends before the first sign
    Observations(np.arange(105, 110, dtype=np.int64) * S, (), np.zeros((5, 0)))])  # nothing before it
def test_nothing_observed_cannot_tell(observed: Observations) -> None:
    diagnosis = diagnose(DOWN, observed)
    assert diagnosis.cannot_tell
    assert diagnosis.p_none == 1.0
    assert diagnosis.suspects == ()


def test_a_weak_lonely_sign_cannot_tell() -> None:
    assert diagnose([signal("gateway", "traffic", ONSET, 0.4)], seen()).cannot_tell


def test_what_is_over_is_shown_and_not_told_with_confidence() -> None:
    over = [msgspec.structs.replace(s, is_open=False) if "payments" in (s.service, s.peer) else s for s in DOWN]
    diagnosis = diagnose(over, seen(ONSET))
    assert diagnosis.suspects[0].service == "payments"
    assert diagnosis.cannot_tell


def test_margin_decides() -> None:
    strict = RootCauseConfig(margin=1.1)
    assert diagnose(DOWN, seen(ONSET), config=strict).cannot_tell


def test_change_before_the_first_sign_is_evidence_and_later_undone() -> None:
    signals = [signal("orders", "error_ratio", ONSET), signal("gateway", "error_ratio", ONSET)]
    deployed = Change((ONSET - 20) * S, "orders", "rollout", "v2", "v1", "deployer")
    undone = Change((ONSET + 5) * S, "orders", "rollout", "v1", "v2", "opsmend")
    observed = seen()
    observed.values[ONSET:, [1, 4]] = 0.8  # errors of gateway and orders
    with_change = next(s for s in diagnose(signals, observed, (deployed,)).suspects if s.service == "orders")
    assert with_change.change == deployed
    assert "release v2 20 s before the first sign" in [e.text for e in with_change.evidence]
    rolled_back = next(s for s in diagnose(signals, observed, (deployed, undone)).suspects if s.service == "orders")
    assert rolled_back.change is None


def test_old_changes_and_our_own_are_not_held_against_a_service() -> None:
    signals = [signal("orders", "error_ratio", ONSET), signal("gateway", "error_ratio", ONSET)]
    ours = Change((ONSET - 20) * S, "orders", "rollout", "v2", "v1", "opsmend")
    observed = seen()
    observed.values[ONSET:, [1, 4]] = 0.8
    assert all(s.change is None for s in diagnose(signals, observed, (ours,)).suspects)


def test_same_input_same_diagnosis() -> None:
    assert diagnose(DOWN, seen(ONSET)) == diagnose(DOWN, seen(ONSET))


def test_unknown_ranker_is_refused_with_the_known_ones() -> None:
    with pytest.raises(OpsmendError, match="gnn") as refused:
        RootCause(RootCauseConfig(ranker="oracle"))
    assert refused.value.reason == "configuration"


@pytest.mark.parametrize("ranker", ["max_robust_z", "n_sigma", "regression", "personalised_pagerank", "random"])
def test_every_ranker_can_serve(ranker: str) -> None:
    diagnosis = diagnose(DOWN, seen(ONSET), config=RootCauseConfig(ranker=ranker))
    assert diagnosis.suspects
    assert 0.0 <= diagnosis.p_none <= 1.0
