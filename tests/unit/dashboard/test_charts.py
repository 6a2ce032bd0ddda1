"""Charts of signals: forecast, limit and crossing on one clock; folds and what a split takes along."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from dashboard_scene import BUCKET, S, T, incident, scene, signal

from detect.types import Breach, Incident, Observations, Signal
from ingest.types import SeriesKey
from opsmend.api.port_memory import MemoryPort
from opsmend.dashboard.charts import LARGEST, MOST, Window, charts
from opsmend.dashboard.folds import expand, folds, proposed
from opsmend.dashboard.lines import Course, expected, line_json, line_view, outside
from opsmend.dashboard.reading import Memory, Reading
from opsmend.dashboard.timeline import WIDTH, Timeline

TIMES = np.arange(T - 600 * S, T + 1, BUCKET)
N = len(TIMES)
NONE = np.full((N, 3), np.nan)
LINE = Timeline(int(TIMES[0]), T, T)
USED, TOP = SeriesKey("db", "pool.in_use"), SeriesKey("db", "pool.max")


def band(low: float, middle: float, high: float) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    return np.tile([low, middle, high], (N, 1))


def course(values: float | np.ndarray[tuple[int], np.dtype[np.float64]], forecast: object = NONE, **more: object) -> Course:
    return Course(more.pop("key", USED), TIMES, np.broadcast_to(np.asarray(values, float), (N,)).copy(), forecast, **more)  # type: ignore[arg-type]


def port_of(values: dict[SeriesKey, object], signals: list[Signal]) -> tuple[MemoryPort, Incident]:
    port = MemoryPort(now_ns=T)
    columns = [np.broadcast_to(np.asarray(v, float), (N,)) for v in values.values()]
    port.recorded = Observations(TIMES, tuple(values), np.column_stack(columns))
    made = incident("x", "x", "warning", [(s, "started it") for s in signals], opened=T - 200 * S)
    port.put_incident(made)
    return port, made


def view_of(port: MemoryPort, made: Incident, window: Window | None = None) -> dict[str, object]:
    return charts(Reading(port, Memory()), made, None, window)


def test_neither_a_wide_band_nor_a_far_limit_presses_the_line_flat() -> None:
    noisy = np.random.default_rng(1).normal(10, 1, N)
    low, high = course(noisy).scale
    wide = course(noisy, band(-1e6, 10, 1e6)).scale
    assert wide[1] - wide[0] <= 3.01 * (high - low)
    assert course(noisy, limit=1e6).scale == (low, high)
    assert course(noisy, limit=high + 1).scale[1] > high + 1, "one that is near is in sight"
    ahead = Breach("pool.in_use", 500.0, "up", T, T, T, 0.9)
    assert course(noisy, limit=500.0, breach=ahead).scale[1] > 500, "and one that is said to be reached"


def test_what_had_been_forecast_is_that_of_the_first_sign() -> None:
    told = band(1, 2, 3)
    told[TIMES > T - 100 * S] = (7, 8, 9)
    values = np.where(TIMES >= T - 100 * S, 8.0, 2.0)
    sign = course(values, told, onset_ns=T - 100 * S)
    assert expected(sign) == "1 to 3" and outside(sign, T - 100 * S) == 2.0
    assert expected(course(2.0)) == "" and outside(course(2.0), T - 100 * S) == 0
    assert expected(course(2.0, band(-0.4, 2, 3))) == "0 to 3", "where a series never was, nobody expects it"


@pytest.mark.parametrize("size", [1e-9, 1.0, 1e12])
def test_numbers_are_as_fine_as_their_scale(size: float) -> None:
    values = size * (5 + np.sin(np.arange(N)) * 1e-3)
    values[3] = np.nan
    one = course(values, np.stack([values - size * 1e-3, values, values + size * 1e-3], axis=1))
    body = line_json(one, LINE, T, np.arange(N))
    low, high = one.scale
    back = np.array([np.nan if v is None else v for v in body.values])
    assert np.nanmax(np.abs(back - values)) <= (high - low) / 999 and np.isnan(back[3])
    assert len(body.forecast) == 3 and body.forecast[0][3] is None


def test_a_crossing_ends_on_the_limit_and_is_said() -> None:
    ahead = Breach("pool.in_use", 20.0, "up", T + 200 * S, T + 300 * S, T + 400 * S, 0.9, 14.0, 0.02)
    line = Timeline(int(TIMES[0]), T, T + 400 * S)
    view = line_view(course(np.linspace(8, 14, N), limit=20.0, breach=ahead, is_open=True, onset_ns=T - 90 * S), line,
                     T - 90 * S)
    assert view["limit_y"] is not None and 0 < view["limit_y"] < view["height"]
    assert line.x(T) < view["low_x"] < view["high_x"] == WIDTH
    assert view["cone"].startswith(f"M{line.x(T)} ") and view["ahead"].endswith(f" {view['limit_y']}")
    assert "Limit 20. Prediction: crosses 14:26:40 to 14:30:00." in view["said"]
    past = msgspec.structs.replace(ahead, eta_low_ns=T - 60 * S, eta_ns=T - 30 * S, eta_high_ns=T - S)
    late = line_view(course(14.0, limit=20.0, breach=past, is_open=True), line, T)
    assert late["crossing"] == "crossing was expected 14:22:20 to 14:23:19" and "cone" not in late
    assert late["low_x"] < late["high_x"] < line.x(T), "it stays in sight beside what came"
    gone = line_view(course(14.0, limit=20.0, breach=ahead), line, T)
    assert gone["crossing"].startswith("crossing was expected") and "cone" not in gone, "the ramp has stopped"


def test_the_past_keeps_a_quarter_of_the_clock() -> None:
    far = Breach("pool.in_use", 20.0, "up", T + 3000 * S, T + 4000 * S, T + 90_000 * S, 0.9, 9.0)
    port, made = port_of({USED: 9.0}, [signal("s", "breach", "db", T - 200 * S, series="pool.in_use", breach=far)])
    view = view_of(port, made)
    assert 3 * (T - view["start"]) >= view["end"] - T > 0  # type: ignore[operator]
    assert view["lines"][0]["crossing"].startswith("crosses 15:13 to 15:23")  # type: ignore[index]
    words = [t["word"] for t in view["ticks"]]  # type: ignore[attr-defined]
    assert 2 <= len(words) <= 8 and all(len(w) in (5, 8) for w in words)
    assert [t["percent"] for t in view["ticks"]] == sorted(t["percent"] for t in view["ticks"])  # type: ignore[attr-defined]


def test_a_companion_is_the_limit_of_what_has_none_forecast() -> None:
    port, made = port_of({USED: np.linspace(3, 18, N), TOP: 20.0},
                         [signal("s", "saturation", "db", T - 200 * S, series="pool.in_use")])
    (line,) = view_of(port, made)["lines"]  # type: ignore[misc]
    assert line["limit_word"] == "20" and line["limit_y"] is not None and line["crossing"] == ""


def test_every_signal_has_a_chart_or_a_lane() -> None:
    up, cpu = SeriesKey("a", "process.up"), SeriesKey("a", "process.cpu")
    signals = [signal("up", "process.down", "a", T - 200 * S), signal("cpu", "cpu", "a", T - 190 * S, series="process.cpu"),
               signal("log", "log_template", "a", T - 180 * S, template_id="t"),
               signal("mail", "alert", "b", T - 170 * S, series="process.up", is_open=False),
               signal("gone", "latency", "c", T - 160 * S, series="nobody.keeps.this")]
    port, made = port_of({up: np.where(TIMES < T - 200 * S, 1.0, 0.0), cpu: 0.4}, signals)
    items = view_of(port, made)["items"]
    assert [i["service"] if isinstance(i, dict) else i.kind for i in items] == ["a", "a", "log_template", "alert", "latency"]  # type: ignore[attr-defined]
    assert [i["words"] for i in items if isinstance(i, dict)] == ["up → down", "0.4 → 0.4"]  # type: ignore[attr-defined]
    second = view_of(port, made, Window(1, 2))
    assert [i["name"] if isinstance(i, dict) else i.kind for i in second["items"]] == ["process.cpu", "log_template"]  # type: ignore[attr-defined]
    assert (second["total"], second["after"]) == (5, 3)


def test_what_went_and_came_back_says_so_and_what_ended_before_is_left_out() -> None:
    one, other = SeriesKey("a", "log.lines", "a-1"), SeriesKey("a", "log.lines")
    burst = np.where((TIMES > T - 190 * S) & (TIMES < T - 60 * S), 7.0, 0.0)
    port, made = port_of({one: burst, other: np.where(TIMES < T - 500 * S, 0.0, np.nan)},
                         [signal("s", "metric_anomaly", "a", T - 190 * S, series="log.lines")])
    (line,) = view_of(port, made)["lines"]  # type: ignore[misc]
    assert (line["instance"], line["words"]) == ("a-1", "7, now 0")
    assert expected(course(np.linspace(0, 7, N), band(1e-14, 2e-14, 4))) == "0 to 4"


@pytest.mark.parametrize(("asked", "window"), [
    (("", ""), (0, MOST)), (("40", "32"), (40, 32)), (("-1", "x"), (0, MOST)), (("9" * 40, "0"), (0, MOST)),
    (("1", "99999"), (1, LARGEST))])
def test_a_query_can_not_ask_for_too_much(asked: tuple[str, str], window: tuple[int, int]) -> None:
    found = Window.of(*asked)
    assert (found.begin, found.most) == window


def test_folds_count_what_came_again_and_a_split_takes_all_of_it() -> None:
    came = [msgspec.structs.replace(signal(f"n{n}", "alert", "cart", T - (90 - n * 30) * S, series="Errors", count=2,
                                           is_open=False), key="Errors") for n in range(2)]
    other = signal("o", "latency", "stock", T - 40 * S, text="slow")
    made = incident("x", "x", "warning", [(came[0], "started it"), (came[1], "same service"), (other, "caller of cart")],
                    opened=T - 90 * S)
    rows = folds(made, Reading(scene(), Memory()))
    assert [(f.what, f.count, f.first_ns, f.last_ns, f.is_open, f.is_external, f.why) for f in rows] == [
        ("Errors", 4, T - 90 * S, T, False, True, "started it"), ("slower than usual", 1, T - 40 * S, T, True, False,
                                                                 "caller of cart")]
    assert expand(made, [came[1].id]) == [came[0].id, came[1].id]
    assert expand(made, ["no-such"], ["stock"]) == [other.id, "no-such"], "whoever acts on it refuses"
    assert rows[0].bars(LINE) == [(LINE.x(T - 90 * S), 60.0), (LINE.x(T - 60 * S), 60.0)]
    doubt = msgspec.structs.replace(made, maybe_two=True, again_ns=T - 50 * S)
    assert proposed(made, rows) == set() and proposed(doubt, rows) == {other.id}
    assert proposed(msgspec.structs.replace(doubt, again_ns=1), rows) == set(), "not everything"
