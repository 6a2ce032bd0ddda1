"""Runbooks: what is refused at load, which one is chosen, what its hash binds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from remediate.catalogue import Catalogue
from remediate.conditions import ConditionError, holds
from remediate.runbook import SHIPPED, Runbook, RunbookError, Runbooks, Step, load_runbooks, parse_runbook, plan_hash

CATALOGUE = Catalogue()
PAGE = """
name: roll-back-a-bad-release
when: incident.suspect.kind == "service" && has(incident.suspect.change) && incident.suspect.change.kind == "rollout"
target: incident.suspect.service
steps:
  back: { action: release.rollback, with: { service: "{target}" }, retry: { attempts: 2, backoff_seconds: 5 } }
  tell: { action: notify, depends_on: [back], when: run.verdict != "fixed" }
verify: { settle_seconds: 20, watch_seconds: 60 }
undo: on_not_fixed
"""


def facts() -> dict[str, dict[str, Any]]:
    suspect = {"service": "cart", "kind": "service", "probability": 0.9, "kinds": ["error_ratio"]}
    return {"incident": {"id": "i", "severity": "critical", "services": ["cart"], "kinds": ["error_ratio"],
                         "suspect": suspect}}


def test_the_documented_runbook_is_one() -> None:
    runbook = parse_runbook(PAGE, "page.yaml", CATALOGUE)
    assert runbook.phases() == (["back"], ["tell"])
    assert runbook.main_action == "release.rollback"
    assert runbook.verify.watch_seconds == 60


@pytest.mark.parametrize(("old", "new", "says"), [
    ("release.rollback", "release.rolback", "did you mean 'release.rollback'"),
    ("undo: on_not_fixed", "undo: maybe", "undo"),
    ("verify:", "verfy:", "did you mean 'verify'"),
    ("retry: { attempts: 2", "retry: { atempts: 2", "did you mean 'attempts'"),
    ("attempts: 2", "attempts: 99", "attempts 1 to 10"),
    ("depends_on: [back]", "depends_on: [tell]", "wait for each other"),
    ("depends_on: [back]", "depends_on: [nobody]", "does not exist"),
    ("target: incident.suspect.service", "target: incident.title", "target"),
    ('run.verdict != "fixed"', "run.verdict !=", "steps.tell.when"),
    ('incident.suspect.kind == "service"', "run.verdict == 'fixed'", "no verdict before a run"),
    ("steps:", "steps: {}\nnothing:", "nothing"),
    (PAGE, "just words", "Expected `object`"),
    (PAGE, "a: [", "page.yaml"),
])
def test_what_can_not_run_is_refused_with_its_place(old: str, new: str, says: str) -> None:
    with pytest.raises(RunbookError, match=r"page\.yaml") as refused:
        parse_runbook(PAGE.replace(old, new), "page.yaml", CATALOGUE)
    assert says in str(refused.value)


def test_the_first_whose_condition_holds_is_chosen_own_before_shipped(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(PAGE)
    runbooks = load_runbooks(CATALOGUE, tmp_path)
    bad_release = facts()
    bad_release["incident"]["suspect"]["change"] = {"kind": "rollout", "age_seconds": 3.0}
    chosen = runbooks.choose("release.rollback", bad_release)
    assert chosen is not None
    assert "tell" in chosen.steps
    other = runbooks.choose("release.rollback", facts())  # no change: the shipped one, which asks for nothing
    assert other is not None
    assert "tell" not in other.steps
    assert runbooks.with_hash("release.rollback", chosen.hash()) == chosen
    assert runbooks.with_hash("release.rollback", "another") is None


def test_where_no_condition_holds_there_is_none() -> None:
    runbooks = Runbooks({"notify": (Runbook("r", {"a": Step("notify")}, when="incident.nothing.there == 1"),)})
    assert runbooks.choose("notify", facts()) is None
    assert runbooks.choose("unknown", facts()) is None


def test_one_that_could_never_run_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("name: a\nsteps: { do: { action: notify } }\n")
    (tmp_path / "b.yaml").write_text("name: b\nsteps: { do: { action: notify } }\n")
    with pytest.raises(RunbookError, match="would never run"):
        load_runbooks(CATALOGUE, tmp_path)
    (tmp_path / "b.yaml").write_text("name: a\nsteps: { do: { action: notify } }\n")
    with pytest.raises(RunbookError, match="is taken by"):
        load_runbooks(CATALOGUE, tmp_path)


def test_every_action_has_a_runbook_and_every_shipped_file_loads() -> None:
    runbooks = load_runbooks(CATALOGUE)
    assert set(runbooks) == {a.name for a in CATALOGUE}
    names = {parse_runbook(p.read_text(), p.name, CATALOGUE).name for p in SHIPPED.glob("*.yaml")}
    assert names <= {r.name for r in runbooks.values()}


@given(st.integers(0, 5), st.floats(0, 500), st.text(max_size=20))
def test_a_hash_survives_storage_and_binds_every_word(attempts: int, backoff: float, service: str) -> None:
    from remediate.runbook import Retry

    runbook = Runbook("r", {"a": Step("notify", retry=Retry(attempts, backoff))})
    back = msgspec.json.decode(msgspec.json.encode(runbook), type=Runbook)
    assert back.hash() == runbook.hash()
    assert plan_hash(runbook, service, {"service": service}) == plan_hash(back, service, {"service": service})
    assert plan_hash(runbook, service, {"service": service}) != plan_hash(runbook, service, {"service": service + "x"})
    assert plan_hash(runbook, service, {}) != plan_hash(
        msgspec.structs.replace(runbook, undo="never"), service, {})


@pytest.mark.parametrize(("text", "value"), [
    ("incident.severity == 'critical'", True), ("incident.suspect.probability > 0.95", False),
    ("'error_ratio' in incident.kinds", True), ("has(incident.suspect.change)", False),
])
def test_conditions(text: str, value: bool) -> None:
    assert holds(text, facts()) is value


@pytest.mark.parametrize("text", ["incident.suspect.change.kind == 'x'", "incident.severity", "1 + 1", "unknown == 1",
                                  "incident.severity > 3", "][", "", "__import__('os')"])
def test_a_condition_that_gives_no_yes_or_no_is_an_error(text: str) -> None:
    with pytest.raises(ConditionError):
        holds(text, facts())
