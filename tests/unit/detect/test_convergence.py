"""Which signals are one incident: connected by calls and close in onset; ids that stay; ends that come."""

from __future__ import annotations

import itertools

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detect.convergence.converge import Convergence, ConvergenceConfig
from detect.types import Breach, Incident, Signal, SignalKind

S = 10**9
CALLS = frozenset({("front", "cart"), ("front", "orders"), ("orders", "db"), ("mail", "smtp")})


def signal(service: str, start: int, kind: SignalKind = "error_ratio", *, score: float = 0.8, is_open: bool = True,
           key: str = "") -> Signal:
    return Signal(f"{service}-{kind}-{key}-{start}", "t", "d", kind, service, start * S, start * S, score,
                  key or f"{kind}|{service}", is_open=is_open)


def play(steps: dict[int, list[Signal]], until: int, config: ConvergenceConfig | None = None) -> list[Incident]:
    """The newest state of every incident after `until` seconds, in the order of opening."""
    convergence = Convergence(config or ConvergenceConfig(), "t")
    seen: dict[str, Incident] = {}
    for t in range(until):
        seen.update((i.id, i) for i in convergence.step(t * S, steps.get(t, []), CALLS))
    return sorted(seen.values(), key=lambda i: (i.opened_ns, i.id))


def test_a_fault_and_what_its_callers_feel_are_one_incident() -> None:
    (incident,) = play({5: [signal("orders", 4)], 6: [signal("front", 5)], 8: [signal("db", 7, "lock_wait")]}, 10)
    assert incident.services == ("db", "front", "orders")
    assert {m.why for m in incident.members} == {"started it", "caller of orders, 1 s later", "called by orders, 3 s later"}


def test_two_faults_in_systems_that_no_call_connects_are_two() -> None:
    found = play({5: [signal("cart", 4), signal("smtp", 4)], 6: [signal("front", 5), signal("mail", 5)]}, 10)
    assert [i.services for i in found] == [("cart", "front"), ("mail", "smtp")] or [
        i.services for i in found] == [("mail", "smtp"), ("cart", "front")]


def test_two_callees_that_only_share_a_caller_are_one_fault_at_the_same_moment_alone() -> None:
    found = play({5: [signal("cart", 4), signal("orders", 4)]}, 10)
    assert [i.services for i in found] == [("cart", "orders")]
    found = play({5: [signal("cart", 4)], 18: [signal("orders", 17)]}, 20)
    assert sorted({i.services for i in found}) == [("cart",), ("orders",)]


def test_a_weak_signal_alone_opens_nothing() -> None:
    assert play({5: [signal("cart", 4, "traffic", score=0.4)]}, 20) == []


def test_it_closes_when_it_is_over_and_a_later_fault_is_a_new_one() -> None:
    first, over = signal("cart", 4), signal("cart", 4, is_open=False)
    again = signal("cart", 60, key="again")
    found = play({5: [first], 20: [over], 61: [again]}, 70)
    assert [i.state for i in found] == ["closed", "open"]
    assert found[0].id != found[1].id


def test_a_level_that_stays_does_not_keep_it_open_nor_open_the_next() -> None:
    full, level = signal("db", 4, "cache_full"), signal("db", 5, "memory", score=0.6)
    over = signal("db", 4, "cache_full", is_open=False)
    found = play({5: [full], 6: [level], 20: [over]}, 60)
    assert [i.state for i in found] == ["closed"]


def test_a_level_alone_is_an_incident_as_long_as_it_lasts() -> None:
    (incident,) = play({5: [signal("db", 4, "memory", score=0.6)]}, 60)
    assert incident.state == "open"


def test_a_signal_long_after_the_last_onset_does_not_join_an_incident_that_drags_on() -> None:
    config = ConvergenceConfig(join_seconds=30)
    found = play({5: [signal("orders", 4)], 100: [signal("front", 99)]}, 110, config)
    assert [i.services for i in found] == [("orders",), ("front",)]


def test_a_new_fault_next_to_a_level_that_stays_is_one_of_its_own() -> None:
    level = signal("db", 4, "memory", score=0.6)
    found = play({5: [level], 70: [signal("orders", 69, "log_rate")]}, 80)
    assert [i.services for i in found] == [("db",), ("orders",)]
    found = play({5: [level], 70: [signal("db", 69, "latency")], 71: [signal("orders", 70)]}, 80)
    assert [i.services for i in found] == [("db", "orders")], "at the same place it is the same trouble"


@pytest.mark.parametrize(("at_limit", "incidents"), [(60, 1), (600, 2)])
def test_what_begins_when_a_limit_may_be_reached_was_foretold(at_limit: int, incidents: int) -> None:
    ahead = Breach("db.pool.in_use", 20.0, "up", at_limit * S, 2 * at_limit * S, 3 * at_limit * S, 0.9, 14.0, 0.1)
    warned = msgspec.structs.replace(signal("db", 4, "breach", score=0.6), breach=ahead)
    assert len(play({5: [warned], 70: [signal("orders", 69)]}, 80)) == incidents


@pytest.mark.parametrize(("first", "second"), [("cart", "orders"), ("orders", "cart")])
def test_a_caller_of_two_joins_the_incident_that_began_last(first: str, second: str) -> None:
    found = play({5: [signal(first, 4)], 41: [signal(second, 40)], 76: [signal("front", 75)]}, 80)
    assert [i.services for i in found] == [(first,), tuple(sorted((second, "front")))]


def test_repeats_of_one_signal_are_folded() -> None:
    steps = {t: [signal("cart", 4)] for t in range(5, 60)}
    (incident,) = play(steps, 60)
    assert len(incident.signals) == 1


def test_a_storm_of_ten_thousand_is_bounded() -> None:
    storm = [signal("cart", 4 + n % 3, "alert", key=str(n)) for n in range(10_000)]
    (incident,) = play({8: storm}, 10, ConvergenceConfig(max_members=500))
    assert len(incident.signals) == 500


@pytest.mark.parametrize("cut", [3, 6, 9])
def test_state_goes_on_after_dump_and_load(cut: int) -> None:
    import msgspec

    steps = {5: [signal("orders", 4)], 6: [signal("front", 5)], 8: [signal("db", 7, "lock_wait")],
             12: [signal("orders", 4, is_open=False)]}
    whole, part = Convergence(ConvergenceConfig(), "t"), Convergence(ConvergenceConfig(), "t")
    for t in range(30):
        if t == cut:
            state = msgspec.msgpack.decode(msgspec.msgpack.encode(part.dump()))
            part = Convergence(ConvergenceConfig(), "t")
            part.load(state)
        assert whole.step(t * S, steps.get(t, []), CALLS) == part.step(t * S, steps.get(t, []), CALLS)


@settings(max_examples=60, deadline=None)
@given(st.permutations([signal("orders", 4), signal("front", 5), signal("db", 7, "lock_wait"), signal("cart", 5),
                        signal("smtp", 6)]))
def test_the_order_within_a_bucket_does_not_matter(signals: list[Signal]) -> None:
    def described(found: list[Incident]) -> list[tuple[str, frozenset[str]]]:
        return sorted((i.id, frozenset(s.id for s in i.signals)) for i in found)

    expected = described(play({8: sorted(signals, key=lambda s: s.id)}, 9))
    assert described(play({8: list(signals)}, 9)) == expected


def test_every_open_signal_is_in_at_most_one_incident() -> None:
    services = ["front", "cart", "orders", "db", "mail", "smtp"]
    steps = {t: [signal(s, t - 1, key=f"{s}{t}")] for t, s in zip(range(5, 40, 3), itertools.cycle(services), strict=False)}
    found = play(steps, 45)
    members = [m.signal_id for i in found if i.state != "merged" for m in i.members]
    assert len(members) == len(set(members))
