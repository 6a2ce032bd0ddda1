"""From confirmed causes and recorded cases to what the ranker is tuned on; which tuned weights a service takes."""

from __future__ import annotations

import json
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from structlog.testing import capture_logs
from typer.testing import CliRunner

from opsmend.causes import ConfirmedCause, Culprit, packed
from opsmend.cli import app
from opsmend.compose import pipeline_config
from opsmend.config import ConfigError, Settings
from opsmend.confirmed import grouped, recorded, stored
from opsmend.evaluate.rca import evaluate_rca
from opsmend.evaluate.rca_cases import CaseError
from opsmend.rootcause_weights import usable_weights, weights_dir
from opsmend.store.bodies import Bodies
from opsmend.store.causes import CauseLog
from opsmend.store.engine import open_engine
from opsmend.store.tables import confirmed_causes
from rootcause.rankers.gnn import MODELS_DIR
from rootcause.simulate import simulate
from rootcause.tune import load_members
from rootcause.tune_files import tuned_card, write
from rootcause.types import CaseWindow


def window(begin_seconds: int, seed: int = 0) -> CaseWindow:
    one = simulate(np.random.default_rng(seed)).case
    return replace(one, ts_ns=one.ts_ns - one.ts_ns[0] + begin_seconds * 10**9)


def test_incidents_of_one_cause_or_one_time_are_one_group() -> None:
    far = 10**6
    windows = [({"cart"}, window(0)), ({"db"}, window(far)), ({"cart"}, window(2 * far)), ({"web"}, window(2 * far + 1)),
               ({"db"}, window(5 * far)), ({"mail"}, window(9 * far)), ({"mail", "disk"}, window(12 * far))]
    assert grouped(windows) == ["cart + web", "db", "cart + web", "cart + web", "db", "disk + mail", "disk + mail"]


def test_confirmed_incidents_come_from_the_store(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'opsmend.db'}"
    engine = open_engine(url)
    one = window(0)
    caller, callee = (one.services[i] for i in one.edges[0])
    for n, (service, peer) in enumerate([(callee, ""), (caller, callee)]):
        CauseLog(engine).put(ConfirmedCause(f"i{n}", service, peer, "ana", n), window(n * 10**6))
    engine.dispose()
    found = stored(url)
    assert [c.targets for c in found] == [(one.services.index(callee),), (len(one.services),)]
    assert [c.services for c in found] == [(one.services.index(callee),)] * 2
    assert len({c.group for c in found}) == 2


def test_a_false_alarm_is_a_window_without_a_culprit(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'opsmend.db'}"
    engine = open_engine(url)
    for n, service in enumerate(("", window(0).services[0], "")):
        CauseLog(engine).put(ConfirmedCause(f"i{n}", service, "", "ana", n), window(n * 10**6))
    engine.dispose()
    assert [(c.targets, c.services) for c in stored(url)] == [((), ()), ((0,), (0,)), ((), ())]
    assert [c.group for c in stored(url)] == ["nothing was wrong", window(0).services[0], "nothing was wrong"]


@pytest.mark.parametrize(("column", "body"), [
    ("body", b"{"), ("window", b""), ("window", packed(window(0))[:-20]), ("window", zlib.compress(b"\x80")),
    ("window", packed(replace(window(0), services=("other",)))),
    ("window", packed(replace(window(0), baseline_rows=10**6)))], ids=range(6))
def test_one_that_cannot_be_used_is_left_out_named_and_counted(tmp_path: Path, column: str, body: bytes) -> None:
    url = f"sqlite:///{tmp_path / 'opsmend.db'}"
    engine = open_engine(url)
    told: list[str] = []
    log = CauseLog(engine, Bodies(told.append))
    for n in range(3):
        log.put(ConfirmedCause(f"i{n}", window(0).services[n], "", "ana", n), window(n * 10**6))
    with engine.begin() as c:
        c.execute(confirmed_causes.update().where(confirmed_causes.c.incident_id == "i1").values({column: body}))
    assert (log.get("i1") is None) == (column == "body") == bool(told), "the page of the incident is shown all the same"
    engine.dispose()
    notes: list[str] = []
    with capture_logs() as logs:
        found = stored(url, notes.append)
    assert [c.targets for c in found] == [(0,), (2,)]
    assert [(line["table"], line["id"]) for line in logs] == [("confirmed_causes", "i1")]
    assert [note.partition(";")[0] for note in notes] == ["1 of 3 confirmed causes can't be used and are left out"]


def test_an_instance_is_learned_as_its_service_two_causes_as_two_and_a_host_not_at_all(tmp_path: Path) -> None:
    url, one = f"sqlite:///{tmp_path / 'opsmend.db'}", window(0)
    first, second = one.services[:2]
    caller, callee = (one.services[i] for i in one.edges[0])
    said = [[Culprit(first, instance=f"{first}-1")], [Culprit(second), Culprit(caller, callee)],
            [Culprit("node-7", kind="host")], [Culprit(second), Culprit("disk", kind="volume")], []]
    engine = open_engine(url)
    for n, culprits in enumerate(said):
        CauseLog(engine).put(ConfirmedCause.of(f"i{n}", culprits, "ana", n), window(n * 10**6))
    assert CauseLog(engine).get("i1").culprits == tuple(said[1])  # type: ignore[union-attr]
    engine.dispose()
    told: list[str] = []
    found = stored(url, told.append)
    assert [c.targets for c in found] == [(0,), (1, len(one.services)), (1,), ()]
    assert [c.services for c in found][1] == (1, one.services.index(callee)), "of a call who is called"
    assert len(told) == 1 and "1 confirmed cause left out: a host or volume" in told[0]


def test_recorded_cases_marked_test_are_left_out(tmp_path: Path) -> None:
    for n, split in enumerate(("train", "test", "")):
        folder = tmp_path / "set" / f"case{n}"
        folder.mkdir(parents=True)
        (folder / "label.json").write_text(json.dumps(
            {"root_cause_service": "b", "inject_time": 3000, "fault_type": "cpu", "split": split, "dataset": "s"}))
        rows = "\n".join(f"{t},{0.1 + 0.01 * (t % 7)},{5.0 if t >= 3000 else 0.2 + 0.01 * (t % 5)}"
                         for t in range(0, 3100, 10))
        (folder / "metrics.csv").write_text("time,a|cpu,b|cpu\n" + rows + "\n")
        (folder / "graph.csv").write_text("source,target\na,b\n")
    found = recorded(tmp_path)
    causes = [c for c in found if c.targets]
    assert len(causes) == 2 and {c.group for c in found} == {"s: b"}
    assert [c.case.services[c.services[0]] for c in causes] == ["b", "b"]
    assert len(found) - len(causes) == 2, "of each a stretch in which nothing was wrong"
    with pytest.raises(CaseError, match="marked test"):
        recorded(tmp_path / "set" / "case1")
    write(load_members(), tuned_card(MODELS_DIR, 0, "x", {}), tmp_path / "tuned")
    reports = [evaluate_rca(tmp_path / "set", ranker="opsmend", weights=where) for where in (None, tmp_path / "tuned")]
    assert reports[0]["methods"]["opsmend"]["AC@1"] == reports[1]["methods"]["opsmend"]["AC@1"], "the same weights"
    assert reports[0]["config_hash"] != reports[1]["config_hash"]
    with pytest.raises(ConfigError, match=r"no rootcause\.json"):
        evaluate_rca(tmp_path / "set", weights=tmp_path)
    refused = CliRunner().invoke(app, ["train", "rootcause", "--fine-tune", "--data", str(tmp_path),
                                       "--out", str(tmp_path / "w")])
    assert refused.exit_code == 1 and "at least 8 are needed" in str(refused.exception)
    assert not (tmp_path / "w").exists()
    assert CliRunner().invoke(app, ["train", "breach", "--fine-tune"]).exit_code == 1


def test_a_service_takes_tuned_weights_of_the_shipped_ones_alone(tmp_path: Path) -> None:
    settings = Settings(service={"data_dir": str(tmp_path)})  # type: ignore[arg-type]
    directory = weights_dir(tmp_path)
    assert pipeline_config(settings).rootcause.weights_dir == ""
    card = tuned_card(MODELS_DIR, 0, "x", {})
    write(load_members(), card, directory)
    assert pipeline_config(settings).rootcause.weights_dir == str(directory)
    for broken in (json.dumps(card | {"base_fingerprint": "of older ones"}), "{", "[]"):
        (directory / "rootcause.json").write_text(broken)
        assert usable_weights(directory) == ""
