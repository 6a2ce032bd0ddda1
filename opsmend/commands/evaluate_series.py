"""The tables of `opsmend eval series`, as wide as a narrow terminal."""

from __future__ import annotations

from typing import Any

import typer

_SCORES = {"NAB": "NAB", "NAB_low_FP": "lowFP", "NAB_low_FN": "lowFN", "NAB_best": "best", "VUS-PR": "VUS",
           "AUC-PR": "AUC", "Fc1_operating": "Fc1", "Fc1": "best"}
"""Score and its column head. best: the one to its left at its best single threshold, found with the labels."""
_COSTS = {"detections_per_day": "/day", "points_per_detection": "points", "VUS-PR_plain": "VUS plain",
          "NAB_no_refractory": "NAB plain", "us_per_point": "us", "ms_per_series": "ms", "KB_per_series": "KB"}
"""points: per detection; plain: without holding, and without refractory (at its best threshold); us: per point, one
series at a time; ms and KB: per series."""


def draw_series(report: dict[str, Any]) -> None:
    """Scores, costs, and ours by group."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from opsmend.commands.console import table_console

    style: dict[str, Any] = {"title_justify": "left", "box": SIMPLE_HEAD, "padding": (0, 0, 0, 1)}
    title = f"series: {report['cases']}, {report['failed']} failed; {report['threshold']}"
    console = table_console()
    _table(Table(title=title, **style), "method", report["methods"], _SCORES, console)
    _table(Table(title="what it takes", **style), "method", report["methods"], _COSTS, console)
    groups = {group: methods["opsmend"] for group, methods in report["groups"].items() if "opsmend" in methods}
    if groups:
        _table(Table(title="opsmend by group", **style), "group", groups, _SCORES, console)
    for name in report["not_installed"]:
        typer.echo(f"not installed, no row: {name}", err=True)


def _table(table: Any, name: str, rows: dict[str, dict[str, float]], columns: dict[str, str], console: Any) -> None:
    table.add_column(name, no_wrap=True)
    for head in columns.values():
        table.add_column(head, justify="right", no_wrap=True)
    for label, scores in rows.items():
        table.add_row(label, *_cells(scores, columns))
    console.print(table)


def _cells(scores: dict[str, float], columns: dict[str, str]) -> list[str]:
    digits = {"VUS-PR": 3, "AUC-PR": 3, "Fc1_operating": 3, "Fc1": 3, "detections_per_day": 2, "VUS-PR_plain": 3,
              "points_per_detection": 0}
    return [f"{scores[s]:.{digits.get(s, 1)}f}" if s in scores else "" for s in columns]
