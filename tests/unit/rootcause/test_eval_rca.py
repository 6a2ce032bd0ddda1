"""`opsmend eval rca` on made-up recordings in the layout of the real ones."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from opsmend.commands.evaluate import run_eval
from opsmend.config import ConfigError
from opsmend.evaluate.rca import evaluate_rca
from opsmend.evaluate.rca_cases import CaseError, build_window, read_case
from opsmend.evaluate.rca_columns import role_of
from opsmend.evaluate.rca_files import read_table
from rootcause.rankers.registry import RANKERS
from rootcause.stage import RootCauseConfig

SERVICES = ("web", "cart", "store")


def write_case(folder: Path, root: str = "cart", seed: int = 0, **label: Any) -> Path:
    """70 rows, the last 10 with a slow and failing root."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    columns = [f"{s}|{m}" for s in SERVICES for m in ("latency_Average", "latency_p50", "availability_Average", "requests_Sum")]
    rows = []
    for n in range(70):
        row: list[float | str] = [1000.0 + 60 * n]
        for service in SERVICES:
            bad = n >= 60 and (service == root or (service == "web" and root != "web"))
            latency = 0.1 * rng.lognormal(0, 0.05) + (0.9 if bad else 0.0)
            row += [latency, 0.05, 100.0 - (30.0 if bad else 0.0), "" if service == "store" and n % 2 else 500.0]
        rows.append(row)
    with (folder / "metrics.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["time", *columns], *rows])
    (folder / "graph.csv").write_text("source,target\nweb,cart\ncart,store\n")
    (folder / "label.json").write_text(json.dumps(
        {"dataset": "shop", "root_cause_service": root, "inject_time": 1000.0 + 60 * 60, "fault_type": "slow",
         "normal": None} | label))
    return folder


def test_report_has_every_method_and_the_shape_that_was_promised(tmp_path: Path) -> None:
    for n in range(3):
        write_case(tmp_path / f"c{n}", seed=n)
    report = evaluate_rca(tmp_path)
    assert {k: report[k] for k in ("what", "cases", "failed", "seed")} == {"what": "rca", "cases": 3, "failed": 0, "seed": 0}
    assert set(report["methods"]) == {"opsmend", *RANKERS} - {RootCauseConfig().ranker}
    assert {"AC@1", "AC@3", "Avg@5", "MRR", "ms_per_case", "ECE"} <= set(report["methods"]["opsmend"])
    assert all({"ms_per_case", "ECE", "abstention", "AC@1 95%"} <= set(found) for found in report["methods"].values())
    assert all({"AC@1 95%", "AC@3 95%", "Avg@5 95%", "MRR 95%"} <= set(found) for group in report["groups"].values()
               for name, found in group.items() if name != "cases")
    assert "none_wrongly" not in report["methods"]["baro"] and "none_wrongly" in report["methods"]["opsmend"]
    assert report["methods"]["last_change"]["abstention"][-1]["accuracy"] == pytest.approx(1 / 3, abs=1e-3), "ties share"
    assert report["methods"]["opsmend"]["AC@1"] == 1.0
    assert report["methods"]["last_change"]["AC@1"] == pytest.approx(1 / 3, abs=1e-3)  # no changes: a tie of three
    assert report["methods"]["random"]["AC@1"] == pytest.approx(1 / 3, abs=1e-3)
    assert report["methods"]["opsmend"]["AC@1 95%"] == [1.0, 1.0]
    assert report["methods"]["opsmend"]["calm_windows"] == 12.0  # four of each case
    assert report["groups"]["shop: slow"]["cases"]["n"] == 3
    assert json.loads(json.dumps(report)) == report
    assert {k: v for k, v in evaluate_rca(tmp_path).items() if k != "methods"} == {
        k: v for k, v in report.items() if k != "methods"}


def test_split_test_and_dev_never_overlap(tmp_path: Path) -> None:
    for n, split in enumerate(["test", "train", None]):
        write_case(tmp_path / f"c{n}", split=split)
    assert evaluate_rca(tmp_path, split="test")["cases"] == 1
    assert evaluate_rca(tmp_path, split="dev")["cases"] == 2
    with pytest.raises(CaseError, match="no case in the split"):
        write_case(tmp_path / "only" / "c", split="train")
        evaluate_rca(tmp_path / "only", split="test")


def test_unreadable_cases_are_counted_named_and_fail_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_case(tmp_path / "good")
    write_case(tmp_path / "stranger", root="cart", root_cause_service="nobody")
    (write_case(tmp_path / "torn") / "metrics.csv").write_text("time,web|latency\n1,x\n")
    out = tmp_path / "report.json"
    assert run_eval("rca", tmp_path, out, "") == 1
    report = json.loads(out.read_text())
    assert (report["cases"], report["failed"]) == (3, 2)
    told = capsys.readouterr()
    assert "'nobody' is not among its services" in told.err
    assert "torn" in told.err
    assert "max_robust_z" in told.out


METRICS, LABEL, GRAPH = "metrics.csv", "label.json", "graph.csv"


@pytest.mark.parametrize(("file", "text", "place"), [
    (METRICS, "", "bad/metrics.csv: the first column must be `time` .unix seconds., and is missing"),
    (METRICS, "when,web|latency\n1,2\n", "bad/metrics.csv: the first column must be `time` .* is 'when'"),
    (METRICS, "time,web|latency\n1,2\n2\n", "bad/metrics.csv: line 3 has 1 cells, the header 2"),
    (METRICS, "time,web|latency\n1,2\n2,slow\n", "line 3, column `web|latency`: 'slow' is no number"),
    (METRICS, "time,web|latency\n,2\n", "bad/metrics.csv: line 2 has no time"),
    (METRICS, "time,web|latency\n9000,1\n", "no fault-free rows: .* label.json names no file"),
    (METRICS, "time,web|latency\n10,1\n", "1 fault-free rows, 0 in the fault; metrics.csv has 10 to 10, inject_time is 4600"),
    (METRICS, "time,cart|latency\n10,1\n4600,NaN\n4700,inf\n", "not one value in the 2 rows of the fault"),
    (METRICS, "time,cart_latency\n10,1\n4600,2\n", "no column is `<service>|<metric>` .* they are cart_latency"),
    (METRICS, None, "bad/metrics.csv: no such file"),
    (LABEL, "[]", "bad/label.json: must be an object"),
    (LABEL, "{", "bad/label.json: no JSON"),
    (LABEL, "{}", "bad/label.json: names no root_cause_service"),
    (LABEL, '{"root_cause_service": "cart"}', "bad/label.json: needs inject_time"),
    (LABEL, '{"root_cause_service": "cart", "inject_time": "2022-08-22T03:51:00"}', "inject_time '2022.* unix seconds"),
    (LABEL, '{"root_cause_service": "cart", "inject_time": 4600, "normal": "../usual.csv"}', "usual.csv: no such file"),
    (LABEL, '{"root_cause_service": "cart", "inject_time": 4600, "n_normal": -3}', "bad/label.json: n_normal is -3"),
    (LABEL, '{"root_cause_service": "cart", "inject_time": 4600, "normal": "graph.csv"}', "graph.csv: the first column must"),
    (GRAPH, "from,to\nweb,cart\n", "bad/graph.csv: its first line must be `source,target`"),
    ("logs.csv", "time,lines\n1,2\n", "bad/logs.csv: no column `service`, `n_lines`; it has time, lines"),
])
def test_what_cant_be_read_is_named_by_place_and_remedy(tmp_path: Path, file: str, text: str | None, place: str,
                                                        capsys: pytest.CaptureFixture[str]) -> None:
    write_case(tmp_path / "good")
    bad = write_case(tmp_path / "bad") / file
    if text is None:
        bad.unlink()
    else:
        bad.write_text(text)
    out = tmp_path / "report.json"
    assert run_eval("rca", tmp_path, out, "", ranker="n_sigma") == 1
    report = json.loads(out.read_text())
    assert (report["cases"], report["failed"]) == (2, 1), "a miss, and no reason to lose the other"
    assert report["methods"]["opsmend"]["AC@1"] == 0.5
    found = capsys.readouterr().err
    assert re.search("failed: .*" + place, found), found


def test_a_folder_without_a_label_is_told_of_and_a_split_is_one_however_it_is_written(tmp_path: Path) -> None:
    write_case(tmp_path / "good", split=" Test")
    (write_case(tmp_path / "forgotten") / LABEL).unlink()
    report = evaluate_rca(tmp_path, split="test", ranker="n_sigma")
    assert report["cases"] == 1 and report["notes"] == ["forgotten: metrics.csv without label.json: not scored"]
    with pytest.raises(CaseError, match="no case in the split 'dev'"):
        evaluate_rca(tmp_path, split="dev")
    strange = write_case(tmp_path / "strange", normal="../usual.csv")
    (tmp_path / "usual.csv").write_text("time,other|latency\n1,2\n")
    with pytest.raises(CaseError, match=r"strange: metrics.csv and ../usual.csv have no column in common"):
        read_case(strange)


def test_a_file_of_a_spreadsheet_and_one_of_another_alphabet(tmp_path: Path) -> None:
    metrics = write_case(tmp_path / "c") / "metrics.csv"
    before = read_case(tmp_path / "c").window.node_metrics["latency"]
    metrics.write_bytes(b"\xef\xbb\xbf" + metrics.read_bytes().replace(b"\n", b"\r\n"))
    read_table.cache_clear()
    assert np.array_equal(read_case(tmp_path / "c").window.node_metrics["latency"], before, equal_nan=True)
    metrics.write_bytes(metrics.read_bytes().replace(b"store", b"st\xf6re"))
    read_table.cache_clear()
    with pytest.raises(CaseError, match=r"c/metrics.csv: byte \d+ is no UTF-8"):
        read_case(tmp_path / "c")


def test_without_a_graph_there_are_scores_and_a_word(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (write_case(tmp_path / "c") / "graph.csv").unlink()
    assert run_eval("rca", tmp_path, None, "", ranker="n_sigma") == 0
    assert "note: c: graph.csv is missing: rankers that need to know who calls whom" in capsys.readouterr().err


def test_every_score_is_drawn_with_its_interval_and_every_ranker_by_group(tmp_path: Path,
                                                                          capsys: pytest.CaptureFixture[str]) -> None:
    for n in range(3):
        write_case(tmp_path / f"c{n}", seed=n, fault_type="slow" if n else "error")
    assert run_eval("rca", tmp_path, None, "", ranker="n_sigma") == 0
    lines = capsys.readouterr().out.splitlines()
    (ours,) = [line for line in lines if line.split()[:2] == ["opsmend", "1.000"]]
    assert len(re.findall(r"1\.000 1\.00-1\.00", ours)) == 4, "AC@1, AC@3, Avg@5 and MRR"
    (group,) = [line for line in lines if line.split()[:3] == ["shop:", "slow", "2"]]
    assert len(re.findall(r"1\.000 1\.00-1\.00", group)) == 4
    every = r"  shop: slow \(2\): opsmend 1\.00, n_sigma \d\.\d\d, random 0\.33"
    assert any(re.fullmatch(every, line) for line in lines), lines


def test_all_good_ends_well(tmp_path: Path) -> None:
    write_case(tmp_path / "good")
    assert run_eval("rca", tmp_path, None, "") == 0


def test_no_cases_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CaseError, match="no case"):
        run_eval("rca", tmp_path, None, "")
    with pytest.raises(CaseError, match="no such folder"):
        run_eval("rca", tmp_path / "absent", None, "")
    with pytest.raises(ConfigError, match="known: logs, rca"):
        run_eval("horoscope", tmp_path, None, "")
    with pytest.raises(ConfigError, match="dev, test"):
        run_eval("rca", tmp_path, None, "tset")


def test_rows_before_and_in_the_fault(tmp_path: Path) -> None:
    window = read_case(write_case(tmp_path / "c")).window
    assert window.baseline_rows == 60
    assert len(window.ts_ns) == 70
    assert window.node_metrics["errors"][65, window.services.index("cart")] == pytest.approx(0.3)
    assert np.isnan(window.node_metrics["traffic"][1, window.services.index("store")])
    assert window.edges.tolist() == [[0, 1], [2, 0]]  # services in the order of the alphabet


def test_usual_rows_of_another_file_end_before_the_fault(tmp_path: Path) -> None:
    case = write_case(tmp_path / "c", normal="../normal.csv", inject_time=1000.0 + 60 * 65)
    lines = (case / "metrics.csv").read_text().splitlines()
    (tmp_path / "normal.csv").write_text("\n".join(lines) + "\n")
    window = read_case(case, clock="detected").window
    assert window.baseline_rows == 66  # the row of the injection itself included, those after it not
    assert len(window.ts_ns) == 66 + 5
    assert read_case(case, clock="known").window.baseline_rows == 70  # whoever is told looks back on it


def test_where_the_onset_is_looked_for_the_rows_before_it_are_in_order(tmp_path: Path) -> None:
    """A file of usual rows that lacks those around earlier faults: the case's own rows stand between them."""
    case = write_case(tmp_path / "c", normal="../normal.csv", inject_time=1000.0 + 60 * 65)
    lines = (case / "metrics.csv").read_text().splitlines()
    windows = []
    for kept in (lines, lines[:20] + lines[40:]):
        (tmp_path / "normal.csv").write_text("\n".join(kept) + "\n")
        windows.append(read_case(case, clock="detected").window)
    whole, parts = windows
    assert whole.baseline_rows == parts.baseline_rows
    np.testing.assert_array_equal(parts.node_metrics["latency"], whole.node_metrics["latency"])


def test_times_with_too_few_digits_still_tell_how_long_a_row_is() -> None:
    """PetShop prints seconds as 1.68187e+09: neighbours look alike, the span does not."""
    rows = np.column_stack([np.round(1.68e9 + 300.0 * np.arange(600), -4), np.ones(600)])
    window = build_window(rows[:590], rows[590:], ("a|latency_p50",), [])
    assert np.median(np.diff(window.ts_ns)) / 1e9 == pytest.approx(300, rel=0.05)


@pytest.mark.parametrize(("values", "per_second"), [((60.0, 120.0), 1.5), ((60.5, 120.5), 90.5)])
def test_whole_numbers_are_requests_per_row_and_others_a_rate(values: tuple[float, float], per_second: float) -> None:
    rows = np.column_stack([60.0 * np.arange(20), np.tile(values, 10)])
    window = build_window(rows[:15], rows[15:], ("a|requests",), [])
    assert np.mean(window.node_metrics["traffic"]) == pytest.approx(per_second)


def test_the_mean_counts_where_there_are_several_statistics() -> None:
    rows = np.array([[float(n), 1.0, 5.0] for n in range(20)])
    window = build_window(rows[:15], rows[15:], ("a|latency_p50", "a|latency_Average"), [])
    assert window.node_metrics["latency"][0, 0] == 5.0


@pytest.mark.parametrize(("column", "indicator"), [
    ("cart|availability_Average", "errors"), ("cart|requests_Sum", "traffic"), ("cart|server_lat_95", "latency"),
    ("cart|mem_rate", "memory"), ("cart|cpu", "cpu"), ("cart|http.server.error_ratio", "errors")])
def test_meaning_of_columns(column: str, indicator: str) -> None:
    role = role_of(column)
    assert role is not None
    assert (role.service, role.indicator, role.caller) == ("cart", indicator, "")


def test_failures_counted_at_the_entry_are_those_of_the_service_that_nobody_calls() -> None:
    rows = np.column_stack([60.0 * np.arange(20), np.full(20, 90.0)])
    columns = ("__entry__|SuccessRate",)
    window = build_window(rows[:15], rows[15:], columns, [("web", "cart"), ("web", "store"), ("cart", "store")])
    assert window.node_metrics["errors"][0, window.services.index("web")] == pytest.approx(0.1)
    assert np.isnan(window.node_metrics["errors"][:, window.services.index("cart")]).all()
    # Two services that nobody calls: whose failures they are is unknown.
    assert "errors" not in build_window(rows[:15], rows[15:], columns, [("web", "cart"), ("app", "cart")]).node_metrics


def test_time_on_the_way_is_what_the_caller_waits_beyond_what_the_callee_measures() -> None:
    rows = np.column_stack([60.0 * np.arange(20), np.full(20, 0.5), np.full(20, 0.2)])
    window = build_window(rows[:15], rows[15:], ("cart|edge_source_p50__from_web", "cart|edge_destination_p50__from_web"),
                          [("web", "cart")])
    assert window.edge_metrics["network"][:, 0] == pytest.approx(np.full(20, 0.3))
    assert window.edge_metrics["latency"][:, 0] == pytest.approx(np.full(20, 0.5))
    assert set(window.edge_metrics) == {"latency", "network"}


@pytest.mark.parametrize("column", ["time", "cart|node_cpu", "__entry__|lat_P95", "cart|disk_temperature"])
def test_columns_that_say_nothing_of_a_service(column: str) -> None:
    assert role_of(column) is None


@pytest.mark.parametrize(("column", "indicator"), [
    ("cart|load", "traffic"), ("cart|lat_50", "latency"), ("cart|latency-90", "latency"), ("cart|error", "errors"),
    ("cart|success", "errors"), ("cart|cpu", "cpu"), ("cart|disk_read", "disk"), ("cart|node_cpu", None)])
def test_columns_of_other_sources(column: str, indicator: str | None) -> None:
    role = role_of(column)
    assert (role.indicator if role else None) == indicator


def test_successes_become_failures_and_counts_become_shares() -> None:
    success, error = role_of("cart|success"), role_of("cart|error")
    assert success is not None
    assert error is not None
    assert success.value(np.array([100.0, 90.0])) == pytest.approx([0.0, 0.1])
    assert success.value(np.array([1.0, 0.9])) == pytest.approx([0.0, 0.1])
    assert np.isnan(success.value(np.zeros(2))).all()
    assert error.value(np.array([0.0, 0.5])) == pytest.approx([0.0, 0.5])
    assert error.value(np.array([0.0, 3.0])) == pytest.approx([0.0, 0.75])
