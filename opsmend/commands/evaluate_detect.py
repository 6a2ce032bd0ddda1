"""`opsmend eval detect`: the tables."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import typer

_HEADS = {"AUC-PR": "AUC-PR", "recall": "recall", "delay_s": "delay s", "false_share": "false rows", "within_60_s": "in 1 min",
          "within_300_s": "in 5 min"}
_PER_BUDGET = {"recall": "recall", "delay_s": "delay s", "false_per_day": "false/day"}


def score_detection(data: Path | None) -> dict[str, Any]:
    """The report."""
    from opsmend.commands.console import progress
    from opsmend.evaluate.detection_ablation import evaluate_detection

    return evaluate_detection(data, progress=progress())


def draw_detection(report: dict[str, Any]) -> None:
    """A table for each group: a row for each way to look."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from opsmend.commands.console import table_console

    console = table_console()
    for group, methods in report["groups"].items():
        names = sorted({name for method, scores in methods.items() if method != "cases" for name in scores},
                       key=lambda name: (name.partition("@")[2], [*_HEADS, *_PER_BUDGET].index(name.partition("@")[0])
                                         if name.partition("@")[0] in {*_HEADS, *_PER_BUDGET} else 99))
        names = [n for n in names if n.partition("@")[0] in {*_HEADS, *_PER_BUDGET}]
        table = Table(title=f"detection by modality: {group}, {methods['cases']['n']:.0f} faults", title_justify="left",
                      box=SIMPLE_HEAD, padding=(0, 0, 0, 1))
        table.add_column("sees", no_wrap=True)
        for name in names:
            what, _, budget = name.partition("@")
            table.add_column(f"{_PER_BUDGET[what]}\n@{budget}" if budget else _HEADS[what], justify="right", no_wrap=True)
        for method, scores in methods.items():
            if method != "cases":
                table.add_row(method, *(_cell(name, scores.get(name, math.nan)) for name in names))
        console.print(table)
    typer.echo(f"aligned within {report['align_seconds']:.0f} s")


def _cell(name: str, value: float) -> str:
    if math.isnan(value):
        return "-"
    return f"{value:.0f}" if name.startswith("delay_s") else f"{value:.2f}" if "per_day" in name else f"{value:.3f}"
