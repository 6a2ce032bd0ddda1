"""The YAML on docs/actions.md works as it stands."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from opsmend.commands.rehearsal import check_case, read_cases
from remediate.actions.user import load_user_actions
from remediate.catalogue import Catalogue
from remediate.runbook import parse_runbook

PAGE = (Path(__file__).parents[2] / "docs" / "actions.md").read_text()
BLOCKS = re.findall(r"^```yaml\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
ACTIONS = [b for b in BLOCKS if "kind: http.webhook" in b or "kind: command" in b]
RUNBOOKS = [b for b in BLOCKS if b.startswith("name:") and "steps:" in b]
CASES = [b for b in BLOCKS if b.startswith("- case:")]


def test_every_block_is_one_that_is_tested() -> None:
    assert len(ACTIONS) >= 2 and RUNBOOKS and CASES
    assert len(ACTIONS) + len(RUNBOOKS) + len(CASES) == len(BLOCKS)


@pytest.mark.parametrize("text", ACTIONS)
def test_the_actions_load(text: str, tmp_path: Path) -> None:
    (tmp_path / "action.yaml").write_text(text)
    (action,) = load_user_actions(tmp_path, Catalogue())
    assert action.name == yaml.safe_load(text)["name"]


def test_the_cases_hold_for_the_runbook(tmp_path: Path) -> None:
    runbook = parse_runbook(RUNBOOKS[0], "docs/actions.md", Catalogue())
    (tmp_path / "cases.yaml").write_text(CASES[0])
    for case in read_cases(tmp_path / "cases.yaml"):
        assert check_case(runbook, Catalogue(), case) == []
