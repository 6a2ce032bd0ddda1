"""Logs and spans of recorded cases as channels of a window."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from opsmend.evaluate.rca_cases import read_case
from rootcause.robust import edge_changes, node_changes

BEGIN = 6000


def write(folder: Path, begin: int = BEGIN) -> Path:
    """web calls cart: with the fault cart answers early, says so in its log, and calls to it take longer on the way."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(begin)
    metrics = ["time,web|latency_p95,cart|latency_p95"]
    traces, logs = ["time,caller,callee,operation,n,mean_us"], ["time,service,n_lines,n_level_warn_err,n_err_words"]
    templates = ["time,service,template,n"]
    metrics += [f"{t},{0.1 * rng.lognormal(0, 0.1)},{0.02 * rng.lognormal(0, 0.1)}"
                for t in range(begin - 3600, begin + 240, 60)]
    for t in range(begin - 300, begin + 240, 60):
        bad = t >= begin
        n = int(rng.integers(90, 110))
        traces += [f"{t},__root__,web,Recv,{n},100000", f"{t},web,cart,cart/Get,{n},2000",
                   f"{t},web,web,/cart/Get,{n},{400000 if bad else 3000}",
                   f"{t},cart,cart,SELECT items,{n // 4 if bad else n},500"]
        logs += [f"{t},web,100,0,0", f"{t},cart,{n},{40 if bad else 0},0"]
        templates += [f"{t},web,got request {n},100", f"{t},cart,select of user 4,{n // 2 if bad else n}"]
        templates += [f"{t},cart,no such item,{n // 2}"] if bad else []
    for name, lines in (("metrics", metrics), ("traces", traces), ("logs", logs), ("log_templates", templates)):
        (folder / f"{name}.csv").write_text("\n".join(lines) + "\n")
    (folder / "graph.csv").write_text("source,target\nweb,cart\n")
    (folder / "label.json").write_text(json.dumps(
        {"dataset": "shop", "root_cause_service": "cart", "inject_time": begin, "fault_type": "return", "day": "d",
         "abnormal_seconds": 240}))
    return folder


def test_all_channels_point_at_the_root(tmp_path: Path) -> None:
    write(tmp_path / "b", BEGIN + 7200)
    case = read_case(write(tmp_path / "a"))
    nodes, calls = node_changes(case.window), edge_changes(case.window)
    cart = case.window.services.index("cart")
    for name, sign in (("spans", -1), ("pattern", 1), ("error_lines", 1), ("templates", 1)):
        z = nodes[name].z
        assert int(np.argmax(np.abs(z))) == cart, name
        assert sign * z[cart] > 3, name
    assert calls["network"].z[0] > 3
    assert np.isclose(calls["network"].before[0], 0.001, rtol=0.01)


def test_own_work_is_what_is_left_of_a_service_s_time_without_its_calls(tmp_path: Path) -> None:
    """3 of web's 100 ms are calls, as its own spans of them say: 2 in cart, 1 on the way. In the fault these take longer than
    its requests do (they outlast them): nothing is said."""
    write(tmp_path / "b", BEGIN + 7200)
    window = read_case(write(tmp_path / "a")).window
    web, cart = (window.services.index(name) for name in ("web", "cart"))
    own = window.node_metrics["self_time"]
    known = np.isfinite(own[:, web])
    assert known[:window.baseline_rows].any() and not known[window.baseline_rows:].any()
    assert np.allclose(own[known, web], 0.097) and np.allclose(own[np.isfinite(own[:, cart]), cart], 0.002)


def test_minutes_after_the_fault_are_usual_only_to_who_looks_back(tmp_path: Path) -> None:
    write(tmp_path / "b", BEGIN + 7200)
    folder = write(tmp_path / "a")
    rows = {clock: np.isfinite(read_case(folder, clock).window.node_metrics["spans"]).any(axis=1).sum() - 4
            for clock in ("known", "detected")}
    assert rows == {"known": 10, "detected": 5}


def test_numbers_in_lines_do_not_make_new_templates(tmp_path: Path) -> None:
    write(tmp_path / "b", BEGIN + 7200)
    case = read_case(write(tmp_path / "a"))
    web = case.window.services.index("web")
    assert abs(node_changes(case.window)["templates"].z[web]) < 1


def test_a_case_without_logs_and_spans_has_no_such_channel(tmp_path: Path) -> None:
    folder = write(tmp_path / "a")
    for name in ("traces", "logs", "log_templates"):
        (folder / f"{name}.csv").unlink()
    case = read_case(folder)
    assert set(case.window.node_metrics) == {"latency"}
    assert "network" not in case.window.edge_metrics
