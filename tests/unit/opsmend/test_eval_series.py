"""Scores of `opsmend eval series` against cases worked out by hand, readers, and the whole run on a small set."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from opsmend.cli import app
from opsmend.evaluate.rca_cases import CaseError
from opsmend.evaluate.series import _unscored
from opsmend.evaluate.series_data import read_series
from opsmend.evaluate.series_forecasters import SeasonalRegression
from opsmend.evaluate.series_made import made_series
from opsmend.evaluate.series_peers import KILOBYTES, PEERS
from opsmend.evaluate.series_scores import Composite, Labelled, NabScorer, probation
from opsmend.evaluate.series_volume import auc_pr, vus_pr

N = 1000


def series(*windows: tuple[int, int], n: int = N) -> Labelled:
    return Labelled("x", np.arange(n) * 300 * 10**9, np.zeros(n), windows)


def flags(*at: int, n: int = N) -> np.ndarray:
    out = np.zeros(n, bool)
    out[list(at)] = True
    return out


def sigmoid(x: float) -> float:
    return 2 / (1 + math.exp(5 * x)) - 1


def test_probation_is_nabs() -> None:
    assert [probation(n) for n in (100, 4032, 5000, 22695)] == [15, 604, 750, 750]


def test_nab_by_hand() -> None:
    """Windows of 100 points; worth of a hit at its first point is 1, of its last -(1)/100 of the way in."""
    one = NabScorer([series((400, 499))])
    assert one.score(flags()) == pytest.approx(0)
    assert one.score(flags(400)) == pytest.approx(100)
    assert one.score(flags(400, 450, 499)) == pytest.approx(100)  # only the earliest counts
    middle = sigmoid(-50 / 100) / sigmoid(-1)
    assert one.score(flags(450)) == pytest.approx(100 * (middle + 1) / 2)
    # Before any window a false detection costs all of it, after one by distance, up to three widths.
    assert one.score(flags(400, 200)) == pytest.approx(100 - 50 * 0.11)
    assert one.score(flags(400, 200), "low_FP") == pytest.approx(100 - 50 * 0.22)
    assert one.score(flags(400, 549)) == pytest.approx(100 + 50 * 0.11 * sigmoid(50 / 99))
    assert one.score(flags(400, 900)) == pytest.approx(100 - 50 * 0.11)
    assert one.score(flags(400, 100)) == pytest.approx(100)  # on probation


def test_nab_profiles_weigh_misses() -> None:
    two = NabScorer([series((400, 499)), series((300, 309))])
    half = np.concatenate([flags(400), flags()])
    assert two.score(half) == pytest.approx(50)
    assert two.score(half, "low_FN") == pytest.approx(100 * (1 - 2 + 4) / 6)
    assert two.score(np.concatenate([flags(), flags()])) == pytest.approx(0)


def test_nab_finds_the_best_threshold() -> None:
    scores = np.zeros(N)
    scores[[400, 200, 210]] = 3.0, 1.0, 2.0
    best, threshold = NabScorer([series((400, 499))]).best(scores)
    assert best == pytest.approx(100) and 2.0 < threshold <= 3.0


def test_composite_f1_by_hand() -> None:
    both = Composite([series((400, 499), (600, 649)), series()])
    flagged = np.concatenate([flags(400, 401, 450, 700), flags(10, 500)])
    # Event recall 1/2; of the points that count (not 10, on probation) 3 of 5 are inside.
    assert both.score(flagged) == pytest.approx(2 * 0.5 * 0.6 / 1.1)
    assert both.score(np.zeros(2 * N, bool)) == 0.0


def test_areas_of_the_perfect_and_of_the_useless() -> None:
    labels = series((400, 499)).labels
    assert auc_pr(labels.astype(float), labels) == pytest.approx(1)
    assert auc_pr(np.zeros(N), labels) == pytest.approx(0.1)
    assert vus_pr(np.random.default_rng(0).random(N), labels) < 0.2
    assert vus_pr(labels.astype(float), labels) > 0.8
    assert math.isnan(vus_pr(np.zeros(N), np.zeros(N, bool)))


def test_vus_pr_is_that_of_its_authors() -> None:
    """What `vus` 0.0.6 gives for the same input (RangeAUC_volume_opt, width 100, 250 thresholds)."""
    rng = np.random.default_rng(0)
    labels = np.zeros(3000, int)
    for start in rng.integers(0, 2900, 4):
        labels[start: start + rng.integers(1, 90)] = 1
    scores = rng.normal(size=3000) + labels * rng.normal(1, 1, 3000) + np.convolve(labels, np.ones(50) / 50, "same")
    assert vus_pr(scores, labels.astype(bool)) == pytest.approx(0.11907588247228926, abs=1e-9)


def write_nab(root: Path) -> None:
    (root / "labels").mkdir()
    (root / "data" / "real").mkdir(parents=True)
    rng = np.random.default_rng(2)
    windows = {}
    for i in range(3):
        values = 50 + rng.normal(0, 1, 700)
        values[500:] += 20 * (i < 2)
        minutes = [f"2026-01-{1 + k // 288:02d} {k % 288 // 12:02d}:{k % 12 * 5:02d}:00" for k in range(700)]
        rows = [f"{t},{v}" for t, v in zip(minutes, values, strict=True)]
        (root / "data" / "real" / f"{i}.csv").write_text("\n".join(["timestamp,value", *rows]) + "\n")
        windows[f"real/{i}.csv"] = [[minutes[480], minutes[550]]] if i < 2 else []
    (root / "labels" / "combined_windows.json").write_text(json.dumps(windows))


def test_reads_nabs_layout(tmp_path: Path) -> None:
    write_nab(tmp_path)
    (tmp_path / "data" / "stray.csv").write_text("timestamp,value\n2026-01-01 00:00:00,1\n")
    labels = tmp_path / "labels" / "combined_windows.json"
    windows = json.loads(labels.read_text()) | {"real/gone.csv": []}
    windows["real/1.csv"] += [["2026-01-02 18:00:00+00:00", "2026-01-02 22:00:00"]]  # into the first one
    labels.write_text(json.dumps(windows))
    found = read_series(tmp_path)
    assert [s.name for s in found.series] == ["real/0.csv", "real/1.csv", "real/2.csv"]
    assert [s.windows for s in found.series] == [((480, 550),), ((480, 552),), ()]
    assert len(found.failures) == 1 and "stray.csv" in found.failures[0]
    assert found.notes == ["real/gone.csv: in labels/combined_windows.json, but there is no such file below data/"]


@pytest.mark.parametrize(("windows", "why"), [
    ({"a.csv": None}, "no list of windows"), ({"a.csv": [["2026-01-01"]]}, "no pair of times"),
    ({"a.csv": [["2027-01-01", "2027-01-02"]]}, "window without points (2027-01-01T"), ({"b.csv": []}, "not in labels"),
    ({"a.csv": [["soon", "later"]]}, "soon")])
def test_windows_that_are_none_are_told_of_by_file(tmp_path: Path, windows: dict[str, object], why: str) -> None:
    (tmp_path / "labels").mkdir()
    (tmp_path / "data").mkdir()
    (tmp_path / "labels" / "combined_windows.json").write_text(json.dumps(windows))
    (tmp_path / "data" / "a.csv").write_text("timestamp,value\n2026-01-01,1\n2026-01-02,2\n")
    (failure,) = read_series(tmp_path).failures
    assert failure.startswith("a.csv: ") and why in failure
    (tmp_path / "labels" / "combined_windows.json").write_text("[]")
    with pytest.raises(CaseError, match="expected"):
        read_series(tmp_path)


def test_reads_labelled_csv(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("timestamp,value,label\n1700000000,1,0\n1700000060,,1\n1700000120,x,1\n1700000180,2,0\n\n")
    (tmp_path / "b.csv").write_text("timestamp,value\n1700000000,1\n")
    found = read_series(tmp_path)
    (one,) = found.series
    assert one.windows == ((1, 2),) and np.isnan(one.values[1:3]).all()
    assert one.ts_ns[1] - one.ts_ns[0] == 60 * 10**9
    assert found.notes == ["a.csv: line 4: value 'x' is no number; 1 such count as missing"]
    assert len(found.failures) == 1 and "label" in found.failures[0] and "timestamp,value" in found.failures[0]
    (tmp_path / "empty").mkdir()
    with pytest.raises(CaseError, match="no series in it; expected data/"):
        read_series(tmp_path / "empty")
    with pytest.raises(CaseError, match="no such folder"):
        read_series(tmp_path / "nowhere")


@pytest.mark.parametrize("times", [
    ["1700000000", "1700000060", "1700000120"], ["1700000000000", "1700000060000", "1700000120000"],
    ["1700000000000000", "1700000060000000", "1700000120000000"],
    ["1700000000000000000", "1700000060000000000", "1700000120000000000"],
    ["2023-11-14 22:13:20", "2023-11-14 22:14:20", "2023-11-14 22:15:20"],
    ["2023-11-14T22:13:20Z", "2023-11-14T23:14:20.000+01:00", "2023-11-14T22:15:20Z"],
    ["2023-11-14 22:15:20", "2023-11-14 22:14:20", "2023-11-14 22:13:20"]])
def test_times_of_any_usual_form_and_order(tmp_path: Path, times: list[str]) -> None:
    labels = ["yes", "0", "no"] if times[0] > times[-1] else ["no", "0", "Yes"]
    rows = [f"{t},{t[-5:]},{label}" for t, label in zip(times, labels, strict=True)]
    (tmp_path / "a.csv").write_text("\n".join(["Timestamp, Value,label", *rows]) + "\n")
    found = read_series(tmp_path)
    assert found.series[0].ts_ns.tolist() == [(1_700_000_000 + 60 * k) * 10**9 for k in range(3)]
    assert found.series[0].windows == ((2, 2),)
    assert any("sorted" in note for note in found.notes) == (times[0] > times[-1])


def test_clocks_that_stand_or_were_set_back_once_are_taken_as_they_are(tmp_path: Path) -> None:
    """As a detector would have got them; it counts one step."""
    times = [1_700_000_000 + 60 * k for k in range(300)]
    times[200:] = [t - 3600 for t in times[200:]]
    times[50] = times[49]
    (tmp_path / "a.csv").write_text("timestamp,value,label\n" + "".join(f"{t},1,0\n" for t in times))
    found = read_series(tmp_path)
    assert (found.series[0].ts_ns == np.array(times) * 10**9).all()
    assert found.notes == ["a.csv: rows that run back in time: 1, times that stand twice: 1; taken as they stand"]


@pytest.mark.parametrize(("text", "place", "why"), [
    ("timestamp,value,label\n2026-01-01,1,0\nyesterday,1,0\n", "line 3", "'yesterday' is no time"),
    ("timestamp,value,label\n\n2026-01-01,1,0\n,1,0\n", "line 4", "'' is no time"),
    ("timestamp,value,label\n1700000000,1,0\n,1,0\n", "line 3", "'' is no time"),
    ("timestamp,value,label\n2026-01-01,1,0\n2026-01-02,1,odd\n", "line 3", "'odd' is no label"),
    ("timestamp,value,label\n2026-01-01,1,0\n2026-01-02,1,0,5\n", "line 3", "4 columns where the lines before have 3"),
    ("timestamp;value;label\n2026-01-01;1;0\n", "timestamp;value;label", "no column timestamp, value, label"),
    ("timestamp,value,label\n", "a.csv", "no rows"), ("", "a.csv", "empty"), ("\xff\xfe1", "a.csv", "UTF-8")])
def test_a_file_that_is_none_is_told_of_by_file_line_and_reason(tmp_path: Path, text: str, place: str, why: str) -> None:
    (tmp_path / "a.csv").write_text(text, encoding="latin-1")
    (failure,) = read_series(tmp_path).failures
    assert failure.startswith("a.csv: ") and place in failure and why in failure and "\n" not in failure


@pytest.mark.parametrize("name", [name for name in PEERS if name != "random cut forest"])
def test_peers_see_a_spike_and_survive_gaps(name: str) -> None:
    values = 50 + np.random.default_rng(1).normal(0, 1, 1200)
    values[900] += 40
    values[[100, 901]] = np.nan, np.inf
    score = PEERS[name](values)
    assert np.isfinite(score).all() and (score >= 0).all() and name in KILOBYTES
    assert score[900:912].max() > np.quantile(score[400:900], 0.99)
    assert PEERS[name](values[:900]).tolist() == score[:900].tolist()  # nothing of the future


def test_the_regression_knows_the_day() -> None:
    seconds = 1_790_000_000 + np.arange(288 * 8) * 300
    values = 100 + 40 * np.sin(2 * np.pi * seconds / 86_400)
    forecaster = SeasonalRegression()
    told = np.array([forecaster.expected(int(t) * 10**9, np.array([v]))[0] for t, v in zip(seconds, values, strict=True)])
    assert np.abs(told - values)[288 * 4:].max() < 4.0


def test_what_can_not_be_scored_is_told() -> None:
    assert _unscored([series((10, 20), (400, 499)), series()]) == [
        "x: 1 of 2 windows end before anything is scored: missed by everybody"]
    assert "nothing is labelled" in _unscored([series(), series()])[0]
    assert math.isnan(Composite([series()]).score(flags(500))) and math.isnan(NabScorer([series()]).score(flags(500)))


def test_made_series_are_the_same_every_time() -> None:
    one, other = made_series(count=7, n=2600), made_series(count=7, n=2600)
    assert all(a.name == b.name and a.windows == b.windows and (a.values == b.values).all()
               for a, b in zip(one, other, strict=True))
    assert sum(len(s.windows) for s in one) >= 6


def test_the_whole_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Small corpus, the rest as it is; ours must find both shifts and keep quiet on the third series."""
    from opsmend.evaluate import series_run

    write_nab(tmp_path)
    small = series_run.corpus(count=2, n=700)
    monkeypatch.setattr(series_run, "corpus", lambda: small)
    out = tmp_path / "report.json"
    done = CliRunner().invoke(app, ["eval", "series", "--data", str(tmp_path), "--json", str(out)])
    assert done.exit_code == 0, done.output
    report = json.loads(out.read_text(), parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert report["cases"] == 3 and report["failed"] == 0
    ours = report["methods"]["opsmend"]
    assert ours["NAB"] > 60 and ours["Fc1_operating"] > 0.5 and 0 < ours["KB_per_series"] <= 4
    assert {"z-score", "EWMA", "DSPOT", "IsolationForest"} <= set(report["methods"])
    assert {"without range", "without shift", "without residual", "without surprise", "EWMA for LSTM",
            "regression for LSTM", "no forecaster"} <= set(report["methods"])
    assert set(report["methods"]) | set(report["not_installed"]) >= {"random cut forest"}
    assert "us_per_point" not in report["methods"]["without range"]  # nobody measured that
    for needed in ("NAB_low_FP", "NAB_low_FN", "NAB_best", "VUS-PR", "AUC-PR", "Fc1", "detections_per_day", "ms_per_series"):
        assert needed in ours
