"""`opsmend eval alerts`: what it reads, how it scores, and that it fails where it must."""

from __future__ import annotations

import csv
import json
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from opsmend.commands.evaluate import run_eval
from opsmend.evaluate.alerts import evaluate_alerts, storms_of
from opsmend.evaluate.alerts_ablation import evaluate_ablation
from opsmend.evaluate.alerts_data import read_faults, read_graph, split_faults
from opsmend.evaluate.alerts_methods import METHODS
from opsmend.evaluate.alerts_scores import scores
from opsmend.evaluate.alerts_storms import SCENARIOS, calls_of, hosts_of, make_storms
from opsmend.evaluate.alerts_stream import stream
from opsmend.evaluate.alerts_track import id_switches, tracked
from opsmend.evaluate.rca_cases import CaseError

ZONE = 8 * 3600
BEGIN = 1_625_000_000


def wall(seconds: float) -> str:
    return datetime.fromtimestamp(seconds + ZONE, UTC).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]


def write(data: Path, faults: int = 12) -> None:
    """Faults in the layout of MicroSS: metrics and traces by an epoch clock, labels and logs by a wall clock."""
    rng = np.random.default_rng(0)
    labels, metrics, logs, traces = [], {}, {}, {}
    for n in range(faults):
        start, i = BEGIN + 5_000 * n, str(n)
        labels.append({"fault_id": i, "orig_fault_id": str(900 + n), "fault_entity": "web1", "fault_type": "[memory]",
                       "fault_st_time": wall(start), "augmented": "False"})
        at = start + np.sort(rng.exponential(30, 24))
        metrics[i] = [[str(int(t * 1e3)), f"web{k % 3}", f"10.0.0.{k % 3}", f"m{k}.{n}", "up"] for k, t in enumerate(at[:14])]
        traces[i] = [[str(int(t * 1e3)), f"web{k % 3}", f"db{k % 2}", f"http://x/{n}.{k}", "PD"] for k, t in enumerate(at[14:])]
        lines = [f"{wall(t).replace('.', ',')} | ERROR | web1 | refused" for t in at[:3]]
        logs[i] = [["web1", "7", lines, 3, None]]
    labels.append({**labels[0], "fault_id": "99", "augmented": "True"})
    metrics["99"], logs["99"], traces["99"] = metrics["0"], logs["0"], traces["0"]
    with (data / "label.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(labels[0]))
        writer.writeheader()
        writer.writerows(labels)
    for at_path, rows in (("metric/metrics.json", metrics), ("log/logs.json", logs), ("trace/traces.json", traces)):
        (data / at_path).parent.mkdir(exist_ok=True)
        (data / at_path).write_text(json.dumps(rows))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    write(tmp_path)
    return tmp_path


def test_clocks_are_aligned_and_copies_left_out(data: Path) -> None:
    faults = read_faults(data)
    assert [f.id for f in faults] == [str(n) for n in range(12)]
    for fault in faults:
        assert len(fault.alerts) == 27
        by_modality = {m: [a.at_s for a in fault.alerts if a.modality == m] for m in ("metric", "log", "trace")}
        assert np.allclose(by_modality["log"], by_modality["metric"][:3], atol=0.01)
        assert 0 <= min(by_modality["metric"]) < 60
    assert [len(split_faults(faults, s)) for s in ("dev", "test", "")] == [9, 3, 12]


def test_a_graph_beside_the_alerts_places_services_that_no_failed_call_names(data: Path) -> None:
    """Else each is a system of its own, and a fault that is seen there is several incidents."""
    assert read_graph(data) == frozenset()
    (data / "graph.csv").write_text("source,target\nweb1,mail\n")
    assert read_graph(data) == {("web1", "mail")}
    faults = read_faults(data)
    made = storms_of(faults, faults, 1, (0,), read_graph(data))
    assert made["one"][0].calls == calls_of(faults) | {("web1", "mail")}
    assert ("system3.web1", "system3.mail") in made["elsewhere"][0].calls
    (data / "graph.csv").write_text("from,to\nweb1,mail\n")
    with pytest.raises(CaseError, match="source"):
        read_graph(data)


def test_storms_are_what_their_scenario_says(data: Path) -> None:
    faults = read_faults(data)
    for name, scenario in SCENARIOS.items():
        for storm in make_storms(faults, scenario, 3, 0, calls_of(faults), hosts_of(faults)):
            assert len(storm.onsets) == scenario.faults == len(set(storm.fault))
            gaps = np.diff(np.sort(storm.onsets))
            assert name != "apart" or (gaps >= 300).all()
            assert name == "apart" or storm.alerts[-1].at_s - storm.alerts[0].at_s <= 960
            systems = {a.service.partition(".")[0] for a in storm.alerts}
            assert (name == "elsewhere") == all(s.startswith("system") for s in systems)


def test_the_service_itself_is_what_is_scored(data: Path) -> None:
    faults = read_faults(data)
    (storm,) = make_storms(faults, SCENARIOS["one"], 1, 0, calls_of(faults), hosts_of(faults))
    said = [incident for *_, told in stream(storm) for incident in told]
    assert {i.state for i in said} <= {"open", "merged"}
    assert {s.detector for i in said for s in i.signals} == {"external_alert"}
    labels = METHODS["opsmend"](storm)
    assert len(labels) == len(storm.alerts)
    assert (labels >= 0).all()


def test_the_report_has_every_scenario_and_method(data: Path, tmp_path: Path) -> None:
    report = evaluate_alerts(data, split="", storms=1, seeds=(0,))
    assert report["failed"] == 0
    assert report["cases"] == len(SCENARIOS)
    assert set(report["groups"]) == set(SCENARIOS)
    for group in report["groups"].values():
        assert set(group) == {"cases", *METHODS}
        for method in METHODS:
            assert {"AMI", "homogeneity", "completeness", "over_merge", "under_merge", "groups_per_fault", "id_switches",
                    "compression"} <= set(group[method])
    assert report["groups"]["elsewhere"]["oracle"]["AMI"] == 1.0


def test_too_few_faults_fail_by_name_and_bad_data_is_refused(data: Path, tmp_path: Path,
                                                            capsys: pytest.CaptureFixture[str]) -> None:
    report_file = tmp_path / "report.json"
    assert run_eval("alerts", data, report_file, "") == 1  # the test split holds three faults
    report = json.loads(report_file.read_text())
    assert [f.split(":")[0] for f in report["failures"]] == ["apart", "elsewhere", "dense"]
    assert "failed: dense" in capsys.readouterr().err
    (data / "log/logs.json").write_text("{")
    with pytest.raises(CaseError, match=r"logs\.json: Expecting"):
        read_faults(data)


def test_one_kind_of_telemetry_is_enough_and_none_is_not(data: Path) -> None:
    (data / "log/logs.json").unlink()
    (data / "trace/traces.json").unlink()
    assert {a.modality for f in read_faults(data) for a in f.alerts} == {"metric"}
    (data / "metric/metrics.json").unlink()
    with pytest.raises(CaseError, match="none of metric"):
        read_faults(data)


@pytest.mark.parametrize(("file", "text", "said"), [
    ("metric/metrics.json", '{"3": [[1, "web1"]]}', r"metrics\.json, fault 3: .*\[ms, entity, host"),
    ("metric/metrics.json", "[]", "not an object"),
    ("trace/traces.json", '{"3": [["soon", "a", "b", "c", "PD"]]}', r"traces\.json, fault 3: .*soon"),
    ("log/logs.json", '{"3": [["web1", "7", ["yesterday"]]]}', r"logs\.json, fault 3: no time in 'yesterday'"),
    ("log/logs.json", '{"3": 5}', r"logs\.json, fault 3"),
    ("label.csv", "fault_id,when\n1,now\n", r"label\.csv: no column fault_st_time"),
    ("label.csv", "fault_id,fault_st_time\n1,now\n", r"label\.csv, fault 1: .*like 2021")])
def test_what_can_not_be_read_is_named_with_its_place_and_what_belongs_there(data: Path, file: str, text: str,
                                                                            said: str) -> None:
    (data / file).write_text(text)
    with pytest.raises(CaseError, match=said):
        read_faults(data)


def test_an_ablation_scores_each_modality_on_all_alerts(data: Path) -> None:
    report = evaluate_ablation(data, split="", storms=1, seeds=(0,))
    assert set(report["methods"]) == {"metrics", "logs", "traces", "early (opsmend)", "late (votes)", "attention (learned)"}
    assert report["groups"]["one"]["early (opsmend)"]["AMI"] >= report["groups"]["one"]["logs"]["AMI"]


def test_what_is_in_no_group_counts_alone() -> None:
    assert scores([0, 0, 1, 1], np.array([0, 0, 1, 1]))["AMI"] == 1.0
    loose = scores([0, 0, 1, 1], np.array([0, 0, -1, -1]))
    assert loose["groups_per_fault"] == 1.5
    assert loose["over_merge"] == 0.0
    mixed = scores([0, 0, 1, 1], np.array([0, 0, 0, 1]))
    assert (mixed["over_merge"], mixed["under_merge"], mixed["compression"]) == (0.5, 0.5, 2.0)


def test_id_switches_are_changes_of_the_group_that_holds_most_of_a_fault() -> None:
    steady = [np.array([0, 0]), np.array([0, 0, 1, 1])]
    assert id_switches([0, 0, 1, 1], steady) == 0.0
    assert id_switches([0, 0, 0, 1], [np.array([0, 0]), np.array([5, 5, 5, 1])]) == 0.5
    assert id_switches([0, 0, 0, 0], [np.array([0, 0]), np.array([0, 0, 1, 1])]) == 0.0  # a tie is none


def test_groups_without_memory_keep_ids_by_what_they_share(data: Path) -> None:
    faults = read_faults(data)
    (storm,) = make_storms(faults, SCENARIOS["apart"], 1, 0, calls_of(faults), hosts_of(faults))
    seen = list(tracked(storm, METHODS["oracle"], 60.0))
    assert len(seen[-1]) == len(storm.alerts)
    assert id_switches(storm.fault, seen) == 0.0
