"""Calls that are broken while both ends are well."""

from __future__ import annotations

import numpy as np

from ingest.types import Change
from rootcause.calls import broken_call, with_broken_call
from rootcause.types import CaseWindow, Ranking, Suspect

ROWS, BASE = 70, 60
EDGES = [(0, 1), (0, 2), (1, 3), (2, 3)]
NODES, CALLS = 4, 4


def window(slow_calls: tuple[int, ...] = (), slow: tuple[int, ...] = (), busy: tuple[int, ...] = (),
           changes: tuple[Change, ...] = (), silent: tuple[int, ...] = (), edges: list[tuple[int, int]] = EDGES) -> CaseWindow:
    rng = np.random.default_rng(0)
    node = {name: 0.1 * np.exp(rng.normal(0, 0.05, (ROWS, NODES))) for name in ("latency", "cpu")}
    edge = {"latency": 0.1 * np.exp(rng.normal(0, 0.05, (ROWS, len(edges))))}
    edge["latency"][BASE:, list(slow_calls)] += 1.0
    node["latency"][BASE:, list(slow)] += 1.0
    node["cpu"][BASE:, list(busy)] += 1.0
    node["latency"][:, list(silent)] = np.nan
    return CaseWindow(np.arange(ROWS, dtype=np.int64) * 10**9, tuple("abcd"), node, np.array(edges, dtype=np.int32), edge, BASE,
                      changes)


def test_one_slow_call_between_two_that_are_well_is_named() -> None:
    assert broken_call(window((2,), slow=(1,))) == 2  # b waits for d, d answers c as ever


def test_a_callee_that_is_slow_for_everybody_is_not_a_broken_call() -> None:
    assert broken_call(window((2, 3), slow=(1, 2, 3))) is None


def test_a_callee_or_caller_that_is_out_of_order_is_not_a_broken_call() -> None:
    assert broken_call(window((2,), slow=(1, 3))) is None
    assert broken_call(window((2,), slow=(1,), busy=(3,))) is None
    assert broken_call(window((2,), slow=(1,), busy=(1,))) is None


def test_a_caller_that_was_just_changed_is_not_excused() -> None:
    change = Change((BASE - 2) * 10**9, "b", "config", "v2", "v1", "deployer")
    assert broken_call(window((2,), slow=(1,), changes=(change,))) is None


def test_a_silent_callee_with_one_caller_cannot_be_told_from_the_way_to_it() -> None:
    edges = [(0, 1), (0, 2), (1, 3)]
    assert broken_call(window((2,), slow=(1,), silent=(3,), edges=edges)) is None
    assert broken_call(window((2,), slow=(1,), edges=edges)) == 2


def test_nothing_wrong_and_no_calls() -> None:
    assert broken_call(window()) is None
    assert broken_call(CaseWindow(np.arange(3), ("a",), {}, np.zeros((0, 2), np.int32), {}, 2)) is None


def test_the_network_names_the_call_where_it_is_surer_of_it_than_of_the_service() -> None:
    case, suspects = window(), (Suspect("d", 0.8), Suspect("a", 0.1))
    scores = np.array([0.1, 0.0, 0.0, 0.8])
    sure = with_broken_call(suspects, case, Ranking(scores, 0.1, calls=np.array([0.0, 0.0, 0.1, 0.6])))
    assert (sure[0].service, sure[0].peer, sure[0].probability) == ("c", "d", 0.8)
    assert sure[1:] == suspects[1:]
    assert with_broken_call(suspects, case, Ranking(scores, 0.1, calls=np.array([0.0, 0.0, 0.3, 0.3]))) == suspects
    assert with_broken_call(suspects, case, Ranking(scores, 0.1)) == suspects
    assert with_broken_call((), case, Ranking(scores, 0.1)) == ()
