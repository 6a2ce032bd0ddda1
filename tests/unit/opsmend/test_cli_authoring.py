"""`opsmend actions` and `opsmend runbook`: what people use while they write their own."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from small_http import Answer
from typer.testing import CliRunner

from ingest.errors import OpsmendError
from opsmend.commands import actions, runbook
from opsmend.config import ConfigError

RUN = CliRunner()
ROLLBACK = """\
name: roll-back-a-bad-release
when: incident.suspect.kind == "service" && has(incident.suspect.change) && incident.suspect.change.kind == "rollout"
target: incident.suspect.service
steps:
  back: { action: release.rollback, with: { service: "{target}" }, retry: { attempts: 2, backoff_seconds: 5 } }
  tell: { action: notify, depends_on: [back], when: run.verdict != "fixed" }
verify: { settle_seconds: 20, watch_seconds: 60 }
undo: on_not_fixed
"""
CASES = """\
- case: it helps
  incident: { suspect: { service: cart, kind: service, change: { kind: rollout } } }
  expect: { steps: [back], undone: false, ends: finished, verdict: fixed }
- case: it does not help
  incident: { suspect: { service: cart, kind: service, change: { kind: rollout } } }
  verdict: not_fixed
  expect: { steps: [back, tell], undone: true }
- case: the rollback itself fails
  incident: { suspect: { service: cart, kind: service, change: { kind: rollout } } }
  fails: [back]
  expect: { steps: [back, tell], ends: failed, undone: false }
- case: nothing was changed
  incident: { suspect: { service: cart, kind: service } }
  expect: { chosen: false }
"""


@pytest.fixture
def world(tmp_path: Path, serve_http: Callable[..., str]) -> Path:
    """A directory with a configuration, an own action, and its actuator."""
    url = serve_http(lambda asked: Answer({"started_at": "2020-01-01T00:00:00Z"}))
    (tmp_path / "actions").mkdir()
    (tmp_path / "actions" / "restart.yaml").write_text(
        f"name: shop.restart\ntitle: Restart {{service}}\nkind: http.webhook\napplies_when: [process.down]\n"
        f"request: {{ url: '{url}/restart/{{service}}' }}\n"
        f"probe: {{ url: '{url}/state/{{service}}', done_when: 'body.started_at > run.started_at' }}\n")
    (tmp_path / "opsmend.toml").write_text(
        "[repair]\nmode = 'suggest'\nactions_dir = 'actions'\n[[repair.allow]]\nservice = 'cart'\n"
        "actions = ['shop.restart']\nmode = 'auto'\n")
    (tmp_path / "roll.yaml").write_text(ROLLBACK)
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "roll.yaml").write_text(CASES)
    return tmp_path


def config(world: Path) -> list[str]:
    return ["-c", str(world / "opsmend.toml")]


def test_actions_say_exactly_what_they_would_do(world: Path) -> None:
    listed = RUN.invoke(actions.app, ["list", *config(world), "--json"], catch_exceptions=False)
    rows = {r["name"]: r for r in json.loads(listed.stdout)}
    assert rows["shop.restart"]["is_own"] and not rows["process.restart"]["is_own"]
    assert rows["shop.restart"]["may"] == [{"service": "cart", "how": "with a person's approval"}]
    shown = RUN.invoke(actions.app, ["show", "shop.restart", "--service", "a b", *config(world)], catch_exceptions=False)
    assert "/restart/a%20b" in shown.stdout and "POST http://127.0.0.1:" in shown.stdout
    assert "cart: with a person's approval" in shown.stdout
    with pytest.raises(ConfigError, match=r"did you mean 'shop.restart'"):
        RUN.invoke(actions.app, ["show", "shop.restrat", *config(world)], catch_exceptions=False)


def test_a_probe_asks_the_world(world: Path) -> None:
    asked = RUN.invoke(actions.app, ["probe", "shop.restart", "--service", "cart", *config(world), "--json"],
                       catch_exceptions=False)
    assert json.loads(asked.stdout) == {"action": "shop.restart", "service": "cart", "is_done": False,
                                        "state": "answered 200"}


def test_lint_names_what_is_wrong(world: Path) -> None:
    good = RUN.invoke(runbook.app, ["lint", str(world / "roll.yaml")], catch_exceptions=False)
    assert good.exit_code == 0 and "back -> tell" in good.stdout
    (world / "bad.yaml").write_text(ROLLBACK.replace("release.rollback", "release.rolback"))
    both = RUN.invoke(runbook.app, ["lint", str(world / "roll.yaml"), str(world / "bad.yaml"), "--json"],
                      catch_exceptions=False)
    assert both.exit_code == 2
    first, second = json.loads(both.stdout)
    assert first["ok"] and not second["ok"] and "did you mean 'release.rollback'" in second["error"]


def test_cases_are_rehearsed_in_the_order_of_the_executors(world: Path) -> None:
    done = RUN.invoke(runbook.app, ["test", str(world / "roll.yaml"), "--json"], catch_exceptions=False)
    assert [(r["case"], r["differs"]) for r in json.loads(done.stdout)] == [
        ("it helps", []), ("it does not help", []), ("the rollback itself fails", []), ("nothing was changed", [])]
    assert done.exit_code == 0
    other = CASES.replace("steps: [back, tell], undone: true", "steps: [back], undone: false")
    (world / "tests" / "roll.yaml").write_text(other)
    wrong = RUN.invoke(runbook.app, ["test", str(world / "roll.yaml")], catch_exceptions=False)
    assert wrong.exit_code == 1
    assert "it does not help; steps: expected ['back'], is ['back', 'tell']; undone: expected False, is True" in wrong.stdout


@pytest.mark.parametrize("cases", ["[]", "- case: x\n  expcet: {}\n", "- case: x\n  incident: {}\n  expect: {}\n", "{"])
def test_cases_that_test_nothing_are_refused(world: Path, cases: str) -> None:
    (world / "cases.yaml").write_text(cases)
    with pytest.raises(OpsmendError):
        RUN.invoke(runbook.app, ["test", str(world / "roll.yaml"), str(world / "cases.yaml")], catch_exceptions=False)


def test_the_diagram_shows_conditions_and_escapes_them(world: Path) -> None:
    drawn = RUN.invoke(runbook.app, ["diagram", str(world / "roll.yaml")], catch_exceptions=False).stdout
    assert drawn.startswith("flowchart TD")
    assert 's_back["back: release.rollback"]' in drawn
    assert "s_back -->|\"run.verdict != #quot;fixed#quot;\"| s_tell" in drawn
    assert "undo, last step first" in drawn


def test_a_dry_run_calls_nothing_and_says_what_it_would(world: Path) -> None:
    (world / "restart.yaml").write_text("name: mine\nsteps:\n  do: { action: shop.restart }\n")
    args = ["run", str(world / "restart.yaml"), "--service", "cart", *config(world)]
    with pytest.raises(ConfigError, match="--dry-run"):
        RUN.invoke(runbook.app, args, catch_exceptions=False)
    done = RUN.invoke(runbook.app, [*args, "--dry-run"], catch_exceptions=False)
    assert "POST http://127.0.0.1:" in done.stdout and "/restart/cart" in done.stdout and "can't be undone" in done.stdout
    unhelpful = RUN.invoke(runbook.app, ["run", str(world / "roll.yaml"), "--service", "cart", "--dry-run",
                                         "--verdict", "not_fixed", "--json"], catch_exceptions=False)
    assert [d["what"] for d in json.loads(unhelpful.stdout)] == ["do", "verify", "undo", "do", "end"]
