"""`opsmend wire FILE...` or `--topic NAME`: does it understand my telemetry, and whose does it think it is?"""

from __future__ import annotations

import base64
import binascii
import json
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ingest.decode import Decoder
from ingest.errors import OpsmendError
from ingest.types import Record
from ingest.wire.report import Report, describe
from opsmend.commands import output

_SHOWN_SERVICES = 12
_DETAIL_CHARS = 300


def read_capture(path: Path) -> list[Record]:
    """Records of a capture: one JSON object a line with base64 `value` and, from Kafka, topic and offset, from HTTP,
    `path`; a line without `value` is itself a record, as `kcat -C` writes them. Raises OpsmendError for a broken line."""
    records = []
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise OpsmendError(f"{path}: {error.strerror}", reason="capture") from error
    for n, line in enumerate(lines):
        entry = _entry(line)
        if entry is None:
            if line.strip():
                records.append(Record(path.stem, 0, n, int(time.time() * 1000), line))
            continue
        try:
            headers = entry.get("headers") or {}
            pairs = headers.items() if isinstance(headers, dict) else headers
            raw = str.encode if "path" in entry else base64.b64decode
            records.append(Record(
                entry.get("topic") or entry.get("path") or path.stem, int(entry.get("partition", 0)),
                int(entry.get("offset", n)), int(entry.get("timestamp_ms") or 0), base64.b64decode(entry["value"]),
                base64.b64decode(entry["key"]) if entry.get("key") else None,
                tuple((k.lower() if "path" in entry else k, raw(v) if v else b"") for k, v in pairs)))
        except (ValueError, KeyError, TypeError, AttributeError, binascii.Error) as error:
            raise OpsmendError(f"{path}:{n + 1}: not a capture line: {error}", reason="capture") from error
    return records


def _entry(line: bytes) -> dict[str, Any] | None:
    """A line of a capture; None for a line that is a record itself: also one that has a `value` of its own."""
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        return None
    is_capture = isinstance(entry, dict) and isinstance(entry.get("value"), str) and (
        ("topic" in entry and "offset" in entry) or "path" in entry or entry.keys() <= {"value", "key", "headers"})
    return entry if is_capture else None


def run_wire(files: list[Path], json_file: Path | None, *, list_formats: bool, topics: list[str] | None = None,
             config: Path | None = None, count: int = 200, bootstrap_servers: str = "", sample: int = 3,
             wait_seconds: float = 5.0) -> int:
    """Prints a report per file and topic.

    Exit code 1 if anything was refused, if there was nothing to look at, or if a `truth.json` beside a file (what is in
    it, counted by others) says otherwise.
    """
    from ingest.wire.registry import FORMATS

    if list_formats:
        output.result("\n".join(FORMATS))
        return 0
    from opsmend.compose import pipeline_config
    from opsmend.config import load

    settings = load(config)
    decoder = Decoder(pipeline_config(settings).decoder)
    found: dict[str, dict[str, Any]] = {}
    for path in files:
        name = path.name if path.name not in found else str(path)
        found[name] = _tell(name, describe(read_capture(path), decoder, sample=sample), _truth(path))
    for topic in topics or ():
        records = _read_topic(settings, topic, count, wait_seconds, bootstrap_servers)
        found[topic] = _tell(topic, describe(records, decoder, sample=sample), None)
    if len(found) > 1:
        _overview(found)
    if json_file is not None:
        json_file.write_text(json.dumps({"files": found}, indent=2) + "\n")
    is_good = all(r["records"] and not r["dead"] and r.get("agrees", True) for r in found.values())
    return 0 if found and is_good else 1


def _truth(path: Path) -> dict[str, Any] | None:
    """What `truth.json` beside the file says of it; None where there is none."""
    try:
        known = json.loads((path.parent / "truth.json").read_text())
    except (OSError, ValueError):
        return None
    found = known.get(path.stem, known.get(path.name)) if isinstance(known, dict) else None
    return found if isinstance(found, dict) else None


def _read_topic(settings: Any, topic: str, count: int, wait_seconds: float, bootstrap_servers: str) -> list[Record]:
    """The oldest records that the topic keeps; read as a group of its own, nothing is committed."""
    from ingest.transports.registry import open_consumer
    from ingest.types import Watermark
    from opsmend.compose import transport_config

    base = transport_config(settings)
    if bootstrap_servers:
        kind = base.kind if base.kind != "embedded" else "kafka"
        base = replace(base, kind=kind, bootstrap_servers=bootstrap_servers)
    consumer = open_consumer(replace(base, topics=(topic,), patterns=(), group_id=f"{base.group_id}-wire"))
    consumer.start(Watermark())
    records: list[Record] = []
    deadline = time.monotonic() + wait_seconds
    try:
        while len(records) < count and time.monotonic() < deadline:
            found = consumer.poll(count - len(records), 250)
            if records and not found:
                break  # the end of the topic
            records += found
    finally:
        consumer.close()
    return records


def _tell(name: str, report: Report, truth: dict[str, Any] | None) -> dict[str, Any]:
    """Prints what was found; the same for programs."""
    counts, services = report.counts, report.services
    told = {**counts, "services": services, "dead_letters": [
        {"topic": x.topic, "partition": x.partition, "offset": x.offset, "reason": x.reason, "detail": x.detail}
        for x in report.dead]}
    if not counts["records"]:
        output.result(f"{name}: no records")
        return told
    formats = ", ".join(f"{fmt} {count}" for fmt, count in counts["formats"].items()) or "none"
    output.result(f"{name}: {counts['records']} records: {formats}; {counts['logs']} logs, {counts['points']} points, "
                  f"{counts['spans']} spans, {counts['alerts']} alerts, {counts['changes']} changes, "
                  f"{counts['dead']} refused")
    if services:
        shown = list(services.items())[:_SHOWN_SERVICES]
        more = f" and {len(services) - len(shown)} more" if len(services) > len(shown) else ""
        output.result(f"  services: {', '.join(f'{service} ({rows})' for service, rows in shown)}{more}")
    if "unknown" in services:
        output.note("  rows of 'unknown' name no service: add the field that does to [ingest.entity] from")
    if report.sample:
        _table(("", "time", "service", "", "text or series"),
               [(row.kind, row.time, row.service, row.mark, row.text) for row in report.sample])
    for letter in report.dead:
        output.result(f"  {letter.topic}/{letter.partition}@{letter.offset}: {letter.reason}: {letter.detail[:_DETAIL_CHARS]}")
    if truth is not None:
        wrong = report.disagreements(truth)
        told["agrees"] = not wrong
        for what, (found, wanted) in wrong.items():
            output.result(f"  {output.mark(ok=False)} {what}: {found}, but truth.json has {wanted}")
    return told


def _overview(found: dict[str, dict[str, Any]]) -> None:
    kinds = ("records", "logs", "points", "spans", "alerts", "changes", "dead")
    rows = [(name, ", ".join(f"{fmt} {n}" for fmt, n in r["formats"].items()), *(str(r[kind] or "") for kind in kinds),
             "" if "agrees" not in r else output.mark(ok=r["agrees"])) for name, r in found.items()]
    _table(("", "formats", *kinds[:-1], "refused", "as counted"), rows, from_column=2)


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, from_column: int = 99) -> None:
    """For people; columns from `from_column` on hold numbers. What came out of telemetry is text and never markup."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from opsmend.commands.console import table_console

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for n, column in enumerate(columns):
        table.add_column(column, justify="right" if n >= from_column else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text.from_ansi(c) if c.startswith("\x1b") else Text(output.printable(c).replace("\n", "⏎"))
                        for c in row))
    table_console().print(table)
