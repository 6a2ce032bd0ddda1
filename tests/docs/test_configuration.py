"""docs/configuration.md lists every key that there is, and every block of TOML on it loads."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from opsmend.commands.config import reference_rows
from opsmend.config import load

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "configuration.md").read_text()


def test_every_key_is_on_the_page_as_it_is_in_the_code() -> None:
    """To bring it up to date: `opsmend config reference`."""
    wanted = [f"| `{key}` | {default} | {means} |" for key, default, means in reference_rows()]
    assert [line for line in PAGE.splitlines() if line.startswith("| `") and line.count("|") >= 4
            and not line.startswith("| `io.opsmend")] == wanted
    assert all(means for _, _, means in reference_rows())


@pytest.mark.parametrize("page", ["configuration.md", "actions.md"])
def test_every_example_loads(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = re.findall(r"^```toml\n(.*?)^```$", (DOCS / page).read_text(), re.MULTILINE | re.DOTALL)
    assert blocks
    for block in blocks:
        (tmp_path / "opsmend.toml").write_text(block)
        load(tmp_path / "opsmend.toml")
