"""What recorded cases are spared: units, spellings, files that are missing, empty or have more in them than needed."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from opsmend.evaluate.rca_cases import RecordedCase, read_case
from opsmend.evaluate.rca_minutes import kind_of, minutes_of
from opsmend.evaluate.rca_names import known_as, number, seconds_of, without_pod
from rootcause.robust import edge_changes, node_changes

BEGIN = 1_893_456_000
POD = "-6d4cf56db6-x7x9p"
Row = dict[str, object]
Tables = dict[str, list[Row]]


def tables(begin: int, *, usual: int = 5) -> Tables:
    """web calls cart and pay. With the fault cart fails and says so, and calls that cart makes take longer on the way."""
    rng = np.random.default_rng(begin)
    out: Tables = {name: [] for name in ("metrics", "traces", "logs", "log_templates", "graph")}
    out["graph"] = [{"source": "web", "target": "cart"}, {"source": "cart", "target": "pay"}]
    for t in range(begin - 3600, begin + 240, 60):
        out["metrics"].append({"time": t} | {f"{s}|latency_p95": round(0.02 * rng.lognormal(0, 0.1), 6)
                                             for s in ("web", "cart", "pay")})
    for t in range(begin - 60 * usual, begin + 240, 60):
        bad, n = t >= begin, int(rng.integers(90, 110))
        for caller, callee, operation, count, mean in (
                ("__root__", "web", "GET /", n, 100000), ("web", "cart", "/cart/get", n, 50000),
                ("web", "web", "HTTP POST", n, 52000), ("cart", "pay", "/pay/charge", n, 2000),
                ("cart", "cart", "HTTP POST", n, 300000 if bad else 4000), ("cart", "cart", "SELECT items", n, 500)):
            out["traces"].append({"time": t, "caller": caller, "callee": callee, "operation": operation, "n": count,
                                  "mean_us": mean})
        out["logs"].append({"time": t, "service": "web", "n_lines": 100, "n_level_warn_err": 0, "n_err_words": 0})
        out["log_templates"].append({"time": t, "service": "web", "template": f"got request {n}", "n": 100})
        if bad:  # it never wrote anything before
            out["logs"].append({"time": t, "service": "cart", "n_lines": 40, "n_level_warn_err": 40, "n_err_words": 40})
            out["log_templates"].append({"time": t, "service": "cart", "template": "Exception: no stock", "n": 40})
    return out


def write(folder: Path, given: Tables, begin: float = BEGIN, root: str = "cart") -> Path:
    folder.mkdir(parents=True)
    for name, rows in given.items():
        with (folder / f"{name}.csv").open("w", newline="") as file:
            if rows:
                writer = csv.DictWriter(file, list(rows[0]))
                writer.writeheader()
                writer.writerows(rows)
    (folder / "label.json").write_text(json.dumps({"root_cause_service": root, "inject_time": begin, "fault_type": "exception",
                                                   "abnormal_seconds": 240, "day": "d"}))
    return folder


def loudest(case: RecordedCase, name: str) -> tuple[str, float]:
    z = node_changes(case.window)[name].z
    return case.window.services[int(np.argmax(np.abs(z)))], float(z[np.argmax(np.abs(z))])


def everywhere(given: Tables, column: str, change: Callable[[object], object]) -> Tables:
    return {name: [{k: change(v) if k == column else v for k, v in row.items()} for row in rows]
            for name, rows in given.items()}


def test_who_never_wrote_a_line_and_now_writes_of_failure_stands_out(tmp_path: Path) -> None:
    case = read_case(write(tmp_path / "a", tables(BEGIN)))
    for name in ("error_lines", "templates"):
        assert loudest(case, name)[0] == "cart", name
        assert loudest(case, name)[1] > 5, name


@pytest.mark.parametrize(("lines", "counted"), [((40, 0, 0, 0), 5), ((40, 30, 0, 0), 30), ((3, 0, 0, 0), 3), ((9, 9, 9, 9), 9)])
def test_a_minute_full_of_failures_counts_where_it_lasts(tmp_path: Path, lines: tuple[int, ...], counted: int) -> None:
    given = tables(BEGIN)
    for name, column in (("logs", "n_err_words"), ("log_templates", "n")):
        mine = [row for row in given[name] if row["service"] == "cart"]
        for row, n in zip(mine, lines, strict=True):
            row |= {"n_lines": n, "n_level_warn_err": 0, column: n} if name == "logs" else {column: n}
    window = read_case(write(tmp_path / "a", given)).window
    table = window.node_metrics["error_lines"][window.baseline_rows:, window.services.index("cart")]
    assert np.nanmax(table) * 60 == pytest.approx(counted)


def test_clients_that_name_no_target_tell_the_way_as_well(tmp_path: Path) -> None:
    case = read_case(write(tmp_path / "a", tables(BEGIN)))
    change, window = edge_changes(case.window)["network"], case.window
    z = {(window.services[a], window.services[b]): float(change.z[k]) for k, (a, b) in enumerate(window.edges.tolist())}
    assert z["cart", "pay"] > 10 > abs(z["web", "cart"])
    before = {pair: float(change.before[k]) for k, pair in enumerate(z)}
    assert before["web", "cart"] == pytest.approx(0.002) == before["cart", "pay"]


def test_without_spans_of_clients_the_rest_of_its_own_time_tells(tmp_path: Path) -> None:
    given = tables(BEGIN)
    given["traces"] = [row for row in given["traces"] if row["operation"] != "HTTP POST"]
    for row in given["traces"]:
        if row["callee"] == "cart" and row["caller"] == "web" and int(str(row["time"])) >= BEGIN:
            row["mean_us"] = 350000
    case = read_case(write(tmp_path / "a", given))
    window, z = case.window, edge_changes(case.window)["network"].z
    assert window.services[window.edges[int(np.argmax(z)), 0]] == "cart"
    assert z.max() > 10


@pytest.mark.parametrize("factor", [1000, 10**6, 10**9])
def test_any_unit_of_time(tmp_path: Path, factor: int) -> None:
    plain = read_case(write(tmp_path / "a", tables(BEGIN)))
    scaled = everywhere(tables(BEGIN), "time", lambda t: int(str(t)) * factor)
    other = read_case(write(tmp_path / "b", scaled, begin=BEGIN * factor))
    assert set(plain.window.node_metrics) == set(other.window.node_metrics)
    for name, table in plain.window.node_metrics.items():
        np.testing.assert_allclose(other.window.node_metrics[name], table, err_msg=name)


def test_means_in_another_unit(tmp_path: Path) -> None:
    given = tables(BEGIN)
    given["traces"] = [{("mean_ms" if k == "mean_us" else k): (float(str(v)) / 1000 if k == "mean_us" else v)
                        for k, v in row.items()} for row in given["traces"]]
    one, other = read_case(write(tmp_path / "a", tables(BEGIN))), read_case(write(tmp_path / "b", given))
    np.testing.assert_allclose(one.window.edge_metrics["network"], other.window.edge_metrics["network"])


@pytest.mark.parametrize("files", [("logs", "log_templates"), ("traces",), ("metrics",),
                                   ("traces", "logs", "log_templates", "metrics")])
def test_pods_are_their_service(tmp_path: Path, files: tuple[str, ...]) -> None:
    given = tables(BEGIN)
    for name in files:
        given[name] = [{(k.replace("cart|", f"cart{POD}|")): (f"{v}{POD}" if v == "cart" else v) for k, v in row.items()}
                       for row in given[name]]
    case = read_case(write(tmp_path / "a", given))
    assert case.window.services == ("cart", "pay", "web")
    assert loudest(case, "error_lines")[0] == case.root == "cart"
    assert np.isfinite(case.window.node_metrics["latency"][:, 0]).all()


def test_pods_everywhere_but_in_the_label(tmp_path: Path) -> None:
    given = tables(BEGIN)
    given["graph"] = []
    given = {name: [{(k.replace("cart|", f"cart{POD}|")): (f"{v}{POD}" if v == "cart" else v) for k, v in row.items()}
                    for row in rows] for name, rows in given.items()}
    assert read_case(write(tmp_path / "a", given)).window.services == ("cart", "pay", "web")


def test_a_canary_stays_a_service_of_its_own(tmp_path: Path) -> None:
    given = tables(BEGIN)
    given["metrics"] = [row | {"cart-canary|latency_p95": 0.02, "cart-v2|latency_p95": 0.02} for row in given["metrics"]]
    window = read_case(write(tmp_path / "a", given, root="cart-canary")).window
    assert {"cart", "cart-canary", "cart-v2"} <= set(window.services)


def test_calls_and_services_that_only_spans_know(tmp_path: Path) -> None:
    given = tables(BEGIN)
    given["graph"] = []
    given["metrics"] = [{k: v for k, v in row.items() if not k.startswith("cart|")} for row in given["metrics"]]
    window = read_case(write(tmp_path / "a", given)).window
    assert {(window.services[a], window.services[b]) for a, b in window.edges.tolist()} == {("web", "cart"), ("cart", "pay")}
    cart = window.services.index("cart")
    assert np.nanmedian(window.node_metrics["latency"][:, cart]) == pytest.approx(0.05)
    assert np.nanmedian(window.node_metrics["traffic"][:, cart]) == pytest.approx(100 / 60, rel=0.1)


def test_metrics_go_before_spans(tmp_path: Path) -> None:
    with_spans = read_case(write(tmp_path / "a", tables(BEGIN))).window.node_metrics["latency"]
    given = tables(BEGIN)
    given["traces"] = []
    np.testing.assert_array_equal(read_case(write(tmp_path / "b", given)).window.node_metrics["latency"], with_spans)


@pytest.mark.parametrize("name", ["traces", "logs", "log_templates", "graph"])
def test_empty_and_missing_files(tmp_path: Path, name: str) -> None:
    given = tables(BEGIN)
    given[name] = []
    folder = write(tmp_path / "a", given)
    assert read_case(folder).root == "cart"
    (folder / f"{name}.csv").unlink()
    assert read_case(folder).root == "cart"


def test_templates_without_counts_of_lines_are_counted(tmp_path: Path) -> None:
    given = tables(BEGIN)
    given["logs"] = []
    assert loudest(read_case(write(tmp_path / "a", given)), "error_lines")[0] == "cart"


def test_columns_nobody_knows_and_cells_that_are_no_numbers(tmp_path: Path) -> None:
    given = tables(BEGIN)
    given = {name: [row | {"note": "" if name == "metrics" else "x"} for row in rows] for name, rows in given.items()}
    for row in given["metrics"][:5]:
        row["cart|latency_p95"] = "nan"
    given["traces"][0]["n"] = "null"
    given["logs"][0]["n_lines"] = ""
    case = read_case(write(tmp_path / "a", given))
    assert case.window.services == ("cart", "pay", "web")
    assert np.isnan(case.window.node_metrics["latency"]).sum() == 5


def test_lines_of_any_content(tmp_path: Path) -> None:
    given = tables(BEGIN)
    for row in given["log_templates"]:
        if row["service"] == "cart":
            row["template"] = "Exception: no stock\n\tat app.Cart\x85\u2028\x0c" + "x" * 200_000
    folder = write(tmp_path / "a", given)
    file = folder / "log_templates.csv"
    file.write_bytes(file.read_bytes().replace(b"got request", b"got \xff request"))
    assert loudest(read_case(folder), "templates")[0] == "cart"


def test_rows_out_of_order(tmp_path: Path) -> None:
    given = tables(BEGIN)
    given["metrics"] = given["metrics"][::-1]
    one, other = read_case(write(tmp_path / "a", given)), read_case(write(tmp_path / "b", tables(BEGIN)))
    np.testing.assert_array_equal(one.window.node_metrics["latency"], other.window.node_metrics["latency"])


def test_usual_rows_that_are_told_by_their_place_may_be_of_a_later_day(tmp_path: Path) -> None:
    rows: list[Row] = [{"time": BEGIN + 86400 + t, "cart|cpu": 1.0, "web|cpu": 2.0} for t in range(30)]
    rows += [{"time": BEGIN + t, "cart|cpu": 9.0, "web|cpu": 2.0} for t in range(5)]
    folder = write(tmp_path / "a", {"metrics": rows, "graph": [{"source": "web", "target": "cart"}]})
    label = json.loads((folder / "label.json").read_text()) | {"n_normal": 30}
    (folder / "label.json").write_text(json.dumps(label))
    window = read_case(folder).window
    assert window.baseline_rows == 30
    assert np.array_equal(window.node_metrics["cpu"][:, 0], [*[1.0] * 30, *[9.0] * 5])


def test_where_one_usual_minute_is_all_the_faults_of_others_tell_what_is_usual(tmp_path: Path) -> None:
    for cases in (1, 4):
        for k in range(cases):
            given = tables(BEGIN + 7200 * k, usual=0)
            if k:
                for name in ("logs", "log_templates"):
                    given[name] = [row for row in given[name] if row["service"] != "cart"]
            write(tmp_path / str(cases) / str(k), given, begin=BEGIN + 7200 * k, root="pay" if k else "cart")
        normal = [row for row in tables(BEGIN - 86400)["traces"] if row["time"] == BEGIN - 86400 - 60]
        with (tmp_path / str(cases) / "normal_spans_d.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, list(normal[0]))
            writer.writeheader()
            writer.writerows(normal)
    assert not node_changes(read_case(tmp_path / "1" / "0").window)["spans"].has.any()
    case = read_case(tmp_path / "4" / "0")
    assert node_changes(case.window)["spans"].has.tolist() == [True, False, True]  # pay makes none
    assert loudest(case, "error_lines")[0] == loudest(case, "templates")[0] == "cart"
    # Who has just detected it knows none of what comes later.
    assert not node_changes(read_case(tmp_path / "4" / "0", "detected").window)["spans"].has.any()


def test_each_minute_of_the_fault_has_a_row(tmp_path: Path) -> None:
    given = tables(BEGIN)
    given["metrics"] = [row | {"time": int(str(row["time"])) + 50} for row in given["metrics"]]
    window = read_case(write(tmp_path / "a", given)).window
    assert np.isfinite(window.node_metrics["spans"][window.baseline_rows:]).any(axis=1).sum() == 4


def test_files_are_told_by_their_columns(tmp_path: Path) -> None:
    kinds = {"traces": "time,caller,callee,operation,n", "logs": "time,service,n_lines",
             "log_templates": "time,service,template,n", "": "time,cart|cpu"}
    for kind, header in kinds.items():
        file = tmp_path / f"any {kind}.csv"
        file.write_text(header + "\n")
        assert kind_of(file) == kind
    assert minutes_of((tmp_path / "any traces.csv",), frozenset()) == {}


@pytest.mark.parametrize(("name", "service"), [
    ("cart-6d4cf56db6-x7x9p", "cart"), ("ts-order-service-5998877645-8bq2z", "ts-order-service"), ("cart", "cart"),
    ("red-basket-small", "red-basket-small"), ("cart-v2", "cart-v2"), ("cart-0", "cart-0")])
def test_names_of_pods(name: str, service: str) -> None:
    assert without_pod(name) == service


def test_other_spellings() -> None:
    known = {"cart", "cart-v2", "Pay"}
    for name, service in (("cart.shop.svc.cluster.local", "cart"), ("/cart", "cart"), ("cart:8080", "cart"), ("PAY", "Pay"),
                          ("cart-1", "cart"), ("cart-v2", "cart-v2"), ("cart-v3", "cart-v3")):
        assert known_as(name, known) == service


def test_numbers_and_times() -> None:
    assert math.isnan(number("null"))
    assert math.isnan(number(None))
    assert math.isnan(number("inf"))
    assert number("1.5e3") == 1500
    assert [seconds_of(BEGIN * f) for f in (1, 1000, 10**6, 10**9)] == [BEGIN] * 4
