"""`opsmend eval WHAT --data DIR [--json FILE]`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import typer

from opsmend.config import ConfigError

_SHOWN = {"AC@1": "AC@1", "AC@3": "AC@3", "Avg@5": "Avg@5", "MRR": "MRR", "ECE": "ECE", "none_recognised": "none +",
          "none_wrongly": "none -", "ms_per_case": "ms"}
"""Score and its column head. none +: "none of these" where nothing was wrong; none -: where something was."""


def run_eval(what: str, data: Path, json_file: Path | None, split: str) -> int:
    """Score, draw a table, write the report. Returns 1 where cases failed or there were none."""
    if what not in ("logs", "rca"):
        raise ConfigError(f"eval: unknown '{what}'; known: logs, rca")
    if split not in ("", "dev", "test"):
        raise ConfigError(f"eval: unknown split '{split}'; known: dev, test")
    if what == "logs":
        if split:
            raise ConfigError("eval: logs have no splits")
        from opsmend.evaluate.logs import evaluate_logs

        report = evaluate_logs(data, show_progress=sys.stderr.isatty())
    else:
        from opsmend.evaluate.rca import evaluate_rca

        report = evaluate_rca(data, split=split)
    if json_file is not None:
        json_file.write_text(json.dumps(report, indent=2) + "\n")
    (_draw_logs if what == "logs" else _draw)(report)
    for failure in report["failures"]:
        typer.echo(f"failed: {failure}", err=True)
    return 1 if report["failed"] or not report["cases"] else 0


def _draw(report: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"{report['what']}: {report['cases']} cases ({report['split']}), {report['failed']} failed",
                  title_justify="left")
    table.add_column("method")
    for head in _SHOWN.values():
        table.add_column(head, justify="right")
    for method, scores in report["methods"].items():
        table.add_row(method, *(f"{scores[name]:.3f}" if name in scores else "" for name in _SHOWN))
    groups = Table(title="AC@1 by group", title_justify="left")
    for name in ("group", "cases", "opsmend", "best of the others", ""):
        groups.add_column(name, justify="left" if name in ("group", "") else "right")
    for group, scores in report["groups"].items():
        others = {m: scores[m]["AC@1"] for m in report["methods"] if m != "opsmend"}
        best = max(others, key=lambda m: others[m])
        groups.add_row(group, f"{scores['cases']['n']:.0f}", f"{scores['opsmend']['AC@1']:.2f}", f"{others[best]:.2f}", best)
    console = Console()
    console.print(table)
    console.print(groups)


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
