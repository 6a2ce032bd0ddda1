"""`opsmend wire FILE...` or `--topic NAME`: does it understand my telemetry, and whose does it think it is?"""

from __future__ import annotations

import base64
import binascii
import json
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

from ingest.decode import Decoder
from ingest.errors import OpsmendError
from ingest.types import Batch, Record
from opsmend.commands import output

_SHOWN_REFUSALS = 20
_SHOWN_SERVICES = 12


def read_capture(path: Path) -> list[Record]:
    """Records of a capture: one JSON object a line with base64 `value` and, from Kafka, topic and offset; a line
    without `value` is itself a record, as `kcat -C` writes them. Raises OpsmendError for a broken line."""
    records = []
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise OpsmendError(f"{path}: {error.strerror}", reason="capture") from error
    for n, line in enumerate(lines):
        try:
            entry = json.loads(line)
        except ValueError:
            entry = None
        if not isinstance(entry, dict) or not isinstance(entry.get("value"), str):
            if line.strip():
                records.append(Record(path.stem, 0, n, int(time.time() * 1000), line))
            continue
        try:
            headers = entry.get("headers") or {}
            pairs = headers.items() if isinstance(headers, dict) else headers
            raw = str.encode if "path" in entry else base64.b64decode
            records.append(Record(
                entry.get("topic") or entry.get("path") or path.stem, int(entry.get("partition", 0)),
                int(entry.get("offset", n)), int(entry.get("timestamp_ms", 0)), base64.b64decode(entry["value"]),
                base64.b64decode(entry["key"]) if entry.get("key") else None,
                tuple((k, raw(v) if v else b"") for k, v in pairs)))
        except (ValueError, KeyError, TypeError, binascii.Error) as error:
            raise OpsmendError(f"{path}:{n + 1}: not a capture line: {error}", reason="capture") from error
    return records


def run_wire(files: list[Path], json_file: Path | None, *, list_formats: bool, topics: list[str] | None = None,
             config: Path | None = None, count: int = 200, wait_seconds: float = 5.0) -> int:
    """Prints a report per file and topic; exit code 1 if anything was refused or there was nothing to look at."""
    from ingest.wire.registry import FORMATS

    if list_formats:
        output.result("\n".join(FORMATS))
        return 0
    from opsmend.compose import pipeline_config
    from opsmend.config import load

    settings = load(config)
    decoder = Decoder(pipeline_config(settings).decoder)
    found = {path.name: _report(path.name, read_capture(path), decoder) for path in files}
    for topic in topics or ():
        found[topic] = _report(topic, _read_topic(settings, topic, count, wait_seconds), decoder)
    if json_file is not None:
        json_file.write_text(json.dumps({"files": found}, indent=2) + "\n")
    return 1 if not found or any(r["dead"] or not r["records"] for r in found.values()) else 0


def _read_topic(settings: Any, topic: str, count: int, wait_seconds: float) -> list[Record]:
    """The oldest records that the topic keeps; read as a group of its own, nothing is committed."""
    from ingest.transports.registry import open_consumer
    from ingest.types import Watermark
    from opsmend.compose import transport_config

    base = transport_config(settings)
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


def _report(name: str, records: list[Record], decoder: Decoder) -> dict[str, Any]:
    from ingest.wire.report import describe

    report, dead = describe(records, decoder)
    report["services"] = services = _services(decoder.decode(records))
    if not records:
        output.result(f"{name}: no records")
        return report
    formats = ", ".join(f"{name} {count}" for name, count in report["formats"].items()) or "none"
    output.result(f"{name}: {report['records']} records: {formats}; {report['logs']} logs, {report['points']} points, "
                  f"{report['spans']} spans, {report['alerts']} alerts, {report['changes']} changes, "
                  f"{report['dead']} refused")
    if services:
        shown = list(services.items())[:_SHOWN_SERVICES]
        more = f" and {len(services) - len(shown)} more" if len(services) > len(shown) else ""
        output.result(f"  services: {', '.join(f'{service} ({rows})' for service, rows in shown)}{more}")
    if "unknown" in services:
        output.note("  rows of 'unknown' name no service: add the field that does to [ingest.entity] from")
    for letter in dead[:_SHOWN_REFUSALS]:
        output.result(f"  {letter.topic}/{letter.partition}@{letter.offset}: {letter.reason}: {letter.detail}")
    return report


def _services(batch: Batch) -> dict[str, int]:
    """Service -> rows, most first."""
    found: Counter[str] = Counter(batch.logs.vocab[i] for i in batch.logs.service.tolist() if i >= 0)
    found.update(batch.metrics.series_table[i].service for i in batch.metrics.series.tolist())
    found.update(batch.traces.vocab[i] for i in batch.traces.service.tolist() if i >= 0)
    found.update(change.service for change in batch.changes)
    found.update(alert.service for alert in batch.alerts)
    return dict(sorted(found.items(), key=lambda item: (-item[1], item[0])))
