"""Learning from recorded series: every series is scored by models that have not seen it, and known whatever its name."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from detect.breach.episode import Policy, Standing
from detect.breach.models import MODELS_DIR, BreachModelError, fold_of, load_models
from detect.breach.predictor import foretell
from detect.breach.recorded import FOLDS, folds_of, learn
from detect.breach.series import Recorded, fingerprint
from detect.breach.synthetic.make import make_many, make_series


@pytest.fixture(scope="module")
def series() -> list[Recorded]:
    return [replace(s, truth=replace(s.truth, kind="one")) for s in make_many(12, 3)]


def test_a_series_is_known_by_what_it_holds(series: list[Recorded]) -> None:
    one = series[0]
    assert fingerprint(replace(one, truth=replace(one.truth, id="another name"))) == fingerprint(one)
    assert fingerprint(replace(one, limit=one.limit * 1.01)) != fingerprint(one)
    assert len({fingerprint(s) for s in series}) == len(series)


@pytest.mark.timeout(600)  # 9 s where nothing else runs; on a busy machine twenty times as long was seen
def test_what_was_learned_from_is_judged_by_models_that_have_not_seen_it(series: list[Recorded], tmp_path: Path) -> None:
    for name in ("breach.json", "breach.safetensors"):
        shutil.copy(MODELS_DIR / name, tmp_path)
    card = learn(series, "made here", tmp_path, progress=False, check=2, rounds=3, bins=8)
    assert json.loads((tmp_path / "breach.json").read_text())["recorded"]["folds"] == card["recorded"]["folds"]
    assert [fold_of(s, tmp_path) for s in series] == folds_of(series)
    assert fold_of(make_series(np.random.default_rng(99), "new", breaching=True), tmp_path) is None
    shipped, unseen = load_models(tmp_path), load_models(tmp_path, 0)
    assert (shipped.widen, shipped.policy) == (unseen.widen, unseen.policy)
    told, other = foretell(series[0], shipped), foretell(series[0], unseen)
    assert np.nanmax(np.abs(told.eta - other.eta)) > 0
    assert shipped.gate.value.shape != unseen.gate.value.shape or (shipped.gate.value != unseen.gate.value).any()
    with pytest.raises(BreachModelError, match="fold5"):
        load_models(tmp_path, FOLDS)
    with pytest.raises(BreachModelError, match="at least 5 of one kind"):
        learn(series[:4], "too few", tmp_path, progress=False)


def test_each_kind_is_dealt_to_all_folds(series: list[Recorded]) -> None:
    same = [replace(series[0], truth=replace(series[0].truth, id=str(k))) for k in range(FOLDS)]
    assert sorted(folds_of(same)) == list(range(FOLDS))


def test_what_is_near_is_asked_for_less_and_remembers_less() -> None:
    policy = Policy(asked=((10, 0.5), (40, 0.9)), memory=((10, 0.0), (40, 0.4)))
    assert [policy.probability(t) for t in (1, 10, 20, 40, 999)] == pytest.approx([0.5, 0.5, 0.7, 0.9, 0.9])
    assert [policy.remembered(t) for t in (1, 20, 99)] == pytest.approx([0.0, 0.2, 0.4])


def test_one_sure_look_among_unsure_ones_is_no_warning() -> None:
    policy = Policy(need=1)
    for before, warned in ((0.3, False), (0.9, True)):
        standing = Standing()
        for _ in range(40):
            standing.step(policy, before, 30.0, 500.0, 0.5)
        assert standing.step(policy, 0.97, 20.0, 50.0, 0.5) is warned
