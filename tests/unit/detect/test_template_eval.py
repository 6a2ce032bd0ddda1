"""`opsmend eval logs`: scores worked out by hand, and the whole command on lines in the layout of the labelled sets."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path

import pytest

from opsmend.commands.evaluate import run_eval
from opsmend.config import ConfigError
from opsmend.evaluate.logs import evaluate_logs
from opsmend.evaluate.logs_methods import METHODS
from opsmend.evaluate.logs_scores import grouping, normalised, template_accuracy
from opsmend.evaluate.rca_cases import CaseError

DATA = Path(os.environ.get("OPSMEND_TEST_DATA", "/nowhere")) / "logs"


@pytest.mark.parametrize(("template", "form"), [
    ("two  blanks \t here ", "two blanks here"),
    ("took 12 ms, done: true", "took <*> ms, done: <*>"),
    ("user root or Admin at rootfs", "user <*> or <*> at rootfs"),
    ("file /var/log/x: bad", "file <*>: bad"),
    ("blk_<*> of <*>ms", "<*> of <*>"),
    ("<*>.<*>.<*>:<*>", "<*>"),
    ("read <*>/<*> blocks", "read <*> blocks"),
    ("task '<*>' is #<*> of \"<*>\" ones", "task <*> is <*> of <*> ones"),
    ("node-<*> core.<*>", "node-<*> core.<*>"),
    ("<memory:<*>, vCores:<*>>", "<memory:<*>, vCores:<*>"),
    ("", ""),
])
def test_the_benchmarks_form_of_a_template(template: str, form: str) -> None:
    assert normalised(template) == form
    assert normalised(form) == form


def test_grouping_counts_lines_and_groups() -> None:
    truth = ["a"] * 4 + ["b"] * 3 + ["c"] * 3
    assert grouping(truth, truth) == (1.0, 1.0)
    #   a is whole, b is cut in two, c is whole: 7 of 10 lines; 2 groups right of 4 found and 3 true.
    assert grouping(truth, [1] * 4 + [2, 2, 3] + [4] * 3) == (0.7, pytest.approx(2 * 2 / 7))
    #   one group for everything is wrong everywhere
    assert grouping(truth, [0] * 10) == (0.0, 0.0)


def test_a_template_is_right_when_all_its_lines_say_the_same() -> None:
    truth = ["a <*>"] * 4 + ["b <*>"] * 4
    assert template_accuracy(truth, truth) == (1.0, 1.0)
    #   half of b's lines have another text: 6 of 8 lines; right templates: "a <*>" and "b <*>" of 3 found and 2 true
    assert template_accuracy(truth, ["a <*>"] * 4 + ["b <*>"] * 2 + ["b x"] * 2) == (0.75, pytest.approx(2 * 2 / 5))
    #   a's text is given to b's lines as well: no template is right
    assert template_accuracy(truth, ["a <*>"] * 8) == (0.5, 0.0)


def _write(folder: Path, system: str, rows: list[tuple[str, str]], columns: tuple[str, str] = ("Content", "EventTemplate"),
           ) -> None:
    (folder / system).mkdir()
    with (folder / system / f"{system}_2k.log_structured_corrected.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("LineId", *columns), *((n, *row) for n, row in enumerate(rows))])


def test_the_whole_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _write(tmp_path, "Shop", [(f"order {n} paid from 10.0.0.{n % 9}", "order <*> paid from <*>") for n in range(50)] +
           [("null", "<*>"), ("shutting down", "shutting down")])
    _write(tmp_path, "Disk", [(f"took {n} ms", "took <*> ms") for n in range(20)])
    assert run_eval("logs", tmp_path, tmp_path / "out.json", "") == 0
    report = json.loads((tmp_path / "out.json").read_text())
    assert (report["what"], report["cases"], report["failed"]) == ("logs", 2, 0)
    assert set(report["methods"]) == set(METHODS) >= {"opsmend", "drain3", "drain3-masks"}
    assert set(report["groups"]) == {"Disk", "Shop"}
    ours = report["methods"]["opsmend"]
    assert [ours[s] for s in ("GA", "FGA", "PA", "FTA", "GA_at_emission", "PA_at_emission")] == [1.0] * 6
    assert ours["lines_per_s"] > 0
    trivial = report["groups"]["Disk"]["line as it is"]
    assert (trivial["GA"], trivial["PA"]) == (0.0, 1.0)  # numbers are values in the benchmark's form
    assert "opsmend" in capsys.readouterr().out


def test_nothing_to_read_and_unreadable_files_fail(tmp_path: Path) -> None:
    with pytest.raises(CaseError, match="no"):
        evaluate_logs(tmp_path)
    with pytest.raises(ConfigError, match="splits"):
        run_eval("logs", tmp_path, None, "dev")
    _write(tmp_path, "Shop", [("a b", "a b")])
    _write(tmp_path, "Odd", [("a b", "a b")], columns=("Content", "Label"))
    report = evaluate_logs(tmp_path)
    assert (report["cases"], report["failed"]) == (2, 1)
    assert "EventTemplate" in report["failures"][0]
    assert run_eval("logs", tmp_path, None, "") == 1


@pytest.mark.skipif(not DATA.is_dir(), reason="OPSMEND_TEST_DATA names no folder with labelled logs")
def test_on_labelled_systems_one_configuration_does_it() -> None:
    report = evaluate_logs(DATA)
    ours, peer = report["methods"]["opsmend"], report["methods"]["drain3"]
    assert report["failed"] == 0
    assert ours["FGA"] >= 0.97 > peer["FGA"]
    assert ours["PA"] >= 0.95 > peer["PA"]
    assert ours["FTA"] >= 0.88 > peer["FTA"]
    together = report["methods"]["opsmend, one miner"]
    assert all(abs(together[s] - ours[s]) < 0.01 for s in ("FGA", "PA", "FTA"))
