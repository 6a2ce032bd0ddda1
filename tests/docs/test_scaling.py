"""docs/scaling.md says what was measured: its table is the one that the results give."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "scaling.md").read_text()
MEASURED = json.loads((ROOT / "bench" / "results" / "scale.json").read_text())


def test_the_table_is_computed_from_the_results() -> None:
    spec = importlib.util.spec_from_file_location("scale_table", ROOT / "bench" / "scale_table.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.table(MEASURED) in PAGE, "python bench/scale_table.py prints the table as it is now"


def test_the_figures_are_those_of_the_results() -> None:
    cost = {rows: tuple(roles[role]["cpu_us_per_line"] for role in ("packer", "detect"))
            for rows, roles in MEASURED["roles_by_envelope_rows"].items()}
    for rows, (packer, detect) in cost.items():
        assert f"| {int(rows):,} | {packer} | {detect} |" in PAGE
    for run in (*MEASURED["workers"].values(), MEASURED["local"]):
        assert f"| {run['lines_per_s']:,} | {run['cpu_us_per_line']} |" in PAGE
