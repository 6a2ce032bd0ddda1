"""Log lines end to end on one core: `python bench/ingest.py [--lines N] [--soak N] [--json FILE]`.

From records in the embedded transport (500 lines each, or one) through the decoder, the template miner and the count
vectors per service and 10 s bucket: the code that the service runs, in one thread, tied to one core. The peer is
drain3 fed by the same transport and decoder in the same run. Figures are CPU time, so that neighbours on the machine
matter little; `wall` is beside it. The stream is bench/log_stream.py; `--soak` goes on for so many lines with fresh
identifiers all the time and watches the memory. The first stream is the one that counts.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

sys.path[0] = str(Path(__file__).resolve().parent.parent)  # or this file would be taken for the package of its name

from bench.log_stream import endless_blocks, json_lines, lines
from detect.buckets import Buckets, SeriesTable
from detect.templates.miner import MinerConfig, TemplateMiner
from ingest.decode import Decoder
from ingest.transports.config import TransportConfig
from ingest.transports.registry import open_consumer, open_producer
from ingest.types import Batch, Record, Watermark
from opsmend.evaluate.logs_methods import GENERIC_MASKS, drain3_miner

BUCKET_NS, LATENESS_NS = 10 * 10**9, 5 * 10**9
POLL_ROWS_SINGLE, POLL_ROWS_BLOCKS = 20_000, 40
STEPS = ("poll", "decode", "templates", "vectors")


@dataclass(frozen=True)
class Stream:
    """What is sent through."""

    is_real: bool
    letters: bool = True
    whole: bool = False
    lines_per_record: int = 500
    is_otlp: bool = False


STREAMS = {
    "json, real lines, all letters and digits of values change": Stream(True, whole=True),
    "json, real lines, letters and digits of names change": Stream(True),
    "json, real lines, digits change": Stream(True, letters=False),
    "otlp-proto, real lines, all letters and digits of values change": Stream(True, whole=True, is_otlp=True),
    "otlp-proto, real lines, letters and digits of names change": Stream(True, is_otlp=True),
    "json, real lines, letters and digits of names change, one per record": Stream(True, lines_per_record=1),
    "json, 40 events, letters and digits change": Stream(False),
    "otlp-proto, 40 events, letters and digits change": Stream(False, is_otlp=True),
}


@dataclass
class Times:
    """CPU seconds by step."""

    cpu: dict[str, float] = field(default_factory=lambda: dict.fromkeys(STEPS, 0.0))
    wall: float = 0.0
    lines: int = 0

    @property
    def us_per_line(self) -> float:
        return 1e6 * sum(self.cpu.values()) / self.lines

    def told(self) -> dict[str, Any]:
        total = sum(self.cpu.values())
        return {"lines_per_cpu_second": round(self.lines / total), "lines_per_second_wall": round(self.lines / self.wall),
                "us_per_line": {step: round(1e6 * t / self.lines, 3) for step, t in self.cpu.items() if t},
                "us_per_line_all": round(1e6 * total / self.lines, 3)}


class TimedMiner(TemplateMiner):
    """The miner, with its share of the time told apart."""

    seconds = 0.0

    def numbers(self, *args: object) -> object:  # type: ignore[override]
        began = time.process_time()
        found = super().numbers(*args)  # type: ignore[arg-type]
        self.seconds += time.process_time() - began
        return found


def fill(directory: Path, values: Iterable[bytes]) -> TransportConfig:
    """A log of these records."""
    config = TransportConfig(topics=("logs",), data_dir=str(directory), partitions=1, retention_bytes=1 << 50)
    producer = open_producer(config)
    for value in values:
        producer.send("logs", value)
    producer.close()
    return config


def blocks(rows: Iterator[bytes], size: int) -> Iterator[bytes]:
    while block := list(itertools.islice(rows, size)):
        yield b"\n".join(block)


def otlp_blocks(count: int, size: int, **how: Any) -> Iterator[bytes]:
    """The same lines as OTLP export requests of `size` log records, as the collector's kafka exporter sends them."""
    from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
    from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
    from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, ResourceLogs, ScopeLogs, SeverityNumber
    from opentelemetry.proto.resource.v1.resource_pb2 import Resource

    numbers = {level: SeverityNumber.Value(f"SEVERITY_NUMBER_{level}") for level in ("DEBUG", "INFO", "WARN", "ERROR")}
    rows = lines(count, **how)
    while block := list(itertools.islice(rows, size)):
        request = ExportLogsServiceRequest()
        for service in sorted({row[1] for row in block}):
            records = [LogRecord(time_unix_nano=int(seconds * 1e9), severity_number=numbers[level], severity_text=level,
                                 body=AnyValue(string_value=message))
                       for seconds, name, level, message in block if name == service]
            request.resource_logs.append(ResourceLogs(
                resource=Resource(attributes=[KeyValue(key="service.name", value=AnyValue(string_value=service))]),
                scope_logs=[ScopeLogs(log_records=records)]))
        yield request.SerializeToString()


def measure(config: TransportConfig, rows: int, consume: Callable[[Batch, Times], None], most: int) -> Times:
    """Read the log from its beginning until `most` lines are through."""
    times, decoder = Times(), Decoder()
    consumer = open_consumer(config)
    consumer.start(Watermark({("logs", 0): 0}))
    began_wall = time.perf_counter()
    while times.lines < most:
        began = time.process_time()
        records = consumer.poll(rows, 0)
        polled = time.process_time()
        if not records:
            break
        batch = decoder.decode(records)
        assert not batch.dead_letters
        decoded = time.process_time()
        consume(batch, times)
        times.cpu["poll"] += polled - began
        times.cpu["decode"] += decoded - polled
        times.lines += len(batch.logs)
    times.wall = time.perf_counter() - began_wall
    consumer.close()
    return times


class Ours:
    """Buckets with the miner, as detect.stage has them."""

    def __init__(self) -> None:
        self.miner = TimedMiner(MinerConfig())
        self.buckets = Buckets(BUCKET_NS, LATENESS_NS, SeriesTable(1000), self.miner)
        self.vectors = 0

    def __call__(self, batch: Batch, times: Times) -> None:
        began, mined = time.process_time(), self.miner.seconds
        self.buckets.add(batch)
        for _, bucket in self.buckets.closed():
            self.vectors += len(bucket.logs)
        mined = self.miner.seconds - mined
        times.cpu["templates"] += mined
        times.cpu["vectors"] += time.process_time() - began - mined


class Drain:
    """drain3 with its defaults, or with the masks that bring its templates nearer to ours."""

    def __init__(self, masks: Sequence[str] = ()) -> None:
        self.miner = drain3_miner(masks)

    def __call__(self, batch: Batch, times: Times) -> None:
        began = time.process_time()
        for text in batch.logs.text:
            self.miner.add_log_message(text)
        times.cpu["templates"] += time.process_time() - began


def digit_cache_misses(count: int, **how: Any) -> float:
    """Share of the second half of the stream whose text without digits never occurred before."""
    delete = str.maketrans("", "", "0123456789")
    seen, misses = set[str](), 0
    for n, (*_, message) in enumerate(lines(count, **how)):
        key = message.translate(delete)
        misses += n >= count // 2 and key not in seen
        seen.add(key)
    return round(misses / (count - count // 2), 3)


def soak(count: int, data: Path | None) -> list[dict[str, float]]:
    """Resident memory while `count` lines with fresh identifiers go through decoder, miner and vectors."""
    ours, decoder, process, times = Ours(), Decoder(), psutil.Process(), Times()
    samples: list[dict[str, float]] = []
    began = time.process_time()
    done, shown = 0, 0
    stream = endless_blocks(500, data=data)
    for n in itertools.count():
        ours(decoder.decode([Record("logs", 0, n, 0, block) for block in itertools.islice(stream, POLL_ROWS_BLOCKS)]), times)
        done += 500 * POLL_ROWS_BLOCKS
        if done >= shown:
            shown = done + count // 50
            samples.append({"lines": done, "resident_mb": round(process.memory_info().rss / 1e6, 1),
                            "templates": len(ours.miner), "evicted": ours.miner.evicted,
                            "us_per_line": round(1e6 * (time.process_time() - began) / done, 3)})
            print(json.dumps(samples[-1]), flush=True)
        if done >= count:
            return samples
    return samples


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lines", type=int, default=1_000_000)
    parser.add_argument("--peer-lines", type=int, default=200_000)
    parser.add_argument("--soak", type=int, default=0)
    known = os.environ.get("OPSMEND_TEST_DATA")
    parser.add_argument("--data", type=Path, default=Path(known, "logs") if known else None,
                        help="loghub samples; by default those of OPSMEND_TEST_DATA")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    Ours().miner.template_id("compile what is compiled")
    streams: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as directory:
        for name, kind in STREAMS.items():
            if kind.is_real and arguments.data is None:
                print(f"{name}: NOT MEASURED: --data names no loghub samples", flush=True)
                continue
            how: dict[str, Any] = {"letters": kind.letters, "whole": kind.whole,
                                   "data": arguments.data if kind.is_real else None}
            made = (otlp_blocks(arguments.lines, kind.lines_per_record, **how) if kind.is_otlp else
                    blocks(json_lines(arguments.lines, **how), kind.lines_per_record))
            config = fill(Path(directory, str(len(streams))), made)
            rows = POLL_ROWS_SINGLE if kind.lines_per_record == 1 else POLL_ROWS_BLOCKS
            ours, peers = Ours(), {"drain3": Drain(), "drain3-masks": Drain(GENERIC_MASKS)}
            times = {peer: measure(config, rows, drain, arguments.peer_lines) for peer, drain in peers.items()}
            our_times = measure(config, rows, ours, arguments.lines)
            streams[name] = {
                "ours": our_times.told(), **{peer: t.told() for peer, t in times.items()},
                "ratio": {peer: round(t.us_per_line / our_times.us_per_line, 1) for peer, t in times.items()},
                "templates": {"ours": len(ours.miner), **{peer: len(d.miner.drain.clusters) for peer, d in peers.items()}},
                "digit_cache_misses": digit_cache_misses(min(arguments.lines, 200_000), **how)}
            print(f"{name}: {json.dumps(streams[name], indent=1)}", flush=True)
    first = next(iter(streams.values()))
    report: dict[str, Any] = {
        "name": "ingest: transport to templates and vectors, one core", "unit": "lines per CPU second",
        "ours": first["ours"]["lines_per_cpu_second"],
        "peers": {peer: first[peer]["lines_per_cpu_second"] for peer in first["ratio"]},
        "ratio": first["ratio"]["drain3"], "streams": streams}
    if arguments.soak:
        report["soak"] = soak(arguments.soak, arguments.data)
    print(json.dumps({k: v for k, v in report.items() if k not in ("streams", "soak")}, indent=1))
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
