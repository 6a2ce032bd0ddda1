"""`opsmend eval alerts`: the tables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

_SHOWN = {"AMI": "AMI", "homogeneity": "homog.", "completeness": "compl.", "over_merge": "over", "under_merge": "under",
          "groups_per_fault": "groups", "id_switches": "id sw.", "compression": "compr."}


def score_alerts(data: Path, split: str, *, ablation: bool) -> dict[str, Any]:
    """The report; `split` is "", which is test, dev, test or all."""
    from opsmend.commands.console import progress
    from opsmend.evaluate.alerts import evaluate_alerts
    from opsmend.evaluate.alerts_ablation import evaluate_ablation

    split = {"": "test", "all": ""}.get(split, split)
    return evaluate_ablation(data, split=split) if ablation else evaluate_alerts(
        data, split=split, progress=progress())


def draw_alerts(report: dict[str, Any]) -> None:
    """A table for each scenario."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from opsmend.commands.console import table_console

    console = table_console()
    for scenario, methods in report["groups"].items():
        table = Table(title=f"{scenario}: {methods['cases']['n']:.0f} storms ({report['split']} faults)",
                      title_justify="left", box=SIMPLE_HEAD, padding=(0, 0, 0, 1))
        table.add_column("method", no_wrap=True)
        for head in _SHOWN.values():
            table.add_column(head, justify="right", no_wrap=True)
        for method, scores in methods.items():
            if method != "cases":
                table.add_row(method, *(_cell(s, scores) for s in _SHOWN))
        console.print(table)


def _cell(name: str, scores: dict[str, float]) -> str:
    if name not in scores:
        return ""
    return f"{scores[name]:.1f}" if name == "compression" else f"{scores[name]:.3f}"
