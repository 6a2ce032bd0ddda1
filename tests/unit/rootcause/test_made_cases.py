"""Made-up systems on disk are read as recorded ones are."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from opsmend.evaluate.rca_cases import case_folders, read_case
from rootcause.rankers.registry import RANKERS
from rootcause.stage import RootCauseConfig

BENCH = Path(__file__).resolve().parents[3] / "bench"


def made(out: Path, kind: str, seed: int = 0) -> Path:
    subprocess.run([sys.executable, str(BENCH / "made_cases.py"), "--out", str(out), "--kind", kind, "--systems", "1",
                    "--cases", "3", "--seed", str(seed)], check=True, timeout=120)
    return out


@pytest.mark.parametrize(("kind", "least", "most"), [("large", 30, 60), ("small", 7, 12), ("canary", 8, 13), ("load", 18, 60),
                                                     ("second_day", 9, 12)])
def test_every_case_is_read_and_has_its_root(tmp_path: Path, kind: str, least: int, most: int) -> None:
    folders = case_folders(made(tmp_path, kind))
    assert len(folders) == 3
    for folder in folders:
        case = read_case(folder)
        assert least <= len(case.window.services) <= most
        assert case.root in folder.name
        assert {"traffic", "latency"} <= set(case.window.node_metrics) or kind == "large"
        assert ({"cpu", "memory"} <= set(case.window.node_metrics)) == (kind != "load")
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


def test_a_leak_grows_in_the_root_alone(tmp_path: Path) -> None:
    leaks = [case for case in map(read_case, case_folders(made(tmp_path, "small", seed=2))) if case.fault == "memory_leak"]
    assert leaks
    for case in leaks:
        memory, base = case.window.node_metrics["memory"], case.window.baseline_rows
        grown = memory[-2] / np.nanmedian(memory[:base], axis=0)
        assert case.window.services[int(np.nanargmax(grown))] == case.root
        assert memory[base + 5, case.window.services.index(case.root)] < memory[-2, case.window.services.index(case.root)]


def test_under_other_load_half_of_the_services_are_beyond_their_usual_rows(tmp_path: Path) -> None:
    """In latency or failures, in five rows of five minutes; one fault is not what does that."""
    shares = []
    for case in map(read_case, case_folders(made(tmp_path, "load", seed=1))):
        base, latency = case.window.baseline_rows, case.window.node_metrics["latency"]
        assert (len(latency) - base, case.window.step_seconds) == (5, 300)
        beyond = np.zeros(len(case.window.services), bool)
        for name in ("latency", "errors"):
            table = case.window.node_metrics[name]
            for i in np.flatnonzero((np.isfinite(table[:base]).sum(axis=0) > 20) & np.isfinite(table[base:]).any(axis=0)):
                low, high = np.nanquantile(table[:base, i], (0.02, 0.98))
                beyond[i] |= not low <= np.nanmedian(table[base:, i]) <= high
        shares.append(float(beyond.mean()))
    assert 0.3 < np.mean(shares) < 0.65


def test_the_usual_rows_of_a_second_day_are_of_another_load(tmp_path: Path) -> None:
    moved = []
    for case in map(read_case, case_folders(made(tmp_path, "second_day"))):
        traffic, base = case.window.node_metrics["traffic"], case.window.baseline_rows
        usual, lately = (np.nansum(rows, axis=1).mean() for rows in (traffic[:base - 14], traffic[base - 10:base]))
        moved.append(float(np.log(lately / usual)))
    assert max(moved) - min(moved) < 1.5  # one day
    assert abs(float(np.median(moved))) > 0.1


def test_an_exception_meets_requests(tmp_path: Path) -> None:
    found = [case for seed in (0, 1, 4) for case in map(read_case, case_folders(made(tmp_path / str(seed), "canary", seed)))
             if case.fault == "exception"]
    assert found
    for case in found:
        failed = case.window.node_metrics["errors"][case.window.baseline_rows:, case.window.services.index(case.root)]
        assert not np.isfinite(failed).any() or np.nanmax(failed) > 0  # a column may be missing


def test_the_table_has_every_ranker_at_both_clocks() -> None:
    done = subprocess.run([sys.executable, str(BENCH / "made_table.py"), "--kinds", "small", "--systems", "1", "--cases", "2"],
                          check=True, timeout=240, capture_output=True, text=True)
    lines = done.stdout.splitlines()
    assert lines[0] == "| | small, known | small, detected |"
    rows = {line.split("|")[1].strip(" *"): line for line in lines[2:lines.index("")]}
    assert set(rows) == {"opsmend"} | set(RANKERS) - {RootCauseConfig().ranker}
    assert all(row.count(" / ") == 4 for row in rows.values())
