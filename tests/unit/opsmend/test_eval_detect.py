"""`opsmend eval detect`: thresholds keep to their budgets, fusions do what they say, and recorded days are read."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from opsmend.evaluate.alerts_data import Fault, RawAlert
from opsmend.evaluate.detection_ablation import evaluate_detection, quiet_windows, threshold_for
from opsmend.evaluate.detection_ablation_alerts import _summary, seconds_to_alarm
from opsmend.evaluate.detection_ablation_fusion import Attention, Ranks, votes
from opsmend.evaluate.detection_ablation_made import MODALITIES, Watched, several, watch_made, z_scores
from opsmend.evaluate.detection_ablation_recorded import watch_recorded
from opsmend.evaluate.rca_cases import CaseError


def watched(seed: int, rows: int = 400, fault: str = "slow") -> Watched:
    """Noise, and a fault at the end that metrics show well, traces a little, and logs not at all."""
    rng = np.random.default_rng(seed)
    alone = {m: rng.exponential(1.0, rows) for m in MODALITIES}
    if fault:
        alone["metrics"][-20:] += 8.0
        alone["traces"][-20:] += 2.0
    every = np.max(list(alone.values()), axis=0)
    return Watched(str(seed), fault, rows - 20, rows, 50, 60.0, alone, {"several": every})


def test_rows_before_the_warm_up_and_in_a_fault_are_not_ordinary() -> None:
    faulty, calm = watched(1), watched(1, fault="")
    assert np.flatnonzero(faulty.quiet()).tolist() == list(range(50, 380))
    assert np.flatnonzero(calm.quiet()).tolist() == list(range(50, 400))


def test_a_threshold_keeps_to_its_budget() -> None:
    windows = np.random.default_rng(0).exponential(1.0, 200)
    last = np.inf
    for allowed in (0, 3, 20.5):
        limit = threshold_for(windows, allowed)
        assert (windows >= limit).sum() == int(allowed)
        assert limit <= last
        last = limit
    assert threshold_for(np.zeros(10), 3) > 0, "of equal windows none, rather than all"
    assert threshold_for(windows, 500) == windows.min()


def test_an_alarm_that_lasts_is_false_in_every_half_hour() -> None:
    w, row = watched(0), np.zeros(400)
    row[[50, 51, 79, 80, 200]] = 1.0
    row[10] = row[390] = 1.0  # not ordinary rows
    windows = quiet_windows([row], [w])
    assert len(windows) == 11
    assert np.flatnonzero(windows).tolist() == [0, 1, 5]


def test_votes_want_two_and_take_one_where_there_is_one() -> None:
    rarity = np.array([[3.0, 0.5, np.nan], [0.2, 0.1, 2.0], [4.0, np.nan, np.nan], [np.nan] * 3])
    said = votes(rarity)
    assert said[0] == 0.5
    assert said[1] == 2.0  # metrics said 3 a row before: within the tolerance
    assert said[2] == 2.0
    assert votes(rarity[2:])[0] == 4.0
    assert np.isnan(votes(rarity[3:])[0])


def test_attention_learns_whom_to_trust_and_is_deterministic() -> None:
    rng = np.random.default_rng(0)
    is_fault = np.arange(2000) % 20 == 0
    rarity = rng.exponential(0.5, (2000, 3))
    rarity[is_fault, 0] += 3.0
    rarity[rng.random(2000) < 0.1, 1] += 4.0  # loud, and never right
    one, two = Attention(rarity, is_fault), Attention(rarity, is_fault)
    assert np.array_equal(one(rarity), two(rarity))
    assert one.a[0] + 3 * one.b[0] > one.a[1] + 3 * one.b[1]
    missing = rarity.copy()
    missing[:, 0] = np.nan
    assert np.isfinite(one(missing)).all()
    assert np.isnan(one(np.full((1, 3), np.nan))).all()


def test_ranks_make_scales_comparable() -> None:
    found = [watched(seed, fault="") for seed in range(5)]
    scaled = [replace(w, alone={**w.alone, "logs": w.alone["logs"] * 1e3}) for w in found]
    rarity = Ranks.learn(scaled).rarity(scaled[0])
    assert abs(np.median(rarity[:, 1]) - np.median(rarity[:, 0])) < 0.1


def test_several_and_z_scores_of_what_is_missing() -> None:
    values = np.random.default_rng(0).normal(10.0, 1.0, (300, 6))
    values[:, 5] = np.nan
    values[200:, 0] = 30.0
    z = z_scores(values)
    assert (z[:30] == 0).all() and (z[:, 5] == 0).all()
    assert z[201, 0] == z[200, 0] < 5 < z[202, 0]  # three rows in a row
    assert np.isnan(several(np.full((2, 3), np.nan))).all()
    assert several(np.array([[5.0, np.nan, 0.0]])).tolist() == [1.0]


def test_a_made_system_is_the_same_for_a_seed_and_shows_its_fault() -> None:
    one, two = (watch_made(3, is_faulty=True, rows=240) for _ in range(2))
    assert one.fault == two.fault and not one.fault.startswith("none")
    assert np.array_equal(one.early["several"], two.early["several"])
    assert one.begin >= 240 and one.end == one.begin + 30 == len(one.early["several"])
    assert watch_made(3, is_faulty=False, rows=240).fault == ""


def test_the_report_of_a_few_made_systems() -> None:
    report = evaluate_detection(systems=1, minutes=200)
    scores = report["groups"]["made"]
    assert report["cases"] == 2 and report["failed"] == 0
    for method, of in scores.items():
        if method != "cases":
            assert 0 <= of["recall@1/day"] <= of["recall@5/day"] <= 1, method
    assert {"metrics", "logs", "traces", "early (one space)", "late (votes)", "attention (learned)", "random"} <= set(scores)


def test_the_alerts_of_recorded_faults() -> None:
    alerts = [RawAlert(-2.0, "trace", "slow get", "a", "b"), RawAlert(40.0, "metric", "cpu up", "b"),
              RawAlert(60.0, "log", "template 1", "b")]
    lone = Fault("2", "a", "cpu", 0.0, (RawAlert(5.0, "metric", "cpu up", "a"), RawAlert(90.0, "trace", "slow get", "a", "b")))
    found = seconds_to_alarm([Fault("1", "b", "cpu", 0.0, tuple(alerts)), lone])
    assert found == {"metrics": [40.0, 5.0], "logs": [60.0, np.inf], "traces": [0.0, 90.0],
                     "early (any alert)": [0.0, 5.0], "late (votes)": [60.0, np.inf]}


def recorded(directory: Path, begin: int = 1_700_000_400 // 60 * 60 + 12_000) -> Path:
    """A day of one service called by another: a fault at minute 200, spans of the twenty minutes around it."""
    case = directory / "set" / "case"
    case.mkdir(parents=True)
    zero, rng = begin - 200 * 60, np.random.default_rng(0)
    (case / "label.json").write_text(json.dumps({"dataset": "set", "day": "1", "inject_time": begin, "fault_type": "slow",
                                                 "normal": "../normal.csv", "abnormal_seconds": 240}))
    for path, minutes in ((case.parent / "normal.csv", [*range(199), *range(206, 260)]),
                          (case / "metrics.csv", range(199, 206))):
        with path.open("w", newline="") as file:
            rows = csv.writer(file)
            rows.writerow(["time", "a|latency", "b|latency"])
            rows.writerows([zero + 60 * m, rng.normal(1, 0.05), rng.normal(1, 0.05) + 5 * (200 <= m < 204)] for m in minutes)
    with (case / "traces.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["time", "caller", "callee", "operation", "n", "p95_us"])
        rows.writerows([zero + 60 * m, "a", "b", "get", 100, rng.normal(1000, 20) + 9000 * (200 <= m < 204)]
                       for m in range(184, 204))
    return directory


def test_times_of_spans_may_be_in_another_unit(tmp_path: Path) -> None:
    path = recorded(tmp_path) / "set" / "case" / "traces.csv"
    head, *rows = path.read_text().splitlines()
    path.write_text("\n".join([head, *(row.replace(",", "000,", 1) for row in rows)]))
    assert [(w.begin, w.end) for w in watch_recorded(tmp_path).days["set 1, minutes with spans"]] == [(16, 20)]


def test_a_recorded_day_is_one_stretch_of_time(tmp_path: Path) -> None:
    found = watch_recorded(recorded(tmp_path))
    (spans,), (every,) = found.days["set 1, minutes with spans"], found.days["set 1, all minutes"]
    assert (spans.begin, spans.end) == (16, 20)
    assert every.end - every.begin == 4 and every.begin > 60
    assert not found.failures
    assert found.notes == ["set 1: 1 faults, 1 of them with spans, 0 with log lines; 0 began in the first 130 minutes, "
                           "which nobody judges"]
    for w in (spans, every):
        assert np.nanmin(w.early["several"][w.begin + 2:]) > np.nanmax(w.early["several"][: w.begin])
    assert np.isnan(spans.alone["logs"]).all()


@pytest.mark.parametrize(("file", "text", "why"), [
    ("label.json", "{", "case/label.json: no JSON"),
    ("label.json", '{"inject_time": "noon", "normal": "../normal.csv"}', "inject_time 'noon' is no number"),
    ("label.json", '{"inject_time": NaN, "normal": "../normal.csv"}', "inject_time nan is no number"),
    ("metrics.csv", "time,a|latency\n1,oops\n", "case/metrics.csv: line 2, column `a|latency`: 'oops'"),
    ("../normal.csv", "when,a|latency\n1,2\n", "set/normal.csv: the first column must be `time`"),
    ("traces.csv", "time,caller\n", "case/traces.csv: no column `callee`"),
    ("traces.csv", "time,caller,callee,operation,n,p95_us\n1,a,b,get,many,3\n", "case/traces.csv: row 1, column `n`: 'many'"),
    ("logs.csv", "time,service,n_lines,n_level_warn_err,n_err_words\n,a,1,0,0\n", "case/logs.csv: row 1, column `time`: ''")])
def test_a_case_that_can_not_be_read_is_named_and_the_others_are_scored(tmp_path: Path, file: str, text: str,
                                                                       why: str) -> None:
    recorded(tmp_path / "whole")
    (recorded(tmp_path / "broken") / "set" / "case" / file).resolve().write_text(text)
    found = watch_recorded(tmp_path)
    assert len(found.failures) == 1 and why in found.failures[0]
    assert len(found.days["set 1, minutes with spans"]) == 1


def test_data_without_days_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CaseError, match="no case"):
        evaluate_detection(tmp_path)
    label = recorded(tmp_path) / "set" / "case" / "label.json"
    label.write_text(json.dumps({"inject_time": 1_700_000_400}))
    with pytest.raises(CaseError, match=r"left out: 1 without inject_time in label.json"):
        evaluate_detection(tmp_path)


def test_what_is_not_defined_is_left_out_of_the_report() -> None:
    """JSON has no NaN."""
    never = Fault("1", "a", "cpu", 0.0, (RawAlert(5.0, "metric", "cpu up", "a"),))
    rows = {name: _summary(seconds) for name, seconds in seconds_to_alarm([never]).items()}
    assert rows["logs"]["recall"] == 0.0 and "delay_s" not in rows["logs"] and rows["metrics"]["delay_s"] == 5.0
