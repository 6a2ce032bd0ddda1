"""The table of `opsmend eval rca --ablation`."""

from __future__ import annotations

from typing import Any


def draw_rca_ablation(report: dict[str, Any]) -> None:
    """AC@1 with its interval, AC@3 and Avg@5 of each way to join modalities, by system; the learned weights; AC@1 by fault."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    from opsmend.evaluate.rca_ablation import MODALITIES

    console = Console()
    for system, scores in report["groups"].items():
        table = Table(title=f"root cause by modality: {system}, {scores['cases']['n']:.0f} cases, clock {report['clock']}",
                      title_justify="left", box=SIMPLE_HEAD, padding=(0, 0, 0, 1))
        table.add_column("sees", no_wrap=True)
        for head in ("AC@1", "95%", "AC@3", "Avg@5", "MRR"):
            table.add_column(head, justify="right", no_wrap=True)
        for method, of in scores.items():
            if method != "cases":
                low, high = of.get("AC@1 95%", (of["AC@1"], of["AC@1"]))
                table.add_row(method, f"{of['AC@1']:.3f}", f"{low:.2f}-{high:.2f}", f"{of['AC@3']:.3f}", f"{of['Avg@5']:.3f}",
                              f"{of['MRR']:.3f}")
        console.print(table)
        learned = zip(MODALITIES, report["weights"][system], strict=True)
        weights = ", ".join(f"{modality} {weight:.2f}" for modality, weight in learned)
        console.print(f"learned weights over all its cases: {weights}", highlight=False)
    faults = Table(title="AC@1 by fault", title_justify="left", box=SIMPLE_HEAD, padding=(0, 0, 0, 1))
    faults.add_column("fault", no_wrap=True)
    faults.add_column("cases", justify="right")
    for method in report["methods"]:
        faults.add_column(method, justify="right")
    for fault, scores in report["faults"].items():
        faults.add_row(fault or "-", f"{scores['cases']['n']:.0f}", *(f"{scores[m]['AC@1']:.2f}" for m in report["methods"]))
    console.print(faults)
    console.print(f"aligned within {report['align_seconds']:.0f} s", highlight=False)
