"""Templates: equal shapes share an id, ids do not depend on order or shard, state is bounded and survives."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from detect.templates.masks import mask
from detect.templates.miner import MinerConfig, TemplateMiner


def test_what_varies_is_no_part_of_a_template() -> None:
    miner = TemplateMiner()
    lines = [f"user {n} paid order 8f{n:02d}aa00 of {n}.50 EUR from 10.0.0.{n}" for n in range(30)]
    ids = {miner.template_id(line) for line in lines}
    assert len(ids) == 1
    assert miner.text(ids.pop()) == "user <*> paid order <*> of <*> EUR from <*>"


def test_words_that_vary_join_and_other_sentences_do_not() -> None:
    miner = TemplateMiner()
    hosts = ["alpha", "beta", "gamma", "delta"]
    joined = {miner.template_id(f"connection to host {h} refused after timeout") for h in hosts}
    other = miner.template_id("payment of customer failed: card declined")
    assert len(joined) == 1
    assert other not in joined
    assert miner.text(joined.pop()) == "connection to host <*> refused after timeout"


def test_the_id_of_a_shape_is_the_same_on_every_shard() -> None:
    first, second = TemplateMiner(), TemplateMiner()
    first.template_id("something else entirely happened here")
    assert first.template_id("cache miss for key 17") == second.template_id("cache miss for key 99")


def test_bounds_hold_and_evictions_are_counted() -> None:
    miner = TemplateMiner(MinerConfig(max_cache=50, max_templates=20))
    words = "abcdefghijklmnopqrstuvwxyz"
    for a in words:
        for b in words:
            miner.template_id(f"{a}{b} {b}{a} {a}{a}{b}")
    assert len(miner) <= 20
    assert len(miner._cache) <= 50
    assert miner.evicted > 500


@settings(max_examples=100, deadline=None)
@given(st.lists(st.text(max_size=200), max_size=30))
def test_any_text_gets_an_id_and_survives_dump_and_load(lines: list[str]) -> None:
    miner = TemplateMiner()
    ids = [miner.template_id(line) for line in lines]
    assert all(len(i) == 16 for i in ids)
    again = TemplateMiner()
    again.load(miner.dump())
    assert {i: miner.text(i) for i in ids} == {i: again.text(i) for i in ids}
    assert len(again) == len(miner)


def test_a_line_of_ten_megabytes_is_cut() -> None:
    miner = TemplateMiner()
    assert miner.template_id("x" * 10_000_000) == miner.template_id("x" * 9_000_000)


def test_masks() -> None:
    assert mask("2026-11-24T10:00:00Z GET /api/v1/items took 12ms") == "<*> GET <*> took <*>"
    assert mask("blk_-1608999687919862906 moved") == "<*> moved"
    assert mask("nothing varies") == "nothing varies"
