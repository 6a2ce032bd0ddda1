"""Versions of the forecaster: promotion that a kill can't halve, roll-back, the contest, drift, tuning."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from detect.forecaster.contest import contest, has_drifted, relative_loss
from detect.forecaster.synthetic import Made, synthetic_batch
from detect.forecaster.tune import challenge, fine_tune, held_back
from detect.forecaster.versions import KEPT_VERSIONS, ModelVersions, NoVersion, RolledBack
from detect.forecaster.weights import BadWeights, Weights

SHIPPED = Weights.load()


def version(name: str, *, change: float = 0.0) -> Weights:
    """The shipped weights under another name; `change`: noise on the head, which makes them worse."""
    noise = np.random.default_rng(0).normal(0, change, SHIPPED.v.shape).astype(np.float32)
    return replace(SHIPPED, v=SHIPPED.v + noise, version=name, card={**SHIPPED.card, "version": name})


def series(seed: int = 5, n: int = 36, t: int = 1200) -> Made:
    return synthetic_batch(n, t, np.random.default_rng(seed), 10.0)


def test_promote_and_roll_back(tmp_path: Path) -> None:
    versions = ModelVersions(tmp_path)
    assert versions.champion().version == SHIPPED.version
    assert versions.previous() is None
    for number, name in enumerate(("a", "b")):
        versions.add(version(name))
        assert versions.champion().version != name, "a version counts when it is promoted"
        versions.promote(name, reason="test", now_ns=number)
        assert versions.champion().version == name
    stamp = versions.stamp()
    assert versions.rollback(reason="test", now_ns=3) == "a"
    assert versions.stamp() != stamp
    assert versions.rollback(reason="test", now_ns=4) == ""
    assert versions.champion().version == SHIPPED.version
    with pytest.raises(NoVersion):
        versions.rollback(reason="test", now_ns=5)
    assert [e["what"] for e in versions.events()] == ["promoted", "promoted", "rolled_back", "rolled_back"]
    assert [card["version"] for card in versions.cards()] == ["a", "b"]


def test_what_was_rolled_back_is_promoted_again_by_a_person_alone(tmp_path: Path) -> None:
    versions = ModelVersions(tmp_path)
    versions.add(version("a"))
    versions.add(replace(version("a"), version="a-2", card={**version("a").card, "version": "a-2"}))
    versions.promote("a", reason="test", now_ns=1)
    versions.rollback(reason="test", now_ns=2)
    for name in ("a", "a-2"):  # the second has the same numbers
        with pytest.raises(RolledBack, match="rolled back"):
            ModelVersions(tmp_path).promote(name, reason="test", now_ns=3)
    assert versions.champion().version == SHIPPED.version
    versions.promote("a-2", reason="test", now_ns=4, by_hand=True)
    versions.promote("a", reason="test", now_ns=5)  # a person's word holds for the numbers
    assert versions.champion().version == "a"


def test_a_roll_back_by_hand_holds_until_something_is_promoted(tmp_path: Path) -> None:
    versions = ModelVersions(tmp_path)
    for number, name in enumerate(("a", "b")):
        versions.add(version(name))
        versions.promote(name, reason="test", now_ns=number)
    assert versions.rolled_back_by_hand() == ""
    versions.rollback(reason="test", now_ns=3, by_hand=True)
    assert versions.rolled_back_by_hand() == "b"
    versions.rollback(reason="automatic", now_ns=4)
    assert versions.rolled_back_by_hand() == "b", "one by itself does not lift it"
    versions.promote("b", reason="test", now_ns=5, by_hand=True)
    assert versions.rolled_back_by_hand() == ""


def test_a_version_that_cannot_be_read_is_not_promoted_and_passed_over(tmp_path: Path) -> None:
    versions = ModelVersions(tmp_path)
    versions.add(version("good"))
    versions.promote("good", reason="test", now_ns=1)
    versions.add(version("bad"))
    (tmp_path / "bad/forecaster.safetensors").write_bytes(b"\0" * 20)
    with pytest.raises(BadWeights):
        versions.promote("bad", reason="test", now_ns=2)
    with pytest.raises(OSError):
        versions.promote("absent", reason="test", now_ns=2)
    with pytest.raises(NoVersion):
        versions.promote("../good", reason="test", now_ns=2)
    assert versions.current() == "good"
    (tmp_path / "good/forecaster.json").write_text("{")
    assert versions.champion().version == SHIPPED.version
    (tmp_path / "champion.json").write_text("not json")
    assert versions.champion().version == SHIPPED.version


def test_old_versions_go_but_not_the_way_back(tmp_path: Path) -> None:
    versions = ModelVersions(tmp_path)
    for number in range(KEPT_VERSIONS + 6):
        versions.add(version(f"v{number:02}"))
        if number < 2:
            versions.promote(f"v{number:02}", reason="test", now_ns=number)
    versions.promote("v05", reason="test", now_ns=9)
    kept = {str(card["version"]) for card in versions.cards()}
    assert {"v00", "v01", "v05"} <= kept
    assert len(kept) <= KEPT_VERSIONS + 3


_FLIPPER = """
import sys
from pathlib import Path
from detect.forecaster.versions import KEPT_VERSIONS, ModelVersions, NoVersion, RolledBack
versions, k = ModelVersions(Path(sys.argv[1])), 0
print("ready", flush=True)
while True:
    k += 1
    versions.promote("ab"[k % 2], reason="x" * 2000, now_ns=k, by_hand=True)
    if k % 3 == 0:
        versions.rollback(reason="y" * 2000, now_ns=k)
"""


def test_a_kill_in_the_middle_of_a_promotion_leaves_the_old_or_the_new(tmp_path: Path) -> None:
    versions = ModelVersions(tmp_path)
    for name in "ab":
        versions.add(version(name))
    rng = np.random.default_rng(1)
    for _ in range(6):
        child = subprocess.Popen([sys.executable, "-c", _FLIPPER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        time.sleep(float(rng.uniform(0.0, 0.15)))
        os.kill(child.pid, signal.SIGKILL)
        child.communicate()
        file = tmp_path / "champion.json"
        if file.exists():
            assert json.loads(file.read_text())["version"] in ("", "a", "b")
        versions.promote("a", reason="after", now_ns=1, by_hand=True)  # the lock of the dead one holds nobody up
        assert versions.champion().version == "a"


def test_a_half_written_version_does_not_count(tmp_path: Path) -> None:
    (tmp_path / ".a.123").mkdir(parents=True)
    (tmp_path / ".a.123/forecaster.json").write_text(json.dumps(SHIPPED.card))
    versions = ModelVersions(tmp_path)
    assert versions.cards() == []
    versions.add(version("a"))
    assert versions.load("a").version == "a"


def test_the_contest_needs_a_margin() -> None:
    made = series()
    begin = made.values.shape[1] // 2
    worse = version("worse", change=0.05)
    assert not contest(SHIPPED, version("same"), [(made, begin)]).wins
    assert not contest(SHIPPED, worse, [(made, begin)]).wins
    found = contest(worse, SHIPPED, [(made, begin)])
    assert found.wins
    assert found.gain >= 0.02
    few = replace(made, values=made.values[:4], covariates=made.covariates[:4])
    assert not contest(worse, SHIPPED, [(few, begin)]).wins, "four series are no evidence"
    assert not contest(worse, SHIPPED, []).wins


def test_drift_is_a_loss_beyond_the_long_run() -> None:
    made = [(series(), 300)]
    usual = relative_loss(SHIPPED, made)
    assert 0.1 < usual < 1.0
    assert not has_drifted(relative_loss(SHIPPED, [(series(), 400)]), usual)
    assert has_drifted(relative_loss(version("worse", change=0.5), made), usual)
    assert not has_drifted(usual, float("nan"))
    assert np.isnan(relative_loss(SHIPPED, []))


def test_tuning_keeps_to_its_part_and_to_its_budget() -> None:
    made = series(t=1000)
    _, begin = held_back(made)
    spoilt = made.values.copy()
    spoilt[::3] = np.random.default_rng(0).normal(size=spoilt[::3].shape)
    spoilt[:, begin:] = 7.0
    first = fine_tune(SHIPPED, [made], seed=1, now_ns=10**18, updates=12)
    second = fine_tune(SHIPPED, [replace(made, values=spoilt)], seed=1, now_ns=10**18, updates=12)
    assert all(np.array_equal(getattr(first, k), getattr(second, k)) for k in "wbvd"), "what is held back is not seen"
    assert not np.array_equal(first.w, SHIPPED.w)
    assert first.card["parent"] == SHIPPED.version
    began = time.process_time()
    fine_tune(SHIPPED, [made], seed=1, now_ns=1, updates=10**6, seconds=0.5)
    assert time.process_time() - began < 30
    with pytest.raises(ValueError, match="long enough"):
        fine_tune(SHIPPED, [replace(made, values=made.values[:, :200], covariates=made.covariates[:, :200])], seed=0, now_ns=1)


def test_a_spoilt_champion_is_beaten_by_its_tuned_challenger() -> None:
    """Tuning repairs what noise on the head broke, and the contest sees it on series that it was not tuned on."""
    spoilt = version("spoilt", change=0.15)
    made = series(8, n=60, t=1400)
    challenger, verdict = challenge(spoilt, [made], seed=0, now_ns=10**18, updates=120)
    assert verdict.wins, verdict.words()
    assert challenger.card["metrics"]["gain"] >= 0.02
    assert challenger.card["parent"] == "spoilt"
