"""`opsmend eval WHAT --data DIR [--json FILE]`."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import typer

from opsmend.config import ConfigError

Report = dict[str, Any]
Draw = Callable[[Report], None]

SPLITS: dict[str, tuple[str, ...]] = {
    "logs": (), "rca": ("dev", "test"), "alerts": ("dev", "test", "all"), "breach": (), "series": (),
    "detect": ()}
"""What can be scored, and the splits of its data."""


def run_eval(what: str, data: Path | None, json_file: Path | None, split: str, *, clock: str = "known",
             ranker: str = "", ablation: bool = False, weights: Path | None = None) -> int:
    """Score, draw a table, write the report. Returns 1 where cases failed or there were none."""
    report, draw = _score(what, data, split, clock=clock, ranker=ranker, ablation=ablation, weights=weights)
    if json_file is not None:
        json_file.write_text(json.dumps(report, indent=2) + "\n")
    draw(report)
    for note in report.get("notes", ()):
        typer.echo(f"note: {note}", err=True)
    for failure in report["failures"]:
        typer.echo(f"failed: {failure}", err=True)
    return 1 if report["failed"] or not report["cases"] else 0


def _score(what: str, data: Path | None, split: str, *, clock: str, ranker: str, ablation: bool,
           weights: Path | None) -> tuple[Report, Draw]:
    """The report and who draws it. Raises ConfigError."""
    if what not in SPLITS:
        raise ConfigError(f"eval: unknown '{what}'; known: {', '.join(SPLITS)}")
    if split not in ("", *SPLITS[what]):
        known = f"; known: {', '.join(SPLITS[what])}" if SPLITS[what] else f": {what} has no splits"
        raise ConfigError(f"eval: unknown split '{split}'{known}")
    show = sys.stderr.isatty()
    if what == "breach":
        from opsmend.commands.evaluate_breach import draw_breach
        from opsmend.evaluate.breach import evaluate_breach

        return evaluate_breach(data, show_progress=show), draw_breach
    if what == "series":
        from opsmend.commands.evaluate_series import draw_series
        from opsmend.evaluate.series import evaluate_series

        return evaluate_series(data, show_progress=show), draw_series
    if what == "detect":
        from opsmend.commands.evaluate_detect import draw_detection, score_detection

        return score_detection(data), draw_detection
    if data is None:
        raise ConfigError(f"eval {what}: --data is needed")
    if what == "alerts":
        from opsmend.commands.evaluate_alerts import draw_alerts, score_alerts

        return score_alerts(data, split, ablation=ablation), draw_alerts
    if what == "logs":
        from opsmend.evaluate.logs import evaluate_logs

        return evaluate_logs(data, show_progress=show), _draw_logs
    if ablation:
        from opsmend.commands.evaluate_rca_ablation import draw_rca_ablation
        from opsmend.evaluate.rca_ablation import evaluate_rca_ablation

        return evaluate_rca_ablation(data, split=split, clock=clock), draw_rca_ablation
    from opsmend.commands.evaluate_rca import draw_rca
    from opsmend.evaluate.rca import evaluate_rca

    return evaluate_rca(data, split=split, clock=clock, ranker=ranker, weights=weights), draw_rca


_LOG_SCORES = {"GA": "GA", "FGA": "FGA", "PA": "PA", "FTA": "FTA", "GA_at_emission": "GA*", "PA_at_emission": "PA*",
               "lines_per_s": "k/s", "lines_per_s_known": "k/s+"}
"""Score and its column head. *: as it stood when the line came in; k/s: thousand lines
per CPU second; +: the same lines a second time."""


def _draw_logs(report: dict[str, Any]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    style: dict[str, Any] = {"title_justify": "left", "box": SIMPLE_HEAD, "padding": (0, 0, 0, 1)}
    tables = [Table(title=f"logs: {report['cases']} systems, {report['failed']} failed", **style),
              Table(title="opsmend by system", **style)]
    rows = [report["methods"], {system: scores["opsmend"] for system, scores in report["groups"].items()}]
    for table, name, of in zip(tables, ("method", "system"), rows, strict=True):
        table.add_column(name, no_wrap=True)
        for head in _LOG_SCORES.values():
            table.add_column(head, justify="right", no_wrap=True)
        for label, scores in of.items():
            table.add_row(label, *(f"{scores[s] / 1e3:,.0f}" if "lines" in s else f"{scores[s]:.3f}" for s in _LOG_SCORES))
        Console().print(table)
