"""One contract over every wire format: golden files, and whatever else may come: decoded, or a dead letter with a
reason, never an exception, and the counts add up."""

from __future__ import annotations

import copy
import gzip
import json
import math
import os
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgpack
import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import ingest
from ingest.decode import Decoder, DecoderConfig
from ingest.types import Batch, Level, Record
from ingest.wire.registry import FORMATS
from ingest.wire.rows import MAX_VALUE
from opsmend.commands.wire import run_wire

WIRE = Path(__file__).parent / "wire"
GOLDEN = sorted(p for p in WIRE.glob("*/*") if p.suffix != ".expected" and not p.name.startswith("."))
RECORD_MS = 1_790_000_000_000
REASONS = {reason for path in Path(ingest.__file__).parent.rglob("*.py")
           for reason in re.findall(r'reason="([a-z_]+)"', path.read_text())}
EXAMPLES = int(os.environ.get("OPSMEND_TEST_FUZZ_EXAMPLES", "150"))
FUZZ = settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))


def batch_of(*values: bytes, fmt: str = "", config: DecoderConfig | None = None) -> Batch:
    config = config or DecoderConfig(topic_formats={"t": fmt} if fmt else {})
    return Decoder(config).decode([Record("t", 0, n, RECORD_MS, v) for n, v in enumerate(values)])


def told(batch: Batch) -> dict[str, Any]:
    """Everything that came out, readable."""
    def name(vocab: tuple[str, ...], at: int) -> str:
        return vocab[at] if at >= 0 else ""

    logs, metrics, traces = batch.logs, batch.metrics, batch.traces
    return {
        "logs": [[ts, name(logs.vocab, s), name(logs.vocab, i), Level(lv).name, text, trace]
                 for ts, s, i, lv, text, trace in zip(logs.ts_ns.tolist(), logs.service.tolist(), logs.instance.tolist(),
                                                      logs.level.tolist(), logs.text, logs.trace_id, strict=True)],
        "points": [[ts, msgspec.to_builtins(metrics.series_table[s]), None if math.isnan(v) else v]
                   for ts, s, v in zip(metrics.ts_ns.tolist(), metrics.series.tolist(), metrics.value.tolist(),
                                       strict=True)],
        "points_in": batch.points_in,
        "spans": [[ts, name(traces.vocab, s), name(traces.vocab, p), d, e, k, t, sp, pa] for ts, s, p, d, e, k, t, sp, pa
                  in zip(traces.ts_ns.tolist(), traces.service.tolist(), traces.peer.tolist(),
                         traces.duration_us.tolist(), traces.is_error.tolist(), traces.kind.tolist(), traces.trace_id,
                         traces.span_id, traces.parent_id, strict=True)],
        "alerts": [msgspec.to_builtins(a) for a in batch.alerts],
        "changes": [msgspec.to_builtins(c) for c in batch.changes]}


def check(batch: Batch, records: int) -> None:
    """What holds for every batch, whatever the bytes were."""
    assert batch.records_in == records == sum(batch.formats.values()) + len(batch.dead_letters)
    assert {x.reason for x in batch.dead_letters} <= REASONS
    assert all(x.detail and len(x.detail) <= 500 for x in batch.dead_letters)
    assert not (np.abs(batch.metrics.value) > MAX_VALUE).any()
    for table in (batch.logs, batch.metrics, batch.traces):
        assert (table.ts_ns >= 0).all()
    assert all(a.starts_ns >= 0 and a.ends_ns >= 0 for a in batch.alerts)
    assert all(c.ts_ns >= 0 for c in batch.changes)
    assert (batch.traces.duration_us >= 0).all()
    assert 0 <= batch.points_in <= len(batch.metrics)
    assert len(batch.metrics.series_table) == len(set(batch.metrics.series.tolist())), "series without a point"
    json.dumps(told(batch), allow_nan=False).encode()  # text that can be written down anywhere


# golden files ------------------------------------------------------------------------------------------------


def test_every_format_has_golden_files() -> None:
    assert {p.parent.name for p in GOLDEN} == set(FORMATS)


def test_every_format_is_in_the_manual() -> None:
    told = (Path(__file__).parents[2] / "docs" / "wire-formats.md").read_text()
    assert set(re.findall(r"`([a-z0-9-]+)`", told.partition("## Which rows")[0])) >= set(FORMATS)


@pytest.mark.parametrize("path", GOLDEN, ids=lambda p: f"{p.parent.name}/{p.name}")
def test_golden(path: Path) -> None:
    batch = batch_of(path.read_bytes())
    assert list(batch.formats) == [path.parent.name], "recognised as something else"
    check(batch, 1)
    expected = path.with_name(path.name + ".expected")
    if os.environ.get("OPSMEND_TEST_UPDATE_GOLDEN"):
        rows = {k: [json.dumps(row, ensure_ascii=False) for row in v] if isinstance(v, list) else v
                for k, v in told(batch).items()}
        expected.write_text(json.dumps(rows, indent=1, ensure_ascii=False) + "\n")
    wanted = {k: [json.loads(row) for row in v] if isinstance(v, list) else v
              for k, v in json.loads(expected.read_text()).items()}
    assert json.loads(json.dumps(told(batch))) == wanted


@pytest.mark.parametrize("path", GOLDEN, ids=lambda p: f"{p.parent.name}/{p.name}")
def test_golden_compressed_and_among_broken_ones(path: Path) -> None:
    """The records around a broken one, and what it had added before it broke, are not touched by it."""
    value = path.read_bytes()
    alone = batch_of(value)
    squeezed = value if value[:2] == b"\x1f\x8b" else gzip.compress(value[: len(value) // 2]) + gzip.compress(
        value[len(value) // 2:])
    half_good = b'{"type":"metric","service":"x","name":"leftover","value":1}\n{"type":"metric"}'
    batch = batch_of(half_good, squeezed, b"\xff\xfe", half_good)
    assert told(batch) == told(alone)
    assert [x.offset for x in batch.dead_letters] == [0, 2, 3]
    check(batch, 4)


@pytest.mark.parametrize("kind", ["logs", "metrics", "traces"])
def test_otlp_says_the_same_in_json_and_protobuf(kind: str) -> None:
    one = batch_of((WIRE / "otlp-proto" / f"{kind}.bin").read_bytes())
    other = batch_of((WIRE / "otlp-json" / f"{kind}.json").read_bytes())
    assert told(one) == told(other)


# captures of real producers ----------------------------------------------------------------------------------

_DATA = os.environ.get("OPSMEND_TEST_DATA", "")


@pytest.mark.skipif(not _DATA, reason="NOT TESTED against captures: OPSMEND_TEST_DATA names no directory with wire/")
def test_captures_of_real_producers_are_read_completely(tmp_path: Path) -> None:
    """By the command itself, which compares what it finds with what was counted when they were captured."""
    files = sorted(Path(_DATA, "wire").glob("*.jsonl"))
    truth = json.loads(Path(_DATA, "wire", "truth.json").read_text())
    assert run_wire(files, tmp_path / "report.json", list_formats=False) == 0
    found = json.loads((tmp_path / "report.json").read_text())["files"]
    assert found.keys() == {path.name for path in files} == {f"{name}.jsonl" for name in truth}
    for name, report in found.items():
        wanted = truth[path_stem := Path(name).stem]
        counted = {what: report[what] for what in wanted if what in report}
        assert counted == {what: wanted[what] for what in counted}, name
        assert "records" in counted and len(counted) >= 2 and report["dead"] == 0 and report["agrees"], name
        assert path_stem.startswith("rsyslog") or "unknown" not in report["services"], name


# whatever else may come --------------------------------------------------------------------------------------

FORMAT_NAMES = sorted(FORMATS)
SCALAR = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20)
SHALLOW = SCALAR | st.lists(SCALAR, max_size=3) | st.dictionaries(st.text(max_size=8), SCALAR, max_size=3)
ANYTHING = SHALLOW | st.lists(SHALLOW, max_size=2) | st.dictionaries(st.text(max_size=8), SHALLOW, max_size=2)
TIMES = st.one_of(
    st.integers(-10, 2**70), st.floats(), st.text(max_size=30), st.none(), st.booleans(),
    st.datetimes().map(lambda d: d.isoformat() + "Z"), st.datetimes().map(lambda d: d.isoformat() + "-14:00"),
    st.sampled_from(["0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999999-23:59", "NaN", "Infinity", "-1", "1e300",
                     "٣", "2026-02-30T00:00:00Z", "24:00:00", "2026-W01", "20260102T030405Z"]))
NUMBERS = st.one_of(st.integers(), st.floats(), st.text(max_size=12), st.none(), st.booleans(),
                    st.sampled_from(["NaN", "+Inf", "-Inf", "1_000", "0x10", "9" * 400, 10**400]))


def fields(*required: str) -> st.SearchStrategy[dict[str, Any]]:
    """An object with the field names of the native format and values of any type."""
    names = {"ts": TIMES, "value": NUMBERS, "duration_us": NUMBERS, "level": NUMBERS | st.just("warn")}
    optional = {n: names.get(n, ANYTHING) for n in (
        "ts", "value", "duration_us", "level", "service", "message", "instance", "name", "labels", "kind", "unit",
        "peer", "error", "trace_id", "span_id", "parent_id", "ref", "old", "actor")}
    return st.fixed_dictionaries({n: st.sampled_from(["log", "metric", "span", "change"]) for n in required},
                                 optional=optional)


def dumped(value: Any) -> bytes:
    return json.dumps(value).encode()


def dumped_lines(values: list[Any]) -> bytes:
    return b"\n".join(map(dumped, values))


def packed(value: Any) -> bytes:
    try:
        return bytes(msgpack.packb(value, default=str))
    except (ValueError, OverflowError, TypeError):  # an integer beyond 64 bits, half of a surrogate pair
        return bytes(msgpack.packb(json.loads(json.dumps(value, default=str).encode("ascii", "replace")), default=float))


def _unpacked(fmt: str, value: bytes) -> list[tuple[Any, Any]]:
    """(how to write it, what it says) of a golden record, as far as its structure can be changed."""
    if value[:1] in b"{[":
        try:
            return [(dumped, json.loads(value))]
        except ValueError:
            try:
                return [(dumped_lines, [json.loads(line) for line in value.splitlines()])]
            except ValueError:
                return []
    if "msgpack" in fmt:
        try:
            return [(packed, msgpack.unpackb(value, strict_map_key=False))]
        except (ValueError, msgpack.UnpackException):
            return []
    return []


def _places(value: Any) -> list[list[Any]]:
    """The path of everything inside a document."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path for key, inner in pairs for path in ([key], *([key, *rest] for rest in _places(inner)))]


def _at(value: Any, path: list[Any]) -> Any:
    for key in path:
        value = value[key]
    return value


RECORDS = {fmt: [p.read_bytes() for p in GOLDEN if p.parent.name == fmt] for fmt in FORMAT_NAMES}
DOCUMENTS = {fmt: found for fmt, values in RECORDS.items() if (found := [d for v in values for d in _unpacked(fmt, v)])}


@pytest.mark.parametrize("fmt", ["", *FORMAT_NAMES])
@FUZZ
@given(value=st.binary(max_size=300))
@example(value=b"")
@example(value=b"\x0a")
@example(value=b"\x0a\x00")
@example(value=b"\n\n\n")
@example(value=b"{}")
@example(value=b"[]")
@example(value=b"\x1f\x8b")
@example(value=b"\xef\xbb\xbf{}")
@example(value=b'{"type":"log","message":"\\ud800"}')
@example(value=b"[" * 100_000)
@example(value=b'{"a":' * 100_000)
@example(value=b'{"resourceLogs":' + b"[" * 100_000)
def test_random_bytes(fmt: str, value: bytes) -> None:
    check(batch_of(value, b"fine", fmt=fmt), 2)


@pytest.mark.parametrize("fmt", FORMAT_NAMES)
@FUZZ
@given(data=st.data())
def test_truncated_and_flipped(fmt: str, data: st.DataObject) -> None:
    value = bytearray(data.draw(st.sampled_from(RECORDS[fmt])))
    for _ in range(data.draw(st.integers(0, 4))):
        value[data.draw(st.integers(0, len(value) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(value[: data.draw(st.integers(0, len(value)))])
    check(batch_of(cut), 1)
    check(batch_of(cut, fmt=fmt), 1)


@pytest.mark.parametrize("fmt", sorted(DOCUMENTS))
@FUZZ
@given(data=st.data())
def test_wrong_types_anywhere(fmt: str, data: st.DataObject) -> None:
    """A field of a golden record becomes something else, is renamed, or is gone."""
    pack, documents = data.draw(st.sampled_from(DOCUMENTS[fmt]))
    document = copy.deepcopy(documents)
    for _ in range(data.draw(st.integers(1, 3))):
        places = _places(document)
        if not places:
            break
        path = data.draw(st.sampled_from(places))
        at = document
        for key in path[:-1]:
            at = at[key]
        kind = data.draw(st.integers(0, 3))
        if kind == 0 and isinstance(at, dict):
            del at[path[-1]]
        elif kind == 1 and isinstance(at, dict):
            at[data.draw(st.text(max_size=8))] = at.pop(path[-1])
        else:
            at[path[-1]] = data.draw(ANYTHING | NUMBERS | TIMES)
    value = pack(document)
    check(batch_of(value), 1)
    check(batch_of(value, fmt=fmt), 1)


@pytest.mark.parametrize("fmt", sorted(DOCUMENTS))
def test_texts_of_ten_megabytes(fmt: str) -> None:
    """In the place of the longest text, and of the first number; in time that is linear in them."""
    pack, documents = DOCUMENTS[fmt][0]
    began = time.process_time()
    for is_wanted in (str, float):
        document = copy.deepcopy(documents)
        places = [(path, leaf) for path in _places(document) if isinstance(leaf := _at(document, path), is_wanted | int)
                  and not isinstance(leaf, bool)]
        if not places:
            continue
        path = max(places, key=lambda place: len(str(place[1])))[0]
        _at(document, path[:-1])[path[-1]] = "ab=1 " * 2_000_000
        check(batch_of(pack(document)), 1)
    assert time.process_time() - began < 20


@pytest.mark.parametrize("fmt", ["", *sorted(set(FORMAT_NAMES) - {"otlp-proto"})])
@pytest.mark.parametrize("unit", [b"x", b"a=b ", b"<1", b'{"a":', b"2026-09-21T12:13:20Z a b: ", b"\\,", b'",\n', b"[a "])
def test_ten_megabytes_of_anything(fmt: str, unit: bytes) -> None:
    began = time.process_time()
    size = 500_000 if b"\n" in unit else 10_000_000  # a line is a row, and rows cost memory
    for head in (b"", RECORDS[fmt or "plain"][0]):
        check(batch_of(head + unit * (size // len(unit)), fmt=fmt), 1)
    assert time.process_time() - began < 40


@pytest.mark.parametrize("fmt", sorted(DOCUMENTS))
@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "-1e999", "9" * 400])
def test_numbers_that_are_none(fmt: str, number: str) -> None:
    """As Python and JavaScript libraries write them, in the place of each number of the golden records."""
    pack, documents = DOCUMENTS[fmt][0]
    if pack is not dumped:
        number_of = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
        if number not in number_of:
            return
    for path in _places(documents):
        if isinstance(leaf := _at(documents, path), int | float) and not isinstance(leaf, bool):
            document = copy.deepcopy(documents)
            if pack is not dumped:
                _at(document, path[:-1])[path[-1]] = number_of[number]
                value = pack(document)
            else:
                _at(document, path[:-1])[path[-1]] = "THE NUMBER"
                value = pack(document).replace(b'"THE NUMBER"', number.encode())
            check(batch_of(value), 1)
            check(batch_of(value, fmt=fmt), 1)


@settings(FUZZ, max_examples=4 * EXAMPLES)
@given(entry=fields("type"))
@example(entry={"type": "span", "duration_us": "nan"})
@example(entry={"type": "log", "level": 1e300, "message": 10**25})
@example(entry={"type": "metric", "name": "a", "value": 1, "labels": {"a": None}, "ts": "1e400"})
def test_native_with_wrong_types(entry: dict[str, Any]) -> None:
    batch = batch_of(dumped(entry))
    check(batch, 1)
    rows = len(batch.logs) + len(batch.metrics) + len(batch.traces) + len(batch.changes)
    assert rows + len(batch.dead_letters) == 1


@FUZZ
@given(entry=fields())
def test_changes_topics_and_json_lines_with_wrong_types(entry: dict[str, Any]) -> None:
    check(batch_of(dumped(entry), config=DecoderConfig(topic_kinds={"t": "changes"})), 1)
    check(batch_of(dumped(entry), fmt="plain"), 1)


@FUZZ
@given(alerts=st.lists(st.fixed_dictionaries({}, optional={
    "labels": st.dictionaries(st.sampled_from(["alertname", "service", "job", "severity"]), ANYTHING) | ANYTHING,
    "annotations": ANYTHING, "status": ANYTHING | st.sampled_from(["firing", "resolved"]), "startsAt": TIMES,
    "endsAt": TIMES, "fingerprint": ANYTHING}) | ANYTHING, max_size=3) | ANYTHING, group=ANYTHING)
def test_alertmanager_with_wrong_types(alerts: Any, group: Any) -> None:
    check(batch_of(dumped({"version": "4", "groupKey": group, "alerts": alerts})), 1)


def test_a_value_that_nobody_measures_is_no_measurement() -> None:
    rows = [{"type": "metric", "service": "a", "name": "x", "value": v} for v in (1e300, -1e101, 1e99, 1)]
    batch = batch_of(b"\n".join(map(dumped, rows)))
    assert np.isnan(batch.metrics.value).tolist() == [True, True, False, False]


def test_a_number_too_large_for_a_float_is_refused() -> None:
    point = {"name": "a", "gauge": {"dataPoints": [{"asDouble": 10**400}]}}
    batch = batch_of(dumped({"resourceMetrics": [{"scopeMetrics": [{"metrics": [point]}]}]}))
    assert [x.reason for x in batch.dead_letters] == ["bad_otlp"]


WHEN = "the time"
SHIPPED: list[dict[str, Any]] = [
    {"type": "log", "service": "a", "ts": WHEN, "message": "x"},
    {"@timestamp": WHEN, "log": "x", "kubernetes": {"pod_name": "p"}},
    {"@timestamp": WHEN, "message": "x", "source_type": "file"},
    {"name": "x", "kind": "absolute", "gauge": {"value": 1}, "timestamp": WHEN},
    {"@timestamp": WHEN, "message": "x", "@metadata": {"beat": "filebeat"}},
    {"name": "x", "fields": {"y": 1}, "tags": {}, "timestamp": WHEN},
    {"version": "1.1", "host": "h", "short_message": "x", "timestamp": WHEN},
    {"log": "x", "stream": "stdout", "time": WHEN},
    {"MESSAGE": "x", "_HOSTNAME": "h", "__REALTIME_TIMESTAMP": WHEN},
    {"logName": "x", "resource": {}, "textPayload": "x", "timestamp": WHEN},
    {"logGroup": "x", "logEvents": [{"message": "x", "timestamp": WHEN}]},
    {"specversion": "1.0", "id": "1", "source": "s", "type": "t", "time": WHEN, "data": "x"},
    {"message": "x", "time": WHEN},
    {"metric": "x", "value": 1, "timestamp": WHEN}]


def _dated(entry: Any, when: Any) -> Any:
    if isinstance(entry, dict):
        return {k: _dated(v, when) for k, v in entry.items()}
    return [_dated(v, when) for v in entry] if isinstance(entry, list) else when if entry == WHEN else entry


@dataclass(frozen=True)
class Clock:
    name: str
    per_second: int


@pytest.mark.parametrize("clock", [Clock("s", 1), Clock("ms", 10**3), Clock("us", 10**6), Clock("ns", 10**9)],
                         ids=lambda c: c.name)
@pytest.mark.parametrize("shape", [int, float, str])
@given(seconds=st.integers(1_000_000_000, 4_000_000_000))
def test_times_in_any_unit_are_one_moment(clock: Clock, shape: type, seconds: int) -> None:
    for entry in SHIPPED:
        batch = batch_of(dumped(_dated(entry, shape(seconds * clock.per_second))))
        found = batch.logs.ts_ns.tolist() + batch.metrics.ts_ns.tolist()
        assert abs(found[0] - seconds * 10**9) <= 256, entry  # what a float of nanoseconds can tell


@pytest.mark.parametrize("skew_seconds", [-20 * 365 * 86400, -3600, 0, 50 * 60, 10 * 365 * 86400])
def test_a_wrong_clock_is_kept_as_it_was_written(skew_seconds: int) -> None:
    """Judging it is the matter of the stage that knows what time it is."""
    ts = RECORD_MS // 1000 + skew_seconds
    for entry in SHIPPED:
        batch = batch_of(dumped(_dated(entry, ts)))
        assert batch.logs.ts_ns.tolist() + batch.metrics.ts_ns.tolist() == [ts * 10**9], entry


def test_an_expanded_bomb_is_refused_by_its_size() -> None:
    bomb = gzip.compress(bytes(50_000_000))
    batch = batch_of(bomb, config=DecoderConfig(max_value_bytes=1_000_000))
    assert [x.reason for x in batch.dead_letters] == ["too_large"]


def test_otlp_words_further_in_are_somebody_elses() -> None:
    line = b'{"message": "cannot parse", "data": {"resourceLogs": []}}'
    batch = batch_of(line)
    assert dict(batch.formats) == {"plain": 1}
    assert batch.logs.text == ["cannot parse"]
    assert [x.reason for x in batch_of(line, fmt="otlp-json").dead_letters] == ["bad_otlp"]
