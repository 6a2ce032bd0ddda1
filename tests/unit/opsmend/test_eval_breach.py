"""`opsmend eval breach` on a data set of four series in the documented layout, and on made ones."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from detect.breach.series import Recorded
from opsmend.cli import app
from opsmend.evaluate import breach
from opsmend.evaluate.breach_baselines import BASELINES
from opsmend.evaluate.breach_data import BreachDataError, read_meta, read_series
from opsmend.evaluate.breach_unseen import UNSEEN, make_unseen

START, STEP = 1_700_000_000, 30
ONSET, CROSSING = 480, 660  # minutes


def entry(name: str, healthy: bool, direction: str = "up") -> dict[str, Any]:
    episode = {"onset": START + ONSET * 60, "end": START + CROSSING * 60, "crossing": START + CROSSING * 60,
               "cancelled": False}
    return {"id": name, "kind": "calm" if healthy else "leak", "healthy": healthy, "metric": "disk", "step": STEP,
            "limit": 100.0 if direction == "up" else 0.0, "direction": direction, "capacity": 100.0, "start": START,
            "end": START + 700 * 60, "onset": None if healthy else episode["onset"],
            "crossing": None if healthy else episode["crossing"], "in_scope": not healthy,
            "episodes": [] if healthy else [episode]}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("breach")
    rng = np.random.default_rng(0)
    meta = [entry("a", False), entry("b", True), entry("c", False, "down")]
    at = START + np.arange(0, 700 * 60, STEP)
    for one in meta:
        use = 20 + 0.3 * rng.standard_normal(len(at))
        if not one["healthy"]:
            use += 80 * np.clip((at - START - ONSET * 60) / ((CROSSING - ONSET) * 60), 0, 1)
        values = use if one["direction"] == "up" else 100 - use
        rows = [f"{t},{v:.3f}" for t, v in zip(at.tolist(), values.tolist(), strict=True)]
        (folder / f"{one['id']}.csv").write_text("\n".join(["timestamp,value", *rows]) + "\n")
    (folder / "meta.json").write_text(json.dumps([*meta, entry("gone", True)]))
    return folder


def test_the_command_scores_ours_and_the_baselines_and_names_what_it_could_not_read(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "breach.json"
    done = CliRunner().invoke(app, ["eval", "breach", "--data", str(data), "--json", str(out)])
    assert done.exit_code == 1
    report = json.loads(out.read_text())
    assert (report["cases"], report["failed"]) == (4, 1)
    assert "gone" in report["failures"][0]
    assert set(report["methods"]) == {"opsmend", *BASELINES}
    ours = report["methods"]["opsmend"]
    assert (ours["precision"], ours["recall"], ours["episodes"]) == (1.0, 1.0, 2)
    assert 15 * 60 <= ours["lead_min_s"] <= ours["lead_s"] <= (CROSSING - ONSET) * 60
    assert ours["false_per_series_day"] == 0.0
    assert report["groups"]["leak"]["cases"]["n"] == 2
    assert "predict_linear(1h, 4h)" in done.output
    assert report["methods"]["predict_linear(1h, 4h)"]["recall"] == 1.0


def test_the_judgement_of_a_minute_does_not_know_the_next(data: Path) -> None:
    series = read_series(data, read_meta(data)[0])
    upto = 560
    short = Recorded(series.truth, series.ticks[:upto], series.values[:upto], series.spreads[:upto], series.limit,
                     series.size)
    for name, method in breach.METHODS.items():
        whole, part = method(series), method(short)
        np.testing.assert_array_equal(whole.warns[:upto], part.warns, err_msg=name)
        np.testing.assert_array_equal(whole.eta[:upto], part.eta, err_msg=name)


def test_data_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BreachDataError, match=r"meta\.json"):
        read_meta(tmp_path)
    (tmp_path / "meta.json").write_text("[]")
    with pytest.raises(BreachDataError, match="no list of series"):
        read_meta(tmp_path)


def rows(folder: Path, text: str = "timestamp,value\n0,1\n60,\n120,3\n") -> None:
    (folder / "mine.csv").write_text(text)


def test_own_labels_need_no_more_than_an_id_and_a_limit(tmp_path: Path) -> None:
    rows(tmp_path)
    calm = read_series(tmp_path, {"id": "mine", "limit": 10})
    assert (calm.truth.healthy, calm.truth.in_scope, calm.truth.start, calm.truth.end) == (True, False, 0.0, 120.0)
    assert calm.values.tolist() == [1.0, 3.0], "an empty value is a missing one"
    full = read_series(tmp_path, {"id": "mine", "limit": 10, "episodes": [{"onset": 0, "crossing": 1300}]})
    assert (full.truth.healthy, full.truth.in_scope, full.truth.end) == (False, True, 1300.0)
    short = read_series(tmp_path, {"id": "mine", "limit": 10, "episodes": [{"onset": 0, "crossing": 1100}]})
    assert not short.truth.in_scope and not short.truth.healthy


@pytest.mark.parametrize(("change", "said"), [
    ({"limit": "much"}, r"meta\.json, entry 'mine': .*limit"), ({"direction": "sideways"}, "sideways"),
    ({"episodes": [{"onset": 5}]}, r"crossing.*episodes"), ({"episodes": [{"onset": 5, "crossing": 4}]}, "before its onset"),
    ({"healthy": True, "episodes": [{"onset": 5, "crossing": 9}]}, "said to be healthy")])
def test_labels_that_make_no_sense_are_named(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    rows(tmp_path)
    with pytest.raises(BreachDataError, match=said):
        read_series(tmp_path, {"id": "mine", "limit": 10} | change)


@pytest.mark.parametrize(("text", "said"), [
    ("timestamp,value\n0,1\n60,oops\n", "line 3: '60,oops' is no timestamp,value"), ("timestamp,value\n0\n", "line 2"),
    ("timestamp,value\n", "no sample"), ("", "no sample"), ("timestamp,value\n5,\n", "no sample")])
def test_samples_that_are_none_are_named_with_their_line(tmp_path: Path, text: str, said: str) -> None:
    rows(tmp_path, text)
    with pytest.raises(BreachDataError, match=rf"mine\.csv.*{said}"):
        read_series(tmp_path, {"id": "mine", "limit": 10})


@pytest.mark.parametrize("kind", UNSEEN)
def test_made_series_of_unseen_kinds_are_what_their_label_says(kind: str) -> None:
    for number in range(4):
        series = make_unseen(kind, number, 7)
        again = make_unseen(kind, number, 7)
        np.testing.assert_array_equal(series.values, again.values)
        truth = series.truth
        assert truth.healthy == (not truth.episodes)
        if truth.in_scope and len(series.values) > 60:
            assert series.values[-10:].max() > 0.6 * series.limit, "it ends near the limit"
        if truth.healthy:
            assert np.quantile(series.values, 0.9) < series.limit
