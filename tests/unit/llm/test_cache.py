from typing import Any

import msgspec
import pytest

from llm.cache import ChoiceCache, cache_key
from llm.types import ChoiceRequest, Entity, Fact, Option

REQUEST = ChoiceRequest("c1", "p1", (Option("process.restart", "Restart", ("cart",)),),
                        (Entity("cart", "service", 0.8),), (Fact("cart", "hang", 0.9, 10.0, "t1", 1.0, 2.0),))


def changed(**fields: Any) -> ChoiceRequest:
    return msgspec.structs.replace(REQUEST, **fields)


@pytest.mark.parametrize("other", [
    changed(facts=(Fact("cart", "hang", 0.91, 99.0, "t1", 5.0, 6.0),)),  # the same incident a moment later
    ChoiceRequest("c1", "p1", (Option("process.restart", "Restart", ("orders",)),), (Entity("orders", "service", 0.81),),
                  (Fact("orders", "hang", 0.9, 10.0, "t1"),)),  # the same incident of another service
])
def test_volatile_things_do_not_change_the_key(other: ChoiceRequest) -> None:
    assert cache_key(other, "m") == cache_key(REQUEST, "m")


@pytest.mark.parametrize("other", [
    changed(catalogue_version="c2"), changed(policy_version="p2"),
    changed(facts=(Fact("cart", "hang", 0.9, 10.0, "t2"),)), changed(facts=(Fact("cart", "latency", 0.9, 10.0, "t1"),)),
    changed(options=(*REQUEST.options, Option("process.kill", "Kill", ("cart",)))),
    changed(options=(msgspec.structs.replace(REQUEST.options[0], trials=3),)), changed(facts=()),
])
def test_what_a_choice_depends_on_changes_the_key(other: ChoiceRequest) -> None:
    assert cache_key(other, "m") != cache_key(REQUEST, "m")


def test_the_model_is_part_of_the_key() -> None:
    assert cache_key(REQUEST, "a") != cache_key(REQUEST, "b")


def test_the_least_recently_used_goes_first() -> None:
    cache = ChoiceCache(max_entries=2)
    cache.put("a", "x", 0)
    cache.put("b", "x", 0)
    assert cache.get("a") == ("x", 0)
    cache.put("c", "x", 0)
    assert cache.get("b") is None and cache.get("a") is not None and len(cache) == 2
