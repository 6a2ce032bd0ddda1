"""The benchmarks that the README names can be started as it says: `python bench/NAME.py`."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

BENCH = Path(__file__).resolve().parents[2] / "bench"
_OURS = re.compile(r"^(?:from|import) (?:ingest|detect|rootcause|remediate|llm|opsmend)\b", re.MULTILINE)


@pytest.mark.parametrize("script", sorted(BENCH.glob("*.py")), ids=lambda path: path.name)
def test_packages_are_found_before_the_benchmarks_beside(script: Path) -> None:
    """Python looks for modules beside the script first, and bench/ingest.py has the name of a package."""
    text = script.read_text()
    first = _OURS.search(text)
    if first is not None and "__main__" in text:
        assert -1 < text.find("sys.path[0] = str(") < first.start(), "sys.path[0] has to name the root before our imports"
