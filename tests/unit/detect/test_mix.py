"""The mix of what a service does: the same numbers live as in recorded cases, bounded, and the same after a restart."""

from __future__ import annotations

from collections import Counter

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detect.mix import Mix, apart
from opsmend.evaluate import rca_modalities

S = 10**9
counts = st.dictionaries(st.sampled_from("abcdef"), st.integers(1, 500), max_size=6)


@given(counts, counts, st.integers(1, 1000), st.integers(1, 1000))
def test_it_is_what_recorded_cases_are_read_as(found: dict[str, int], usual: dict[str, int], size: int, of: int) -> None:
    recorded = rca_modalities._apart(Counter({(k, ""): n for k, n in found.items()}),
                                     Counter({(k, ""): n for k, n in usual.items()}), size, of)
    assert apart(found, usual, size, of) == pytest.approx(recorded, abs=1e-12)


def run(mix: Mix, buckets: range, kinds: dict[str, int], size: int = 100) -> dict[str, tuple[float, float]]:
    told: dict[str, tuple[float, float]] = {}
    for n in buckets:
        told = mix.step(n * 10 * S, {"cart": kinds}, {"cart": size})
    return told


def test_nothing_is_said_before_something_is_usual() -> None:
    mix = Mix()
    assert run(mix, range(1, 25), {"a": 90, "b": 10}) == {}
    assert run(mix, range(25, 40), {"a": 90, "b": 10})["cart"] == pytest.approx((1.0, 0.0))


def test_another_path_shows_though_the_number_of_spans_does_not_change() -> None:
    mix = Mix()
    run(mix, range(1, 60), {"redis\x1fGET": 90, "pg\x1fSELECT": 10})
    per_request, far = run(mix, range(60, 66), {"redis\x1fGET": 45, "pg\x1fSELECT": 55})["cart"]
    assert per_request == 1.0 and far > 2.0
    mix = Mix()
    run(mix, range(1, 60), {"redis\x1fGET": 90, "pg\x1fSELECT": 10})
    per_request, far = run(mix, range(60, 66), {"redis\x1fGET": 9, "pg\x1fSELECT": 1})["cart"]
    assert per_request == 0.1 and far > 1.0, "requests that end early"


def test_twice_the_load_is_the_same_mix() -> None:
    mix = Mix()
    run(mix, range(1, 60), {"a": 90, "b": 10})
    assert run(mix, range(60, 66), {"a": 180, "b": 20}, 200)["cart"] == pytest.approx((1.0, 0.0))


def test_a_template_that_became_part_of_another_is_no_change() -> None:
    mix = Mix()
    run(mix, range(1, 60), {"a": 50, "old": 50})
    mix.rename([("", "old", "new")])
    assert run(mix, range(60, 66), {"a": 50, "new": 50})["cart"][1] == pytest.approx(0.0)


def test_a_lasting_change_becomes_usual() -> None:
    mix = Mix()
    run(mix, range(1, 60), {"a": 90, "b": 10})
    assert run(mix, range(60, 66), {"a": 10, "b": 90})["cart"][1] > 1.5
    assert run(mix, range(66, 3000), {"a": 10, "b": 90})["cart"][1] < 0.5


def test_kinds_are_bounded() -> None:
    mix = Mix()
    for n in range(1, 200):
        mix.step(n * 10 * S, {"cart": {f"GET /{n}-{i}": 1 for i in range(50)}}, {"cart": 50})
    assert len(mix) <= 501


def test_a_restored_mix_goes_on_with_the_same_numbers() -> None:
    one, other = Mix(), Mix()
    run(one, range(1, 70), {"a": 90, "b": 10})
    other.load(msgspec.msgpack.decode(msgspec.msgpack.encode(one.dump())))
    for n in range(70, 120):
        kinds = {"a": 30 + n % 7, "c": 20}
        assert one.step(n * 10 * S, {"cart": kinds}, {"cart": 50}) == other.step(n * 10 * S, {"cart": kinds}, {"cart": 50})
