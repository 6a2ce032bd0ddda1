"""Made-up systems on disk are read as recorded ones are."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from opsmend.evaluate.rca_cases import case_folders, read_case

BENCH = Path(__file__).resolve().parents[3] / "bench"


def made(out: Path, kind: str, seed: int = 0) -> Path:
    subprocess.run([sys.executable, str(BENCH / "made_cases.py"), "--out", str(out), "--kind", kind, "--systems", "1",
                    "--cases", "3", "--seed", str(seed)], check=True, timeout=120)
    return out


@pytest.mark.parametrize(("kind", "least", "most"), [("large", 30, 60), ("small", 7, 12), ("canary", 8, 13)])
def test_every_case_is_read_and_has_its_root(tmp_path: Path, kind: str, least: int, most: int) -> None:
    folders = case_folders(made(tmp_path, kind))
    assert len(folders) == 3
    for folder in folders:
        case = read_case(folder)
        assert least <= len(case.window.services) <= most
        assert case.root in folder.name
        assert {"cpu", "memory", "traffic"} <= set(case.window.node_metrics)
        assert ("error_lines" in case.window.node_metrics) == (kind == "large")


def test_the_same_seed_makes_the_same_files(tmp_path: Path) -> None:
    one, other, third = made(tmp_path / "a", "large"), made(tmp_path / "b", "large"), made(tmp_path / "c", "large", seed=1)
    texts = [{str(f.relative_to(root)): f.read_text() for f in root.rglob("*.csv")} for root in (one, other, third)]
    assert texts[0] == texts[1]
    assert texts[0] != texts[2]


def test_a_busy_processor_is_the_roots_own(tmp_path: Path) -> None:
    cases = [read_case(folder) for folder in case_folders(made(tmp_path, "small"))]
    busy = [case for case in cases if case.fault == "cpu_contention"]
    assert busy
    for case in busy:
        cpu, base = case.window.node_metrics["cpu"], case.window.baseline_rows
        moved = np.nanmedian(cpu[base:], axis=0) / np.nanmedian(cpu[:base], axis=0)
        assert case.window.services[int(np.nanargmax(moved))] == case.root
