"""What a message says about itself, what of it counts, and what is left alone."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.decode import Decoder
from ingest.types import Level, Record
from ingest.wire.levels import level_in, syslog_level
from ingest.wire.rows import DecodeContext
from ingest.wire.traces import joined_traces
from ingest.wire.unwrap import level_word, may_unwrap, unwrap
from ingest.wire.wrapped import wrapped_in

NOW_NS = 1_790_000_000 * 10**9  # 2026-09-21T14:13:20Z
CONTEXT = DecodeContext(NOW_NS)
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


def ns(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * 10**9


INSIDE = [  # message, text, time, level, service, trace id
    (f'{{"level":"error","msg":"refused","ts":1790000001,"service":"checkout","trace_id":"{TRACE}"}}',
     "refused", NOW_NS + 10**9, Level.ERROR, "checkout", TRACE),
    ('{"level":30,"time":1790000001000,"msg":"pino"}', "pino", NOW_NS + 10**9, Level.INFO, "", ""),
    ('{"@t":"2026-09-21T14:13:21Z","@m":"Serilog","@l":"Warning"}', "Serilog", NOW_NS + 10**9, Level.WARN, "", ""),
    ('{"instant":{"epochSecond":1790000001,"nanoOfSecond":5},"level":"FATAL","message":"log4j"}',
     "log4j", NOW_NS + 10**9 + 5, Level.FATAL, "", ""),
    ('{"status":200,"path":"/x","time":"2026-09-21T14:13:21Z"}',
     '{"status":200,"path":"/x","time":"2026-09-21T14:13:21Z"}', NOW_NS + 10**9, Level.UNSET, "", ""),
    ('level=warn ts=2026-09-21T14:13:21Z caller=main.go:17 msg="no \\"disk\\"" service=db', 'no "disk"', NOW_NS + 10**9,
     Level.WARN, "db", ""),
    ("I0921 14:13:21.000000       1 controller.go:42] synced", "synced", NOW_NS + 10**9, Level.INFO, "", ""),
    ('E1231 23:59:59.000000       1 a.go:1] "It broke" pod="x"', "It broke", ns("2025-12-31T23:59:59"), Level.ERROR, "", ""),
    ("2026-09-21 14:13:21,000 ERROR shop.Checkout - refused", "shop.Checkout - refused", NOW_NS + 10**9, Level.ERROR, "", ""),
    ("[2026-09-21 14:13:21] [warn] slow", "slow", NOW_NS + 10**9, Level.WARN, "", ""),
    ("2026-09-21T16:13:21+02:00  INFO 1 --- [main] c.x.App : started", "1 --- [main] c.x.App : started",
     NOW_NS + 10**9, Level.INFO, "", ""),
    ("2026/09/21 14:13:21 [error] 31#31: *17 upstream timed out", "31#31: *17 upstream timed out",
     NOW_NS + 10**9, Level.ERROR, "", ""),
    ("2026-09-21 14:13:21.000 UTC [31] ERROR:  deadlock detected", "[31] ERROR:  deadlock detected",
     NOW_NS + 10**9, Level.ERROR, "", ""),
    ("2026-09-21T14:13:21Z stderr F level=error msg=cri", "cri", NOW_NS + 10**9, Level.ERROR, "", ""),
    ("<131>1 2026-09-21T14:13:21Z vm checkout 1 - - syslog", "syslog", NOW_NS + 10**9, Level.ERROR, "checkout", ""),
]
PROSE = ["payment refused", "took ms=35 count=2", "a=1", "level=info", "level=info and more words here than pairs", "",
         "E = mc2", "INFO", "2026 was a good year", "2026-09-21", "x=1 y=2", 'key="unclosed level=info', "{not json", "[]",
         "[main] started", "<html>", "<999>1 no", "GET /checkout?level=info&msg=x HTTP/1.1",
         "set level=high msg=low now, please", "Info: see below", "the error was=none",
         "=====", "{}", '{"a":1} trailing']


@pytest.mark.parametrize("case", INSIDE, ids=lambda c: c[0][:24])
def test_the_inner_line_wins(case: tuple[str, str, int, Level, str, str]) -> None:
    message, text, ts_ns, level, service, trace = case
    found = unwrap(message, CONTEXT)
    assert found is not None
    assert (found.text, found.ts_ns, found.level, found.service, found.trace_id) == (text, ts_ns, level, service, trace)


@pytest.mark.parametrize("text", PROSE)
def test_prose_is_left_alone(text: str) -> None:
    assert unwrap(text, CONTEXT) is None


@pytest.mark.parametrize(("text", "level"), [
    ("ERROR: no disk", Level.ERROR), ("WARN slow", Level.WARN), ("[error] x", Level.ERROR), ("ERROR:root:x", Level.ERROR),
    ("Errors happen", Level.UNSET), ("error handling improved", Level.UNSET), ("INFORMATION desk", Level.UNSET),
    ("ALERT bar was built", Level.UNSET), ("DEBUG", Level.UNSET)])
def test_a_level_word_counts_only_where_it_is_one(text: str, level: Level) -> None:
    assert level_word(text) is level


@pytest.mark.parametrize("envelope", [
    lambda m: {"@timestamp": 1790000000.0, "log": m + "\n", "kubernetes": {"pod_name": "p", "labels": {"app": "outer"}}},
    lambda m: {"log": m + "\n", "stream": "stdout", "time": "2026-09-21T14:13:20Z", "attrs": {"service": "outer"}},
    lambda m: {"message": m, "host": "p", "source_type": "file", "timestamp": "2026-09-21T14:13:20Z", "service": "outer"},
    lambda m: {"message": m, "@metadata": {"beat": "filebeat"}, "@timestamp": "2026-09-21T14:13:20Z", "host": {"name": "p"},
               "service": {"name": "outer"}},
    lambda m: {"@timestamp": "2026-09-21T14:13:20+00:00", "host": "p", "severity": "notice", "program": "outer", "message": m},
    lambda m: {"version": "1.1", "host": "p", "level": 5, "short_message": m, "timestamp": 1790000000, "_service": "outer"},
], ids=["fluent-bit", "docker", "vector", "beats", "rsyslog", "gelf"])
@pytest.mark.parametrize("names_service", [True, False])
def test_in_every_envelope(envelope, names_service: bool) -> None:  # type: ignore[no-untyped-def]
    """Time, level, trace id and service of the line; the envelope's service where it names none, and its instance."""
    inner = {"level": "error", "msg": "refused", "ts": "2026-09-21T14:13:19Z", "trace_id": TRACE, "pod": "inner"}
    if names_service:
        inner["service"] = "inner"
    batch = Decoder().decode([Record("t", 0, 0, 1, json.dumps(envelope(json.dumps(inner))).encode())])
    logs = batch.logs
    assert logs.text[:] == ["refused"] and logs.ts_ns.tolist() == [NOW_NS - 10**9] and logs.trace_id == [TRACE]
    assert logs.level.tolist() == [Level.ERROR]
    assert logs.vocab[int(logs.service[0])] == ("inner" if names_service else "outer")
    assert logs.vocab[int(logs.instance[0])] in ("p", "inner")


def test_it_is_unwrapped_once() -> None:
    twice = json.dumps({"msg": json.dumps({"msg": "deep"}), "level": "info"})
    assert Decoder().decode([Record("t", 0, 0, 1, json.dumps({"message": twice, "host": "h"}).encode())]).logs.text[:] == [
        '{"msg": "deep"}']


@settings(max_examples=400, deadline=None)
@given(st.sampled_from([*PROSE, *(case[0] for case in INSIDE)]), st.text(max_size=6), st.text(max_size=12))
def test_the_quick_look_lets_nothing_through(text: str, before: str, after: str) -> None:
    for candidate in (text, before + text, " " + text + after, before, after):
        changes = unwrap(candidate, CONTEXT) is not None
        for has_levels in (True, False):
            wanted = changes or (not has_levels and bool(level_word(candidate)))
            texts = ["fine", candidate.encode(errors="replace").decode()]
            assert (1 in wrapped_in(texts, CONTEXT, has_levels=has_levels)) >= wanted
            assert may_unwrap(candidate) or not wanted


def test_lines_in_a_block_are_unwrapped_as_alone() -> None:
    lines = [{"time": "2026-09-21T14:13:20Z", "service": "outer", "level": "info", "message": message}
             for message in ["fine"] * 40 + [case[0] for case in INSIDE] + ["fine"] * 40]
    records = [Record("t", 0, n, 1, json.dumps(line).encode()) for n, line in enumerate(lines)]
    together = Decoder().decode(records).logs
    for n, record in enumerate(records):
        alone = Decoder().decode([record]).logs
        assert together.text[n] == alone.text[0] and together.ts_ns[n] == alone.ts_ns[0]
        assert together.level[n] == alone.level[0] and together.vocab[together.service[n]] == alone.vocab[alone.service[0]]


def test_a_trace_belongs_to_its_line() -> None:
    java = ["ERROR it broke", "java.lang.IllegalStateException: x", "\tat a.B.c(B.java:1)", "Caused by: y", "\t... 3 more",
            "next"]
    assert joined_traces(java) == [java[0], "\n".join(java[1:5]), "next"]
    python = ["ERROR it broke", "Traceback (most recent call last):", '  File "a.py", line 1', "    1/0",
              "ZeroDivisionError: x", "next"]
    assert joined_traces(python) == ["\n".join(python[:5]), "next"]
    assert joined_traces(["one", "  two", "three"]) == ["one", "  two", "three"]


@pytest.mark.parametrize(("entry", "level"), [
    ({"level": 50}, Level.ERROR), ({"level": 10}, Level.TRACE), ({"level": 3}, Level.ERROR), ({"level": 7}, Level.DEBUG),
    ({"level": 17}, Level.ERROR), ({"level": 13}, Level.WARN), ({"levelno": 40}, Level.ERROR), ({"levelno": 25}, Level.INFO),
    ({"severity_number": 10}, Level.INFO), ({"severityNumber": 3}, Level.TRACE), ({"level": "E"}, Level.ERROR),
    ({"level": "WARNING"}, Level.WARN), ({"lvl": "err"}, Level.ERROR), ({"priority": "3"}, Level.ERROR),
    ({"level": {"x": 1}, "severity": "CRITICAL"}, Level.FATAL), ({"log": {"level": "warn"}}, Level.WARN),
    ({"level": 1e300}, Level.UNSET), ({"level": True}, Level.UNSET), ({"level": -1}, Level.UNSET), ({}, Level.UNSET)])
def test_the_field_tells_the_scale(entry: dict[str, object], level: Level) -> None:
    assert level_in(entry) is level


def test_a_syslog_number_is_one_of_eight() -> None:
    assert [syslog_level(n) for n in (0, 2, 3, 4, 5, 6, 7)] == [
        Level.FATAL, Level.FATAL, Level.ERROR, Level.WARN, Level.INFO, Level.INFO, Level.DEBUG]
    assert syslog_level("3") is syslog_level(3.0) is syslog_level(131) is Level.ERROR
    assert syslog_level(-1) is syslog_level(192) is syslog_level("٣") is syslog_level(None) is Level.UNSET
