"""`opsmend wire`: what it reads, what it prints, and when it says no."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from ingest.errors import OpsmendError
from ingest.types import Record
from ingest.wire.report import describe
from opsmend.commands.wire import read_capture, run_wire


def captured(value: bytes, **more: Any) -> str:
    return json.dumps({"topic": "t", "partition": 2, "offset": 17, "timestamp_ms": 1_790_000_000_000, "key": None,
                       "headers": [], "value": base64.b64encode(value).decode(), **more})


def wire(tmp_path: Path, lines: list[str], truth: dict[str, Any] | None = None) -> tuple[int, dict[str, Any]]:
    path = tmp_path / "some.jsonl"
    path.write_text("\n".join(lines) + "\n")
    if truth is not None:
        (tmp_path / "truth.json").write_text(json.dumps({"some": truth}))
    code = run_wire([path], tmp_path / "report.json", list_formats=False)
    found: dict[str, Any] = json.loads((tmp_path / "report.json").read_text())["files"]["some.jsonl"]
    return code, found


def test_a_capture_and_bare_records(tmp_path: Path) -> None:
    code, found = wire(tmp_path, [captured(b"one line"), '{"value": "12.5", "metric": "cpu"}', '{"message": "bare"}', "text"])
    assert code == 0
    assert (found["records"], found["logs"], found["points"], found["dead"]) == (4, 3, 1, 0)
    assert "agrees" not in found


def test_every_refusal_with_its_offset_and_reason(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, found = wire(tmp_path, [captured(b"fine \x1b[31mred"), captured(b"\xff\xfe\xfd\xfc", offset=99)])
    assert code == 1 and found["dead"] == 1 and sum(found["reasons"].values()) == 1
    told = capsys.readouterr().out
    assert "t/2@99: unknown_format" in told and "fine" in told and "\x1b" not in told


@pytest.mark.parametrize(("truth", "code", "agrees"), [
    ({"records": 1, "logs": 1}, 0, True), ({"records": 1, "logs": 1, "series": 7}, 0, True),
    ({"records": 2, "logs": 1}, 1, False), ({"records": 1, "points": 1}, 1, False), ({"records": 1}, 1, False)])
def test_the_truth_beside_the_capture(tmp_path: Path, truth: dict[str, Any], code: int, agrees: bool) -> None:
    """What it counts must be there, and nothing else may be."""
    got, found = wire(tmp_path, [captured(b"one line")], truth)
    assert (got, found["agrees"]) == (code, agrees)


def test_http_captures_have_plain_headers(tmp_path: Path) -> None:
    path = tmp_path / "http.jsonl"
    path.write_text(json.dumps({"path": "/v1/logs", "headers": {"Content-Type": "application/json"}, "value": "e30="}))
    (record,) = read_capture(path)
    assert (record.topic, record.headers, record.value) == ("/v1/logs", (("content-type", b"application/json"),), b"{}")


@pytest.mark.parametrize("line", [captured(b"x", offset="many"), captured(b"x", headers=7),
                                  '{"topic": "t", "offset": 1, "value": "not base64!"}'])
def test_a_broken_capture_is_told_by_its_line(tmp_path: Path, line: str) -> None:
    path = tmp_path / "some.jsonl"
    path.write_text(f"{captured(b'x')}\n{line}\n")
    with pytest.raises(OpsmendError, match=r"some\.jsonl:2: not a capture line"):
        read_capture(path)


def test_binary_cloud_events_are_told_by_their_headers() -> None:
    headers = (("ce_specversion", b"1.0"), ("ce_type", b"shop.failed"), ("ce_source", b"/shop/cart"), ("ce_id", b"1"),
               ("ce_time", b"2026-09-21T14:13:21Z"), ("content-type", b"application/json"))
    for value, text in ((b'{"message": "refused", "level": "error"}', "refused"), (b"just text", "just text"),
                        (b" ", "shop.failed")):
        report = describe([Record("t", 0, 0, 1, value, headers=headers)], sample=1)
        assert report.counts["formats"] == {"cloudevents": 1} and report.services == {"cart": 1}
        assert (report.sample[0].text, report.sample[0].time) == (text, "2026-09-21T14:13:21.000Z")


def test_formats_may_share_a_record() -> None:
    lines = [{"@timestamp": 1790000000.5, "log": "of Fluent Bit"}, {"name": "cpu", "fields": {"idle": 1}, "tags": {}},
             {"message": "of nobody"}, {"name": "x", "kind": "absolute", "gauge": {"value": 1}}]
    for value in (json.dumps(lines).encode(), "\n".join(map(json.dumps, lines)).encode()):
        counts = describe([Record("t", 0, 0, 1, value)]).counts
        assert (counts["formats"], counts["logs"], counts["points"], counts["dead"]) == ({"plain": 1}, 2, 2, 0)
