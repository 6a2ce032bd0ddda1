"""Fine-tuning: it learns what incidents say, stays near what was shipped, and is kept only where it wins a contest."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from rootcause.rankers.gnn import MODELS_DIR, GnnRanker, load_weights
from rootcause.rankers.registry import ranker_of
from rootcause.tune import Confirmed, TuneConfig, load_members, log_probabilities, simulated, tune, views
from rootcause.tune_contest import ContestConfig, fine_tune, folds, too_few
from rootcause.tune_files import fingerprint, tuned_card, write


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first of the shipped members alone."""
    out = tmp_path_factory.mktemp("small")
    card = json.loads((MODELS_DIR / "rootcause.json").read_text())
    write(load_members()[:1], card | {"members": 1}, out)
    return out


SMALL = ContestConfig(folds=3, replay=12, validation=12, forgetting=1.0, abstention=1.0)


def odd_system(number: int) -> list[Confirmed]:
    """Simulated incidents of a system in which people say that it was the caller of what looks guilty."""
    out: list[Confirmed] = []
    for one in simulated(3, 6 * number, 40):
        callers = one.case.edges[:, 0][one.case.edges[:, 1] == (one.services or (-1,))[0]]
        if len(callers):
            out.append(Confirmed(one.case, (int(callers[0]),), f"g{len(out) % 6}"))
        if len(out) == number:
            return out
    raise AssertionError("too few simulated cases have a caller")


def test_untouched_weights_say_what_the_ranker_says() -> None:
    cases = simulated(5, 4, 41)
    members = load_members()
    for one, log_p in zip(cases, log_probabilities(members, views(members, cases)), strict=True):
        assert np.allclose(log_p, GnnRanker().log_probabilities(one.case), atol=1e-4)


def test_only_the_heads_move_and_not_far() -> None:
    members = load_members()[:1]
    seen = views(members, simulated(5, 6, 42))
    near, far = (tune(members, seen, seen, TuneConfig(steps=5, part=part)) for part in (0.1, 1.0))
    again = tune(members, seen, seen, TuneConfig(steps=5, part=0.1))
    for name, value in members[0].items():
        assert bool((near[0][name] == again[0][name]).all()), "the same seed gives the same weights"
        if name.partition(".")[0] not in ("head", "call", "none"):
            assert bool((far[0][name] == value).all())
    moved = [float(sum((tuned[0][n] - members[0][n]).abs().sum() for n in members[0])) for tuned in (near, far)]
    assert 0 < moved[0] == pytest.approx(0.1 * moved[1], rel=0.01)
    with pytest.raises(ValueError, match="no incident"):
        tune(members, [[]], seen, TuneConfig())


def test_what_is_learned_is_kept_served_and_undone_by_deleting(tmp_path: Path, small: Path) -> None:
    before = (MODELS_DIR / "rootcause.safetensors").read_bytes()
    incidents = odd_system(24)
    card = fine_tune(incidents, tmp_path / "w", data="made up", base=small, config=TuneConfig(part=1.0), contest=SMALL)
    contest = card["contest"]
    assert card["kept"], contest["reason"]
    assert contest["tuned"]["AC@1"] > contest["shipped"]["AC@1"] and contest["surely"] >= 0.95
    assert json.loads((tmp_path / "w" / "rootcause.json").read_text())["base_fingerprint"] == fingerprint(small)
    assert (card["base"], card["seed"], card["members"]) == (load_weights().version, 0, 1)
    assert card["version"].startswith(card["base"] + "+")
    served = ranker_of("gnn", str(tmp_path / "w")).rank(incidents[0].case)
    assert served.model_version == card["version"]
    assert ranker_of("gnn").rank(incidents[0].case).model_version == load_weights().version
    assert (MODELS_DIR / "rootcause.safetensors").read_bytes() == before


def test_what_does_not_help_is_refused(tmp_path: Path, small: Path) -> None:
    """Incidents like those that it was trained on: nothing to learn."""
    incidents = [Confirmed(c.case, c.targets, f"g{n % 4}") for n, c in enumerate(simulated(9, 20, 43)) if c.targets]
    card = fine_tune(incidents, tmp_path / "w", data="made up", base=small, config=TuneConfig(steps=3), contest=SMALL)
    assert not card["kept"] and card["contest"]["reason"]
    assert not (tmp_path / "w").exists()


@pytest.mark.parametrize(("number", "groups", "why"), [
    (7, 7, "7 incidents with a confirmed cause, at least 8"), (9, 2, "one of 2 causes")])
def test_too_few_are_refused_before_any_work(number: int, groups: int, why: str, tmp_path: Path) -> None:
    (one, *_) = simulated(5, 1, 44)
    incidents = [Confirmed(one.case, (0,), f"g{n % groups}") for n in range(number)]
    assert why in too_few(incidents, ContestConfig())
    assert why in fine_tune(incidents, tmp_path / "w", data="x")["contest"]["reason"]


def test_groups_stay_whole() -> None:
    (one, *_) = simulated(5, 1, 44)
    incidents = [Confirmed(one.case, (0,), g) for g in "aaabbcdeef"]
    parts = list(folds(incidents, 3))
    assert sorted(n for part in parts for n in part) == list(range(10))
    for group in "abcdef":
        assert sum(any(incidents[n].group == group for n in part) for part in parts) == 1
    assert [len(part) for part in parts] == [3, 3, 4] or max(len(p) for p in parts) - min(len(p) for p in parts) <= 1


def test_tuned_weights_never_replace_the_shipped_ones() -> None:
    with pytest.raises(ValueError, match="never replace"):
        write(load_members(), tuned_card(MODELS_DIR, 0, "x", {}), MODELS_DIR)
