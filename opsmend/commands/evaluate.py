"""`opsmend eval WHAT --data DIR [--json FILE]`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import typer

from opsmend.commands.evaluate_rca import draw_rca
from opsmend.config import ConfigError


def run_eval(what: str, data: Path | None, json_file: Path | None, split: str, *, clock: str = "known",
             ranker: str = "", ablation: bool = False) -> int:
    """Score, draw a table, write the report. Returns 1 where cases failed or there were none."""
    if what == "breach" and not split:
        from opsmend.commands.evaluate_breach import run_breach

        return run_breach(data, json_file)
    if what == "series" and not split:
        from opsmend.commands.evaluate_series import run_series

        return run_series(data, json_file)
    if data is None:
        raise ConfigError(f"eval {what}: --data is needed")
    if what == "alerts" and split in ("", "dev", "test", "all"):
        from opsmend.commands.evaluate_alerts import run_alerts

        return run_alerts(data, json_file, split, ablation=ablation)
    if what not in ("logs", "rca"):
        raise ConfigError(f"eval: unknown '{what}'; known: logs, rca, alerts, breach, series")
    if split not in ("", "dev", "test"):
        raise ConfigError(f"eval: unknown split '{split}'; known: dev, test")
    if what == "logs":
        if split:
            raise ConfigError("eval: logs have no splits")
        from opsmend.evaluate.logs import evaluate_logs

        report = evaluate_logs(data, show_progress=sys.stderr.isatty())
    else:
        from opsmend.evaluate.rca import evaluate_rca

        report = evaluate_rca(data, split=split, clock=clock, ranker=ranker)
    if json_file is not None:
        json_file.write_text(json.dumps(report, indent=2) + "\n")
    (_draw_logs if what == "logs" else draw_rca)(report)
    for failure in report["failures"]:
        typer.echo(f"failed: {failure}", err=True)
    return 1 if report["failed"] or not report["cases"] else 0


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
