"""Lines by the block give what lines one by one give, whatever they hold; and what is meant to be fast is."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

import hypothesis
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.decode import Decoder, DecoderConfig
from ingest.types import Batch, Record
from ingest.wire.iso_times import _one, iso_column
from ingest.wire.json_scanner import Scanner, _compiled
from ingest.wire.times import to_ns

MS = 1_790_000_000_000


def records(values: list[bytes], **given: Any) -> list[Record]:
    return [Record("logs", 0, n, MS + n, value, **given) for n, value in enumerate(values)]


def one_by_one(config: DecoderConfig | None = None) -> Decoder:
    decoder = Decoder(config)
    decoder._lines.take = lambda *_: ""  # type: ignore[method-assign]
    return decoder


def told(batch: Batch) -> Any:
    logs, names = batch.logs, batch.logs.vocab
    return (
        logs.ts_ns.tolist(), [names[i] if i >= 0 else "" for i in logs.service], logs.level.tolist(), logs.text,
        [names[i] if i >= 0 else "" for i in logs.instance], logs.trace_id, dict(logs.envelope), dict(batch.formats),
        batch.points_in,
        [(d.offset, d.reason) for d in batch.dead_letters], batch.records_in, batch.metrics.series_table,
        batch.metrics.ts_ns.tolist(), [repr(v) for v in batch.metrics.value.tolist()])


WORDS = st.sampled_from(["", "a", "paid 17 EUR", "ünïcode \u2028", "\ud83d\ude00", '{"inner": 1}', "k=v msg=x level=warn",
                         "12"])
TIMES = st.sampled_from([
    "2026-11-24T10:00:00Z", "2026-11-24 10:00:00.123456789+02:00", "2026-02-30T00:00:00Z", "yesterday", "", 1_790_000_000,
    1_790_000_000.25, 1_790_000_000_123, 1_790_000_000_123_456_789, 12.5, -4, 10**19, 10**30, None, True, "1790000000"])
LEVELS = st.sampled_from(["info", "WARN", " error ", "", "odd", 17, 50, None, True])
FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "message": WORDS | st.none() | st.integers(), "msg": WORDS, "ts": TIMES, "timestamp": TIMES, "level": LEVELS,
    "severity": LEVELS, "service": WORDS | st.none(), "app": WORDS, "instance": WORDS, "host": WORDS, "trace_id": WORDS,
    "traceId": WORDS, "n": st.integers() | st.floats(allow_nan=False), "inner": st.dictionaries(st.sampled_from("ab"), WORDS),
    "type": st.sampled_from(["log", "log", "log", "metric", "x"]), "stream": WORDS, "kind": WORDS}


@st.composite
def streams(draw: st.DrawFn) -> list[bytes]:
    """Lines of a few shapes, mostly of the first."""
    shapes = draw(st.lists(st.lists(st.sampled_from(sorted(FIELDS)), unique=True, max_size=6), min_size=1, max_size=3))
    common = draw(st.fixed_dictionaries({name: FIELDS[name] for name in shapes[0]}))
    lines = []
    for _ in range(draw(st.integers(1, 40))):
        shape = shapes[0] if draw(st.integers(0, 9)) else draw(st.sampled_from(shapes))
        entry = {name: common[name] if name in common and draw(st.integers(0, 9)) else draw(FIELDS[name]) for name in shape}
        lines.append(json.dumps(entry, ensure_ascii=draw(st.booleans())).encode(errors="replace"))
    return [line if draw(st.integers(0, 29)) else draw(st.binary(max_size=12)) for line in lines]


@settings(deadline=None, max_examples=300)
@given(lines=streams(), topic_format=st.sampled_from(["", "", "native", "plain"]), polls=st.integers(1, 3))
def test_single_line_records(lines: list[bytes], topic_format: str, polls: int) -> None:
    config = DecoderConfig(topic_formats={"logs": topic_format} if topic_format else {})
    fast, slow = Decoder(config), one_by_one(config)
    for _ in range(polls):
        assert told(fast.decode(records(lines))) == told(slow.decode(records(lines)))


@settings(deadline=None, max_examples=300)
@given(blocks=st.lists(streams(), min_size=1, max_size=3), end=st.sampled_from([b"", b"\n", b"\n\n", b" "]))
def test_blocks_of_lines(blocks: list[list[bytes]], end: bytes) -> None:
    values = [b"\n".join(lines) + end for lines in blocks]
    for given_headers in ({}, {"headers": (("service", b"from the header"),)}):
        assert told(Decoder().decode(records(values, **given_headers))) == told(
            one_by_one().decode(records(values, **given_headers)))


TEXTS = st.builds(
    lambda y, mo, d, sep, h, mi, s, f, z: f"{y:04d}-{mo:02d}-{d:02d}{sep}{h:02d}:{mi:02d}:{s:02d}{f}{z}",
    st.integers(1960, 2270), st.integers(0, 13), st.integers(0, 32), st.sampled_from("T t_"), st.integers(0, 24),
    st.integers(0, 60), st.integers(0, 61), st.sampled_from(["", ".", ".5", ",25", ".123456789", ".1234567891234"]),
    st.sampled_from(["", "Z", "z", "+02:00", "-0530", "+2", "+99:00", " UTC"]))


RICH = st.text(max_size=40) | st.sampled_from(['say "hi"', "a\\b", "tab\tnewline\n", "\u2028é漢\U0001f600", "\x7f\x1f"])
NUMBERS = st.one_of(
    st.integers(1_000_000_000, 1_900_000_000), st.integers(10**12, 2 * 10**12), st.integers(10**18, 2 * 10**18),
    st.floats(1e9, 2e9), st.floats(1e12, 2e12), st.floats(1e15, 2e18),
    st.decimals(1_100_000_000, 2_100_000_000, places=9).map(float))


SOUND_TEXTS = st.datetimes(datetime(2001, 1, 1), datetime(2200, 1, 1)).map(lambda t: t.isoformat() + "Z")
KINDS = (st.integers(1_000_000_000, 1_900_000_000), st.floats(1.1e9, 2.1e9), st.integers(10**12, 2 * 10**12),
         SOUND_TEXTS, SOUND_TEXTS, NUMBERS, TEXTS)


@settings(deadline=None, max_examples=300)
@given(data=st.data(), ascii_only=st.booleans(), space=st.sampled_from([(",", ":"), (", ", ": "), (" ,\t", " : ")]))
def test_whatever_a_line_holds(data: st.DataObject, ascii_only: bool, space: tuple[str, str]) -> None:
    fields = {"message": RICH.filter(bool), "service": st.sampled_from(["a", "b\u00fc", "c c"]), "level": st.sampled_from(
        ["info", "WARN", "x"]), "ts": data.draw(st.sampled_from(KINDS)), "trace_id": st.sampled_from(["", "ab"]),
        "extra": RICH, "n": st.integers() | st.none() | st.booleans() | st.floats(allow_nan=False)}
    rows = data.draw(st.lists(st.fixed_dictionaries(fields), min_size=8, max_size=12))
    block = b"\n".join(json.dumps(r, ensure_ascii=ascii_only, separators=space).encode(errors="replace") for r in rows)
    fast = Decoder()
    assert told(fast.decode(records([block]))) == told(one_by_one().decode(records([block])))
    plan = fast._lines._topics["logs"].plan
    hypothesis.event("scanned" if plan and plan.scanner.scan(block) else "not scanned")


@given(number=NUMBERS.map(repr) | st.from_regex(r"1[0-9]{9}\.[0-9]{1,12}", fullmatch=True))
def test_a_number_that_the_scanner_takes_is_the_time_that_python_reads(number: str) -> None:
    scanner = Scanner(["m", "t"], {"m": "message", "t": "time"}, {"m", "t"}, is_native=False)
    found = scanner.scan(b'{"m": "x", "t": %s}' % number.encode())
    if found is not None:
        assert found.ts_ns.tolist() == [to_ns(json.loads(number), 0)]


LINE = {"timestamp": "2026-11-24T10:00:00.5Z", "level": "WARN", "service": "cart", "message": "user 17 left", "id": 4}


@pytest.mark.parametrize("change", [
    {}, {"trace_id": "ab"}, {"timestamp": 1_790_000_000.5}, {"level": "info", "host": "h1"}, {"message": "ü"}], ids=str)
@pytest.mark.parametrize("is_block", [True, False])
def test_lines_of_one_shape_go_by_the_block(change: dict[str, Any], is_block: bool) -> None:
    lines = [json.dumps(LINE | change).encode()] * 100
    decoder = Decoder()
    decoder._decode_one = None  # type: ignore[assignment,method-assign]
    if _compiled() is not None:
        decoder._lines._decoded = None  # type: ignore[assignment,method-assign]
    batch = decoder.decode(records([b"\n".join(lines)] if is_block else lines))
    assert len(batch.logs) == 100
    assert dict(batch.formats) == {"plain": 1 if is_block else 100}


@pytest.mark.parametrize("without", ["", "service", "timestamp", "level"])
@pytest.mark.parametrize("is_block", [True, False])
def test_the_few_messages_that_wrap_a_line_are_unwrapped_in_their_block(without: str, is_block: bool) -> None:
    inner = ['{"msg": "inner", "level": "error", "service": "other", "ts": 1790000007}',
             'level=warn msg="from logfmt" trace_id=ab', "I0102 15:04:05.000000    1 main.go:7] from klog"]
    rows = [{k: v for k, v in (LINE | {"message": inner[i // 30] if i % 30 == 7 else f"plain {i}"}).items() if k != without}
            for i in range(90)]
    lines = [json.dumps(row).encode() for row in rows]
    values = [b"\n".join(lines)] if is_block else lines
    decoder = Decoder()
    expected = told(one_by_one().decode(records(values)))
    decoder._decode_one = None  # type: ignore[assignment,method-assign]
    assert told(decoder.decode(records(values))) == expected
    assert {"inner", "from logfmt", "from klog"} <= set(expected[3])
    if not without:
        assert dict(expected[6][7]) == {"time_unix_nano": "1795514400500000000", "service": "cart", "severity": "WARN"}


def test_a_topic_that_never_fits_is_left_alone_and_comes_back() -> None:
    decoder, slow = Decoder(), one_by_one()
    odd = [json.dumps({"message": f"m{i}"} | ({"level": "info"} if i % 2 else {"severity": "info"})).encode() for i in range(9)]
    for _ in range(40):
        assert told(decoder.decode(records(odd))) == told(slow.decode(records(odd)))
    assert decoder._lines._topics["logs"].rest > 0


@settings(deadline=None, max_examples=500)
@given(texts=st.lists(TEXTS | st.text(max_size=30).filter(lambda t: "\n" not in t), max_size=20))
def test_times_by_the_column_are_those_one_by_one_or_none(texts: list[str]) -> None:
    found = iso_column(texts).tolist()
    for text, ns in zip(texts, found, strict=True):
        if ns >= 0:
            assert ns == to_ns(text, 0), text
        raw = np.frombuffer(text.encode(), np.uint8)
        plain_python = getattr(_one, "py_func", _one)
        assert plain_python(raw, 0, len(raw)) == ns


def test_the_times_that_producers_write_are_among_them() -> None:
    for text in ("2026-11-24T10:00:00Z", "2026-11-24 10:00:00", "2026-11-24T10:00:00.123456789Z",
                 "2026-11-24T10:00:00,123+01:00", "2000-02-29T23:59:59.999-0800"):
        assert iso_column([text]).tolist() == [to_ns(text, 0)]
