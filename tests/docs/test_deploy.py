"""deploy/compose.yaml says what our configuration and command line know. It is read here, not run: no Docker needed."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from opsmend.cli import app
from opsmend.commands.run import overridden
from opsmend.compose import quix_config
from opsmend.config import load

ROOT = Path(__file__).parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text())
OURS = {name: service for name, service in COMPOSE["services"].items() if "build" in service}


def settings(name: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """As the container would read them."""
    for key in [k for k in os.environ if k.startswith("OPSMEND_")]:
        monkeypatch.delenv(key)
    for key, value in OURS[name]["environment"].items():
        monkeypatch.setenv(key, re.sub(r"\$\{\w+:\?[^}]*\}", "secret", value))
    options = OURS[name]["command"][1:]
    given = dict(zip(options[::2], options[1::2], strict=True))
    return overridden(load(), "", given.get("--runner", ""), given.get("--role", ""))


def test_there_are_a_tenant_stage_and_workers() -> None:
    assert set(OURS) == {"opsmend", "worker"}
    assert {"kafka", "postgres"} <= set(COMPOSE["services"])


@pytest.mark.parametrize("name", OURS)
def test_every_variable_is_a_key_that_we_know(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = settings(name, monkeypatch)  # an unknown key is refused
    assert found.service.runner == "quix"
    assert found.scale.role == {"opsmend": "conclude", "worker": "worker"}[name]
    assert quix_config(found).transport.bootstrap_servers == "kafka:9092"
    named = {value for key, value in OURS[name]["environment"].items() if key.endswith("_ENV")}
    assert named <= set(OURS[name]["environment"])
    assert all(key in named or key.startswith("OPSMEND_") for key in OURS[name]["environment"])


def test_a_variable_that_we_do_not_know_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(OURS["worker"]["environment"], "OPSMEND_SCALE__SHRADS", "16")
    with pytest.raises(Exception, match="SHARDS"):
        settings("worker", monkeypatch)


def test_all_agree_on_the_shards() -> None:
    assert len({service["environment"]["OPSMEND_SCALE__SHARDS"] for service in OURS.values()}) == 1


@pytest.mark.parametrize("name", OURS)
def test_every_option_is_one_of_the_command_line(name: str) -> None:
    command, *options = OURS[name]["command"]
    told = CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"})
    assert told.exit_code == 0
    assert all(option in told.output for option in options if option.startswith("--"))


def test_what_the_image_copies_is_there() -> None:
    copied = re.findall(r"^COPY (.+) \S+$", (ROOT / "deploy" / "Dockerfile").read_text(), re.MULTILINE)
    for path in (p for line in copied for p in line.split()):
        assert (ROOT / path).exists(), path
