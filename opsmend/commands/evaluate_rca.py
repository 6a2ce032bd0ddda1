"""The tables of `opsmend eval rca`."""

from __future__ import annotations

from typing import Any

_SCORES = {"AC@1": "AC@1", "AC@3": "AC@3", "Avg@5": "Avg@5", "MRR": "MRR", "both_in_3": "two", "ms_per_case": "ms"}
"""Score and its column head. two: of two faults at once both among the first three."""
_TRUST = {"ECE": "ECE", "none_recognised": "none", "none_with_deploy": "deploy", "none_wrongly": "wrongly",
          "answered": "told", "AC@1 answered": "right"}
"""Says "none of these": where nothing was wrong; where nothing was wrong but somebody deployed; where something was.
told: share of the cases in which the service would name a suspect; right: how many of these."""


def draw_rca(report: dict[str, Any]) -> None:
    """Scores with their intervals, trust, the same by group, every ranker by group, and accuracy by coverage."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from opsmend.commands.console import table_console

    style: dict[str, Any] = {"title_justify": "left", "box": SIMPLE_HEAD, "padding": (0, 0, 0, 1)}
    what = "rca on alerts" if "level" in report else "rca"
    title = (f"{what}: {report['cases']} cases ({report['split']}), clock {report['clock']}, "
             f"{report['failed']} failed")
    table, trust = Table(title=title, **style), Table(title="what it is sure of", **style)
    for drawn, heads in ((table, _SCORES.values()), (trust, _TRUST.values())):
        drawn.add_column("method", no_wrap=True)
        for head in heads:
            drawn.add_column(head, justify="right")
    for method, scores in report["methods"].items():
        table.add_row(method, *(_shown(scores, name) for name in _SCORES))
        if "ECE" in scores:
            trust.add_row(method, *(_shown(scores, name) for name in _TRUST))
    console = table_console()
    console.print(table)
    if trust.rows:
        console.print(trust)
    console.print(_groups(report, Table(title="opsmend by system and by fault", **style)))
    console.print("AC@1 of every method, best first", highlight=False)
    for group, scores in report["groups"].items():
        ordered = sorted((m for m in scores if m != "cases"), key=lambda m: -scores[m]["AC@1"])
        said = ", ".join(f"{m} {scores[m]['AC@1']:.2f}" for m in ordered)
        console.print(f"  {group} ({scores['cases']['n']:.0f}): {said}", highlight=False, markup=False)
    console.print("accuracy of the first answer by share answered, the surest first", highlight=False)
    for method, scores in report["methods"].items():
        if "abstention" in scores:
            curve = "  ".join(f"{p['coverage']:.0%} {p['accuracy']:.2f}" for p in scores["abstention"])
            console.print(f"  {method}: {curve}", highlight=False, markup=False)
    if "alerts" in report:
        draw_rca(report["alerts"])
    if "onsets" in report:
        console.print("onsets: " + ", ".join(f"{k} {v:g}" for k, v in report["onsets"].items()), highlight=False)


def _shown(scores: dict[str, Any], name: str) -> str:
    """The score, and its interval where it has one."""
    if name not in scores:
        return ""
    if name == "ms_per_case":
        return f"{scores[name]:.1f}"
    low, high = scores.get(f"{name} 95%", (None, None))
    return f"{scores[name]:.3f}" if low is None else f"{scores[name]:.3f} {low:.2f}-{high:.2f}"


def _groups(report: dict[str, Any], table: Any) -> Any:
    tuned = "fine_tuned" in report["methods"]
    shown = [name for name in _SCORES if name in ("AC@1", "AC@3", "Avg@5", "MRR")]
    for name in ("group", "cases", *shown, *(["tuned AC@1"] if tuned else [])):
        table.add_column(name, justify="left" if name == "group" else "right", no_wrap=name == "group")
    for group, scores in report["groups"].items():
        row = [group, f"{scores['cases']['n']:.0f}", *(_shown(scores["opsmend"], name) for name in shown)]
        if tuned:
            row.append(f"{scores['fine_tuned']['AC@1']:.2f}" if "fine_tuned" in scores else "")
        table.add_row(*row)
    return table
