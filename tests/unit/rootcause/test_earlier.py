"""An incident that was over before this one is no part of what is usual."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from detect.types import Incident, Observations, Signal
from ingest.types import SeriesKey
from rootcause.earlier import spans_over_before, usual_rows
from rootcause.stage import RootCause
from rootcause.types import ServiceGraph

S = 10**9
GRAPH = ServiceGraph(("gateway", "orders", "payments"), frozenset({("gateway", "orders"), ("orders", "payments")}))
ONSET = 500


def incident(name: str, first: int, last: int, *, kind: str = "latency", state: str = "closed", service: str = "orders",
             is_open: bool = False) -> Incident:
    signal = Signal(name, "t", "d", kind, service, first * S, last * S, 0.9, name, is_open=is_open)  # type: ignore[arg-type]
    return Incident(name, "t", "f", first * S, last * S, state, "critical", "", (service,), (signal,), (),  # type: ignore[arg-type]
                    first * S, (last + 10) * S if state == "closed" else 0)


NOW = incident("now", ONSET, ONSET + 9, state="open", is_open=True)
EARLIER = incident("earlier", 300, 440)


def seen(rows: int = ONSET + 10) -> Observations:
    """Latency of three services; the one of `orders` and its caller was five times as long in the earlier incident, and is
    two and a half times as long now."""
    rng = np.random.default_rng(0)
    values = 0.05 * rng.lognormal(0, 0.1, (rows, 3))
    values[300:440, :2] *= 5
    values[ONSET - 1:, :2] *= 2.5
    return Observations(np.arange(rows, dtype=np.int64) * S,
                        tuple(SeriesKey(s, "http.server.latency_p95_seconds") for s in GRAPH.services), values)


def test_rows_of_an_earlier_incident_are_left_out_and_older_ones_stand_in() -> None:
    usual = usual_rows(NOW, seen(), [EARLIER])
    before = usual.seen.ts_ns[usual.seen.ts_ns < ONSET * S] // S
    assert not ((before >= 297) & (before <= 450)).any()
    begin = ONSET - usual.baseline_seconds
    assert (before >= begin).sum() == 300, "as many as five minutes have, from further back"
    assert usual.seen.ts_ns[-1] == (ONSET + 9) * S


@pytest.mark.parametrize("other", [
    NOW,
    incident("going on", 300, ONSET + 9, state="open", is_open=True),
    incident("merged", 300, 440, state="merged"),
    incident("level", 300, 440, kind="memory"),
    incident("later", ONSET + 1, ONSET + 5)])
def test_what_goes_on_what_stays_for_good_and_what_came_later_leaves_the_rows_as_they_are(other: Incident) -> None:
    assert usual_rows(NOW, seen(), [other]).seen.ts_ns.tolist() == seen().ts_ns.tolist()
    assert spans_over_before(NOW, [other]) == []


def test_one_that_is_quiet_and_not_yet_closed_is_over() -> None:
    quiet = incident("quiet", 300, 440, state="open")
    assert spans_over_before(NOW, [quiet]) == [(297 * S, 450 * S)]


def test_one_that_closed_as_this_began_leaves_the_rows_of_this_one_alone() -> None:
    late = msgspec.structs.replace(EARLIER, closed_ns=(ONSET + 5) * S)
    usual = usual_rows(NOW, seen(), [late])
    assert usual.seen.ts_ns[-10:].tolist() == seen().ts_ns[-10:].tolist()


@pytest.mark.parametrize(("first", "is_masked"), [(420, True), (5, False)])
def test_where_too_few_rows_would_remain_all_count(first: int, is_masked: bool) -> None:
    usual = usual_rows(NOW, seen(), [incident("long", first, ONSET - 20)])
    assert (len(usual.seen.ts_ns) < len(seen().ts_ns)) == is_masked


def test_a_fainter_fault_after_a_loud_one_is_found() -> None:
    alone = RootCause().diagnose(NOW, GRAPH, seen(), (), (ONSET + 9) * S)
    with_past = RootCause().diagnose(NOW, GRAPH, seen(), (), (ONSET + 9) * S, [NOW, EARLIER])
    assert with_past.suspects[0].service == "orders"
    assert with_past.suspects[0].probability > alone.suspects[0].probability + 0.1
    assert with_past.p_none < alone.p_none


def test_without_a_row_in_the_last_minutes_older_ones_are_not_taken_instead() -> None:
    all_rows = seen()
    gap = (all_rows.ts_ns < 150 * S) | (all_rows.ts_ns >= ONSET * S)
    few = Observations(all_rows.ts_ns[gap], all_rows.series, all_rows.values[gap])
    usual = usual_rows(NOW, few, [incident("long ago", 100, 120)])
    assert usual.seen is few
    assert usual.baseline_seconds == 300
