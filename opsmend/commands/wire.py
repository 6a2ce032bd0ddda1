"""`opsmend wire FILE...`: does it understand my topic?"""

from __future__ import annotations

import base64
import binascii
import json
from pathlib import Path

import typer

from ingest.errors import OpsmendError
from ingest.types import Record


def read_capture(path: Path) -> list[Record]:
    """Records of a capture: one JSON object a line with base64 `value` and, from Kafka, topic and offset."""
    records = []
    for n, line in enumerate(path.read_text().splitlines()):
        try:
            entry = json.loads(line)
            headers = entry.get("headers") or {}
            pairs = headers.items() if isinstance(headers, dict) else headers
            records.append(Record(
                entry.get("topic") or entry.get("path") or path.stem, int(entry.get("partition", 0)),
                int(entry.get("offset", n)), int(entry.get("timestamp_ms", 0)), base64.b64decode(entry["value"]),
                base64.b64decode(entry["key"]) if entry.get("key") else None,
                tuple((k, base64.b64decode(v) if v else b"") for k, v in pairs)))
        except (ValueError, KeyError, TypeError, binascii.Error) as error:
            raise OpsmendError(f"{path}:{n + 1}: not a capture line: {error}", reason="capture") from error
    return records


def run_wire(files: list[Path], json_file: Path | None, *, list_formats: bool) -> int:
    """Prints a report per file; exit code 1 if anything was refused."""
    from ingest.wire.registry import FORMATS
    from ingest.wire.report import describe

    if list_formats:
        typer.echo("\n".join(FORMATS))
        return 0
    found = {}
    refused = 0
    for path in files:
        report, dead = describe(read_capture(path))
        found[path.name] = report
        refused += report["dead"]
        formats = ", ".join(f"{name} {count}" for name, count in report["formats"].items()) or "none"
        typer.echo(f"{path.name}: {report['records']} records: {formats}; {report['logs']} logs, "
                   f"{report['points']} points, {report['spans']} spans, {report['alerts']} alerts, "
                   f"{report['dead']} refused")
        for letter in dead[:20]:
            typer.echo(f"  {letter.topic}/{letter.partition}@{letter.offset}: {letter.reason}: {letter.detail}")
    if json_file is not None:
        json_file.write_text(json.dumps({"files": found}, indent=2) + "\n")
    return 1 if refused else 0
