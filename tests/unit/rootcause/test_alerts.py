"""Root causes from alerts alone: kinds, history, the rankers, fine-tuning, and the evaluation of it."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import msgspec
import numpy as np
import pytest

from opsmend.commands.evaluate import run_eval
from opsmend.commands.train import run_training
from opsmend.config import ConfigError
from opsmend.evaluate.rca import evaluate_rca
from opsmend.evaluate.rca_alert_cases import alert_folders, read_alert_cases, read_alerts
from rootcause.alerts.case import KINDS, Alert, AlertCase, metric_kind, told
from rootcause.alerts.features import PLAIN_FEATURES, plain_table, rich_table
from rootcause.alerts.history import History, history_of
from rootcause.alerts.listwise import fit_listwise, listwise_probabilities
from rootcause.alerts.loglinear import LogLinear
from rootcause.alerts.rankers import ALERT_RANKERS, Counted, Surprise, ZeroShotAlerts, load_members
from rootcause.alerts.train import prior_weights, train_alerts
from rootcause.alerts.tuned import Tuned

INSTANCES = ("cart-0", "cart-1", "db-0", "web-0")
LOUD = (Alert("metric", "web-0", "", "dest_p95", "up"), Alert("metric", "web-0", "", "mem_usage", "up"),
        Alert("trace", "web-0", "-1", "GET /", "PD"), Alert("log", "web-0", "", "web-0-3", ""))


def incident(root: str, system: str = "shop") -> AlertCase:
    """`web-0` is loud in every incident; the root has a high CPU and slow calls, and its caller notices."""
    own = (Alert("metric", root, "", "cpu_usage", "up"), Alert("trace", root, "web-0", "/x", "PD"))
    return AlertCase(system, INSTANCES, (*LOUD, *own))


def incidents(n: int, system: str = "shop") -> tuple[list[AlertCase], list[int]]:
    roots = [k % 3 for k in range(n)]
    return [incident(INSTANCES[k], system) for k in roots], roots


@pytest.mark.parametrize(("feature", "value", "kind"), [
    ("src_p50", "up", "latency@out.up"), ("dest_qps", "down", "traffic@in.down"), ("net_trainsmit", "down", "netout.down"),
    ("docker_memory_rss_pct", "up", "memory.up"), ("node_cpu_usage", "down", "host.down"), ("zz", "", "other.up")])
def test_kinds(feature: str, value: str, kind: str) -> None:
    assert metric_kind(feature, value) == kind


def test_a_slow_call_counts_for_both_ends() -> None:
    said = told(incident("db-0"), {})
    assert said.kinds["db-0"] == {"cpu.up": 1, "callee.slow": 1}
    assert said.kinds["web-0"]["caller.slow"] == 1
    assert said.kinds["web-0"]["self.slow"] == 1
    assert said.templates["web-0"] == {"3": 1}


def test_what_is_always_said_is_no_surprise() -> None:
    history = history_of(incidents(9)[0])
    assert history.surprise("web-0", "latency@in.up") < 0.1
    assert history.surprise("db-0", "cpu.up") > 0.9
    assert history.surprise("db-0", "memory.up") > 2
    again = History.load(msgspec.msgpack.decode(msgspec.msgpack.encode(history.dump())))
    assert again.dump() == history.dump()
    with history.without(incident("db-0")):
        assert history.surprise("db-0", "cpu.up") > again.surprise("db-0", "cpu.up")
        assert history.variety("db-0", "callee.slow") == 1  # the same call in two other incidents
    assert history.dump() == again.dump()


SLOW = tuple(Alert("trace", i, "web-0", "/x", "PD") for i in ("web-0", "db-0"))


def test_a_call_that_only_its_caller_finds_slow_was_lost_at_the_callee() -> None:
    usual, lost = (AlertCase("shop", INSTANCES, alerts) for alerts in (SLOW, SLOW[:1]))
    history = history_of([usual] * 3)
    assert history.served == {("web-0", "/x"): {"db-0"}}
    assert "lost.slow" not in told(usual, history.served).kinds["db-0"]
    assert told(lost, history.served).kinds["db-0"] == {"lost.slow": 1}
    assert "db-0" not in told(lost, {}).kinds  # nobody knows whom it calls
    for ranker in (Surprise(), ZeroShotAlerts()):
        assert INSTANCES[int(np.argmax(ranker.rank(lost, history)))] == "db-0"
    tables = [rich_table(case, told(case, history.served), history) for case in (usual, lost)]
    assert tables[0][INSTANCES.index("web-0"), -2:].tolist() == [0.0, 0.0]
    assert tables[1][INSTANCES.index("web-0"), -2:].tolist() == [1.0, 0.0]  # all that it calls, slow


def test_the_quiet_root_is_found_and_the_loud_one_is_not() -> None:
    cases, _ = incidents(9)
    history = history_of(cases)
    case = incident("db-0")
    assert INSTANCES[int(np.argmax(Counted().rank(case, history)))] == "web-0"
    for ranker in (Surprise(), ZeroShotAlerts()):
        assert INSTANCES[int(np.argmax(ranker.rank(case, history)))] == "db-0"


def test_a_member_never_ranks_its_own_system(tmp_path: Path) -> None:
    path = tmp_path / "alerts.json"
    card = train_alerts({"shop": incidents(9)}, path)
    assert [m["trained_on"] for m in card["members"]] == ["shop"]
    history = history_of(incidents(9)[0])
    own, other = (ZeroShotAlerts(path).rank(incident("cart-1", s), history) for s in ("shop", "bank"))
    assert own.tolist() == Surprise().rank(incident("cart-1"), history).tolist()
    assert other.sum() == pytest.approx(1.0)
    load_members.cache_clear()


def test_shipped_members_are_of_different_systems() -> None:
    systems = [system for system, _ in load_members()]
    assert len(set(systems)) == len(systems) >= 2


def test_rankers_stand_empty_and_strange_cases() -> None:
    for case in (AlertCase("x", ("a",), ()), AlertCase("x", ("a", "b"), (Alert("trace", "ghost", "a", "", "500"),))):
        for ranker in ALERT_RANKERS:
            scores = ranker.rank(case, History())
            assert scores.shape == (len(case.instances),)
            assert np.isfinite(scores).all()
        assert np.isfinite(rich_table(case, told(case, {}), History())).all()


def test_listwise_fit_finds_the_column_that_tells() -> None:
    rng = np.random.default_rng(0)
    tables = [rng.normal(size=(6, 4)) for _ in range(200)]
    roots = [int(np.argmax(t[:, 2])) for t in tables]
    weights = fit_listwise(tables, roots)
    assert int(np.argmax(np.abs(weights))) == 2
    assert listwise_probabilities(tables[0], weights).sum() == pytest.approx(1.0)
    with pytest.raises(ValueError, match="no labelled case"):
        fit_listwise([], [])


def test_what_no_case_shows_keeps_its_prior() -> None:
    tables = [np.array([[1.0, 0.0], [0.0, 0.0]])] * 9
    weights = fit_listwise(tables, [0] * 9, prior=np.array([0.0, 1.0]))
    assert weights[0] > 0.5
    assert weights[1] == pytest.approx(1.0)
    kinds = [kind for kind, weight in zip(KINDS, prior_weights(), strict=False) if weight]
    assert kinds == ["lost.slow", "lost.failed"]
    assert prior_weights().shape == (PLAIN_FEATURES,)


def test_fine_tuning_learns_from_confirmed_incidents_and_is_seeded() -> None:
    cases, roots = incidents(30)
    history = history_of(cases)
    one, two = (Tuned(seed=3).fit(cases, roots).rank(incident("cart-1"), history) for _ in range(2))
    assert one.tolist() == two.tolist()
    assert INSTANCES[int(np.argmax(one))] == "cart-1"


def test_whole_incidents_are_remembered_where_the_root_says_nothing() -> None:
    def silent(root: str) -> AlertCase:
        return AlertCase("shop", INSTANCES, (Alert("metric", "web-0", "", f"errors_of_{root}", "up"),))

    roots = [k % 3 for k in range(12)]
    cases = [silent(INSTANCES[k]) for k in roots]
    said = [told(case, {}) for case in cases]
    tables = [np.zeros((len(INSTANCES), 2))] * len(cases)
    model = LogLinear().fit(cases, said, tables, roots)
    for root in range(3):
        log_p = model.log_p(cases[root], said[root], tables[root])
        assert int(np.argmax(log_p)) == root
        assert np.exp(log_p).sum() == pytest.approx(1.0)
    elsewhere = AlertCase("bank", INSTANCES, cases[0].alerts)  # nothing is remembered of these
    assert np.ptp(model.log_p(elsewhere, said[0], tables[0])) == pytest.approx(0.0)
    with pytest.raises(ValueError, match="no labelled case"):
        LogLinear().fit([], [], [], [])


def test_plain_table_is_bounded_by_what_it_says() -> None:
    case = incident("db-0")
    table = plain_table(case, told(case, {}), History())
    assert np.isfinite(table).all()
    assert table[INSTANCES.index("cart-0")].sum() == 0.0  # nothing was told of it


def write(folder: Path, root: str, **label: object) -> None:
    folder.mkdir(parents=True)
    case = incident(root)
    with (folder / "events.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["modality", "instance", "peer", "feature", "value"],
                                    *([a.modality, a.instance, a.peer, a.feature, a.value] for a in case.alerts)])
    (folder / "nodes.txt").write_text("\n".join(INSTANCES))
    (folder / "label.json").write_text(json.dumps({"system": "shop", "root_cause_instance": root, "fault_type": "cpu"} | label))


def test_evaluation_recognises_the_layout(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for n in range(6):
        write(tmp_path / f"{n:04d}", INSTANCES[n % 3], split="test" if n == 0 else "train")
    report = evaluate_rca(tmp_path)
    assert (report["level"], report["cases"], report["failed"]) == ("alerts", 6, 0)
    assert report["methods"]["opsmend"]["AC@1"] == 1.0
    assert report["methods"]["most_all_alerts"]["AC@1"] == 0.0
    assert report["methods"]["random"]["AC@1"] == 0.25
    assert evaluate_rca(tmp_path, split="test")["cases"] == 1
    assert json.loads(json.dumps(report)) == report
    assert run_eval("rca", tmp_path, tmp_path / "out.json", "") == 0
    assert "rca on alerts: 6 cases" in capsys.readouterr().out


def test_weights_can_be_made_anew_from_labelled_sets(tmp_path: Path) -> None:
    for n in range(6):
        write(tmp_path / "set" / f"{n:04d}", INSTANCES[n % 3], split="test" if n == 5 else "train")
    with pytest.raises(ConfigError, match="--data"):
        run_training("rootcause-alerts", tmp_path, 0)
    run_training("rootcause-alerts", tmp_path, 0, data=tmp_path)
    (member,) = json.loads((tmp_path / "alerts.json").read_text())["members"]
    assert (member["trained_on"], member["cases"]) == ("shop", 5)  # the one marked test is left out


def test_failed_alert_cases_count_as_misses(tmp_path: Path) -> None:
    write(tmp_path / "good", "db-0")
    write(tmp_path / "stranger", "db-0", root_cause_instance="nobody")
    report = evaluate_rca(tmp_path)
    assert (report["cases"], report["failed"]) == (2, 1)
    assert report["methods"]["opsmend"]["AC@1"] <= 0.5
    assert run_eval("rca", tmp_path, None, "") == 1
    (group,) = [scores for name, scores in report["groups"].items() if name.endswith(": not read")]
    assert group["cases"]["n"] == 1 and group["opsmend"]["AC@1"] == 0.0


EVENTS = "modality,instance,peer,feature,value\n"


@pytest.mark.parametrize(("file", "text", "place"), [
    ("events.csv", b"time,who\n", "bad/events.csv: no column `modality`, `instance`, .*; it has time, who"),
    ("events.csv", EVENTS.encode() + b"metric,db-0,,cpu,up\nmetrics,db-0,,cpu,up\n",
     "bad/events.csv: line 3: modality 'metrics' is none of metric, trace, log"),
    ("events.csv", EVENTS.encode() + b"metric\n", "bad/events.csv: line 2: names no instance"),
    ("label.json", b"[]", "bad/label.json: must be an object"), ("label.json", b"{", "bad/label.json: no JSON"),
    ("label.json", b"{}", "bad/label.json: names no root_cause_instance"),
    ("label.json", b'{"root_cause_instance": "db"}', "bad/label.json: the root 'db' is not among its instances: cart-0"),
    ("nodes.txt", b"db-0 \xe4", "bad/nodes.txt: byte 5 is no UTF-8")])
def test_what_cant_be_read_of_alerts_is_named_by_place_and_remedy(tmp_path: Path, file: str, text: bytes, place: str,
                                                                   capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "good", "db-0")
    write(tmp_path / "bad", "db-0")
    (tmp_path / "bad" / file).write_bytes(text)
    assert run_eval("rca", tmp_path, None, "") == 1
    found = capsys.readouterr().err
    assert re.search("failed: " + place, found), found


def test_a_span_of_nobody_known_does_not_cost_the_case(tmp_path: Path) -> None:
    write(tmp_path / "odd", "db-0")
    with (tmp_path / "odd" / "events.csv").open("a") as file:
        file.write("trace,,-1,find/data.cart,PD\n")
    (tmp_path / "odd" / "nodes.txt").unlink()
    found = read_alerts(tmp_path / "odd")
    assert found.case.alerts[-1].instance == ""
    assert "" not in found.case.instances


def test_alert_files_of_a_spreadsheet_are_read_and_series_beside_events_are_a_series_case(tmp_path: Path) -> None:
    write(tmp_path / "plain", "db-0")
    write(tmp_path / "sheet", "db-0")
    for file in (tmp_path / "sheet").iterdir():
        file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes().replace(b"\r\n", b"\n").replace(b"\n", b"\r\n"))
    one, other = (read_alerts(folder) for folder in alert_folders(tmp_path))
    assert one.case == other.case
    (tmp_path / "plain" / "metrics.csv").write_text("time,db-0|cpu\n1,2\n")
    assert [folder.name for folder in alert_folders(tmp_path)] == ["sheet"]


def test_sets_of_one_system_may_number_their_cases_alike(tmp_path: Path) -> None:
    for part, root in (("a", "db-0"), ("b", "cart-0")):
        for n in range(25):
            write(tmp_path / part / f"{n:04d}", root)
    cases, failures, lost = read_alert_cases(tmp_path)
    assert len({c.name for c in cases}) == 50 and not failures and not lost
    assert evaluate_rca(tmp_path)["methods"]["fine_tuned"]["cases"] == 50
