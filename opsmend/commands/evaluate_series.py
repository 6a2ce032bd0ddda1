"""`opsmend eval series`: run, report, tables."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import typer

_SCORES = {"NAB": "NAB", "NAB_low_FP": "lowFP", "NAB_low_FN": "lowFN", "NAB_best": "best", "VUS_PR": "VUS",
           "AUC_PR": "AUC", "Fc1_operating": "Fc1", "Fc1": "best", "detections_per_day": "/day",
           "us_per_point": "us", "KB_per_series": "KB"}
"""Score and its column head. best: the one to its left at its best single threshold, found with the labels; us: per
point."""


def run_series(data: Path, json_file: Path | None) -> int:
    """Returns 1 where series failed or there were none."""
    from opsmend.evaluate.series import evaluate_series

    report = evaluate_series(data, show_progress=sys.stderr.isatty())
    if json_file is not None:
        json_file.write_text(json.dumps(report, indent=2) + "\n")
    _draw(report)
    for failure in report["failures"]:
        typer.echo(f"failed: {failure}", err=True)
    for name in report["not_installed"]:
        typer.echo(f"not installed, no row: {name}", err=True)
    return 1 if report["failed"] or not report["cases"] else 0


def _draw(report: dict[str, Any]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    style: dict[str, Any] = {"title_justify": "left", "box": SIMPLE_HEAD, "padding": (0, 0, 0, 1)}
    table = Table(title=f"series: {report['cases']}, {report['failed']} failed; {report['threshold']}", **style)
    by_group = Table(title="opsmend by group", **style)
    for drawn, name in ((table, "method"), (by_group, "group")):
        drawn.add_column(name, no_wrap=True)
        for head in _SCORES.values():
            drawn.add_column(head, justify="right", no_wrap=True)
    for label, scores in report["methods"].items():
        table.add_row(label, *_cells(scores))
    for group, methods in report["groups"].items():
        if "opsmend" in methods:
            by_group.add_row(group, *_cells(methods["opsmend"]))
    Console().print(table)
    if report["groups"]:
        Console().print(by_group)


def _cells(scores: dict[str, float]) -> list[str]:
    digits = {"VUS_PR": 3, "AUC_PR": 3, "Fc1_operating": 3, "Fc1": 3, "detections_per_day": 2}
    return [f"{scores[s]:.{digits.get(s, 1)}f}" if s in scores else "" for s in _SCORES]
