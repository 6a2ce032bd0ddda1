"""Templates: equal shapes share an id, whatever the batches, shards and restarts; state is bounded and survives."""

from __future__ import annotations

import itertools
import os
import random
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detect.templates.miner import MinerConfig, TemplateMiner
from ingest.types import Texts

_WORDS = ("alpha beta gamma delta eps zeta eta theta iota user= host for from 12 7ms 10.0.0.1 /var/x/y aB3 ssh2 ( ) [x] "  # noqa: SIM905
          "root 0xff web-1 bytes KB a.b.example.com : =").split()


def _lines(seed: int, count: int) -> list[str]:
    """Few sentences with many different words in them, so that there is something to merge."""
    dice = random.Random(seed)
    frames = [[dice.choice(_WORDS) for _ in range(dice.randrange(2, 9))] for _ in range(8)]
    out = []
    for _ in range(count):
        frame = list(dice.choice(frames))
        for at in range(len(frame)):
            if dice.random() < 0.15:
                frame[at] = dice.choice(_WORDS) + dice.choice(("", "x", "q9"))
        out.append(" ".join(frame))
    return out


def _ids(miner: TemplateMiner, lines: list[str], group: str = "a") -> list[str]:
    found = miner.numbers(lines, np.zeros(len(lines), np.int32), [group])
    return [miner.id_of(int(n)) for n in found]


def test_what_varies_is_no_part_of_a_template() -> None:
    miner = TemplateMiner()
    lines = [f"user {n} paid order 8f{n:02d}aa00 of {n}.50 EUR from 10.0.0.{n}" for n in range(30)]
    ids = {miner.template_id(line) for line in lines}
    assert len(ids) == 1
    assert miner.text(ids.pop()) == "user <*> paid order <*> of <*> EUR from <*>"


def test_names_join_and_other_sentences_do_not() -> None:
    miner = TemplateMiner()
    names = ["alpha", "beta", "gamma", "delta", "epsilon", "zeta"]
    first = miner.template_id("connection to alpha refused after timeout")
    last = [miner.template_id(f"connection to {name} refused after timeout") for name in names][-1]
    other = miner.template_id("payment of customer failed: card declined")
    assert miner.resolve(first) == last != other
    assert miner.text(first) == miner.text(last) == "connection to <*> refused after timeout"
    assert first != last


def test_two_places_turn_into_values_one_after_the_other() -> None:
    miner = TemplateMiner()
    pairs = [("Stats", "a"), ("Mix", "a"), ("Stats", "b"), ("Mix", "b"), ("Wifi", "c"), ("Bell", "d")]
    alone = miner.template_id('take lock=1, tag="Phone", name=z, ws=null')
    last = [miner.template_id(f'take lock=1, tag="{tag}", name={name}, ws=null') for tag, name in pairs][-1]
    assert miner.text(last) == 'take lock=<*>, tag="<*>", name=<*>, ws=<*>'
    assert miner.resolve(alone) == last  # it stood before the two had merged, and its line would join now


def test_new_names_do_not_need_the_slow_way_once_the_place_is_a_value() -> None:
    miner = TemplateMiner()
    for n in range(300):
        miner.template_id(f"session opened for user {''.join(chr(97 + int(c)) for c in str(n))} by daemon")
    assert sum(len(g.group.raw) for g in miner._groups.values()) <= 5


def test_the_id_of_a_shape_is_the_same_on_every_shard() -> None:
    first, second = TemplateMiner(), TemplateMiner()
    first.template_id("something else entirely happened here")
    assert first.template_id("cache miss for key 17") == second.template_id("cache miss for key 99", "b")


@pytest.mark.parametrize("seed", range(8))
def test_groups_do_not_disturb_each_other(seed: int) -> None:
    mine, others = _lines(seed, 300), _lines(seed + 100, 300)
    alone = TemplateMiner()
    expected = alone.numbers(mine, np.zeros(300, np.int32), ["a"])
    together = TemplateMiner()
    both = [line for pair in zip(mine, others, strict=True) for line in pair]
    found = together.numbers(both, np.tile(np.array([1, 0], np.int32), 300), ["b", "a"])[::2]
    assert [alone.text_at(int(n)) for n in expected] == [together.text_at(int(n)) for n in found]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.lists(st.integers(0, 200), max_size=8), st.integers(0, 200))
def test_neither_batches_nor_a_restart_change_what_comes_out(seed: int, cuts: list[int], kill: int) -> None:
    lines = _lines(seed, 200)
    whole = TemplateMiner(MinerConfig(max_templates=60, max_group_templates=40))
    expected = [whole.text_at(int(n)) for n in whole.numbers(lines, np.zeros(200, np.int32), ["a"])]
    miner = TemplateMiner(MinerConfig(max_templates=60, max_group_templates=40))
    bounds = sorted({0, 200, kill, *cuts})
    found = []
    for start, end in itertools.pairwise(bounds):
        if start == kill:
            state = miner.dump()
            miner = TemplateMiner(MinerConfig(max_templates=60, max_group_templates=40))
            miner.load(state)
        part = lines[start:end]
        found += [miner.text_at(int(n)) for n in miner.numbers(part, np.zeros(len(part), np.int32), ["a"])]
    assert found == expected
    assert (len(miner), miner.evicted, miner.dump()) == (len(whole), whole.evicted, whole.dump())


def test_a_snapshot_costs_nothing_while_nothing_is_new() -> None:
    miner = TemplateMiner()
    miner.template_id("took 12 ms")
    state = miner.dump()
    miner.template_id("took 13 ms")
    assert miner.dump() is state
    miner.template_id("never seen")
    assert miner.dump() != state


def test_bounds_hold_and_evictions_are_counted() -> None:
    miner = TemplateMiner(MinerConfig(max_templates=50, max_group_templates=20))
    dice = random.Random(0)
    lines = [" ".join("".join(dice.choices("abcdef", k=4)) for _ in range(dice.randrange(1, 9))) for _ in range(3000)]
    for start in range(0, 3000, 100):
        found = miner.numbers(lines[start: start + 100], np.arange(100, dtype=np.int32) % 5, list("abcde"))
        assert all(miner.text_at(int(n)) for n in found)
        assert len(miner._shapes) < 600
    assert sum(len(g.group.raw) for g in miner._groups.values()) <= 50
    assert miner.evicted > 100
    assert "<*>" in {miner.text_at(int(n)) for n in found}  # a full group mines one new shape in sixteen


@settings(max_examples=100, deadline=None)
@given(st.lists(st.text(max_size=200), max_size=30))
def test_any_text_gets_an_id_and_survives_dump_and_load(lines: list[str]) -> None:
    miner = TemplateMiner()
    ids = _ids(miner, lines)
    assert all(len(i) == 16 for i in ids)
    again = TemplateMiner()
    again.load(miner.dump())
    assert {i: miner.text(i) for i in ids} == {i: again.text(i) for i in ids}
    assert len(again) == len(miner)
    assert _ids(again, lines) == _ids(miner, lines)


def test_the_state_of_another_version_is_not_taken_over(monkeypatch: pytest.MonkeyPatch) -> None:
    miner = TemplateMiner()
    miner.template_id("took 12 ms")
    state = miner.dump()
    monkeypatch.setattr("detect.templates.miner.VERSION", "another")
    again = TemplateMiner()
    again.load(state)
    assert len(again) == 0


def test_a_line_of_ten_megabytes_is_cut() -> None:
    miner = TemplateMiner()
    assert miner.template_id("x" * 10_000_000) == miner.template_id("x" * 9_000_000)


@pytest.mark.parametrize(("line", "template"), [
    ("2026-11-24T10:00:00Z GET /api/v1/items took 12ms", "<*> GET <*> took <*>"),
    ("blk_-1608999687919862906 moved", "<*> moved"),
    ("nothing varies", "nothing varies"),
    ("at Wed Jul 27 10:59:53 2005", "at <*>"),
    ("status=M Fri Jul  1 08:16:53 PDT 2005 end", "status=M <*> end"),
    ("in May 3 things", "in <*> things"),
    ("chip FF:F2:9F:16:E2:23:00:0D is at fe80::1ff:fe23", "chip <*> is at <*>"),
    ("open hdfs://a-1:9000/x,y now, please", "open <*> now, please"),
    (r"read C:\Users\me\x.txt and \\srv\share", "read <*> and <*>"),
    ("job c2f7aa20-54c1-4d94-9dc1-8ec2b6a33d8b by a.b@example.com", "job <*> by <*>"),
    ("org.apache.hadoop.Thing of www.example.co.uk:80", "org.apache.hadoop.Thing of <*>"),
    ("generating core.2275", "generating core.<*>"),
    ("force load/store alignment......0", "force load/store alignment......<*>"),
    ("port 55904. done", "port <*>. done"),
    ("uid=0 tty=ssh2 x=ab1 v1.2.3 #7", "uid=<*> tty=<*> x=<*> <*> <*>"),
    ("using ssh2 and L3", "using ssh2 and L3"),
    ("build f55fa9e of cafe12 and deadbee", "build <*> of cafe12 and deadbee"),
    ("GET /a/b?x=1&y=two HTTP/1.1 status", "GET <*> status"),
    ("session opened for user bob by root@localhost mask=ffffffff", "session opened for user <*> by <*> mask=<*>"),
    ("lifetime <1 sec of csdnimg.cn:80 in main.go:88", "lifetime <*> sec of <*> in main.go:<*>"),
    ("1514038440000##6993##5483 handle @0x7f2e jetty-6.1.26 r24=7", "<*>##<*>##<*> handle @<*> jetty-<*> r24=<*>"),
    ("", ""),
    ("a\x00b \u00fcber \ud800", "a b \u00fcber ?"),
])
def test_tokens(line: str, template: str) -> None:
    miner = TemplateMiner()
    assert miner.text(miner.template_id(line)) == template


def test_lines_as_one_buffer_are_the_same_lines() -> None:
    lines = [*_lines(3, 5000), "", "\u00fcber \ud800", "x" * 5000]
    groups = np.arange(len(lines), dtype=np.int32) % 3 - 1
    one, other = TemplateMiner(), TemplateMiner()
    found = one.numbers(lines, groups, ["a", "b"])
    assert (other.numbers(Texts.of(lines), groups, ["a", "b"]) == found).all()
    assert one.dump() == other.dump()


_SCRIPT = """
import hashlib, os, pathlib, random
import numpy as np
from detect.templates.miner import TemplateMiner
dice = random.Random(3)
lines = ["".join(dice.choices("ab01./:-=<>()[]# @\\\\,uXF\\u00fc", k=dice.randrange(60))) for _ in range(1500)]
data = os.environ.get("OPSMEND_TEST_DATA")
for file in sorted(pathlib.Path(data, "logs").glob("*/*_2k.log")) if data else []:
    lines += file.read_text(errors="replace").splitlines()[:300]
miner = TemplateMiner()
found = miner.numbers(lines, np.zeros(len(lines), np.int32), ["a"])
print(hashlib.sha256("\\n".join(miner.text_at(int(n)) for n in found).encode()).hexdigest())
"""


def test_without_the_compiler_the_templates_are_the_same() -> None:
    told = {subprocess.run([sys.executable, "-W", "error", "-c", _SCRIPT], check=True, capture_output=True, text=True,
                           env=os.environ | {"NUMBA_DISABLE_JIT": flag}).stdout for flag in ("0", "1")}
    assert len(told) == 1
    assert len(told.pop().strip()) == 64


def test_places_that_change_together_turn_into_values() -> None:
    """No two lines differ at one place alone: first and last names."""
    miner = TemplateMiner()
    dice = random.Random(5)
    for _ in range(200):
        name, other = ("".join(dice.choices("abcdefghij", k=6)) for _ in range(2))
        miner.template_id(f"welcome {name} {other} to the shop")
    assert miner.text(miner.template_id("welcome ada lovelace to the shop")) == "welcome <*> <*> to the shop"
    assert sum(len(g.group.raw) for g in miner._groups.values()) <= 33


def test_a_name_where_values_were_takes_the_slow_way_once() -> None:
    miner = TemplateMiner()
    first = miner.template_id("login from 10.0.0.1 accepted by gate")
    for name in ("alpha", "beta", "gamma", "delta"):
        assert miner.template_id(f"login from {name} accepted by gate") == first
    assert sum(len(g.group.raw) for g in miner._groups.values()) == 2
