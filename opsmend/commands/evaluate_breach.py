"""The tables of `opsmend eval breach`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_SHOWN = {"precision": "precision", "recall": "recall", "lead_s": "lead min", "lead_15min_share": ">= 15 min",
          "false_per_series_day": "false/day", "coverage90": "coverage"}
"""Score and its column head."""


def draw_breach(report: dict[str, Any]) -> None:
    """Scores of every method, and ours by kind."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from opsmend.commands.console import table_console

    style: dict[str, Any] = {"title_justify": "left", "box": SIMPLE_HEAD, "padding": (0, 0, 0, 1)}
    methods = Table(title=f"breach: {report['cases']} series of {report['data']}, {report['failed']} failed", **style)
    kinds = Table(title="opsmend by kind", **style)
    methods.add_column("method", no_wrap=True)
    kinds.add_column("kind", no_wrap=True)
    kinds.add_column("n", justify="right")
    for table in (methods, kinds):
        for head in _SHOWN.values():
            table.add_column(head, justify="right", no_wrap=True)
    for name, scores in report["methods"].items():
        methods.add_row(name, *_cells(scores))
    for kind, scores in report["groups"].items():
        kinds.add_row(kind, f"{scores['cases']['n']:.0f}", *_cells(scores["opsmend"]))
    console = table_console()
    console.print(methods)
    console.print(kinds)


def _cells(scores: Mapping[str, float]) -> list[str]:
    return ["" if name not in scores else f"{scores[name] / 60:.0f}" if name == "lead_s" else f"{scores[name]:.3f}"
            for name in _SHOWN]
