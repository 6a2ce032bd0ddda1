"""Log lines end to end on one core: `python bench/ingest.py [--lines N] [--soak N] [--json FILE]`.

From records in the embedded transport (500 lines each, or one) through the decoder, the template miner and the count
vectors per service and 10 s bucket: the code that the service runs, in one thread, tied to one core. The peer is
drain3 fed by the same transport and decoder in the same run. Figures are CPU time, so that neighbours on the machine
matter little; `wall` is beside it. The stream is bench/log_stream.py; `--soak` goes on for so many lines with fresh
identifiers all the time and watches the memory.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil

sys.path[0] = str(Path(__file__).resolve().parent.parent)  # or this file would be taken for the package of its name

from bench.log_stream import json_lines, lines
from detect.buckets import Buckets, SeriesTable
from detect.templates.miner import MinerConfig, TemplateMiner
from ingest.decode import Decoder
from ingest.transports.config import TransportConfig
from ingest.transports.registry import open_consumer, open_producer
from ingest.types import Batch, Watermark

BUCKET_NS, LATENESS_NS = 10 * 10**9, 5 * 10**9
POLL_ROWS_SINGLE, POLL_ROWS_BLOCKS = 20_000, 40
STEPS = ("poll", "decode", "templates", "vectors")


@dataclass
class Times:
    """CPU seconds by step."""

    cpu: dict[str, float] = field(default_factory=lambda: dict.fromkeys(STEPS, 0.0))
    wall: float = 0.0
    lines: int = 0

    def told(self) -> dict[str, object]:
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


def otlp_blocks(count: int, size: int, *, letters: bool) -> Iterator[bytes]:
    """The same lines as OTLP export requests of `size` log records, as the collector's kafka exporter sends them."""
    from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
    from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
    from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, ResourceLogs, ScopeLogs
    from opentelemetry.proto.resource.v1.resource_pb2 import Resource

    numbers = {"DEBUG": 5, "INFO": 9, "WARN": 13, "ERROR": 17}
    rows = lines(count, letters=letters)
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
    """drain3 with its defaults."""

    def __init__(self) -> None:
        import logging

        from drain3 import TemplateMiner as Drain3
        from drain3.template_miner_config import TemplateMinerConfig

        logging.getLogger("drain3").setLevel(logging.ERROR)
        self.miner = Drain3(config=TemplateMinerConfig())

    def __call__(self, batch: Batch, times: Times) -> None:
        began = time.process_time()
        for text in batch.logs.text:
            self.miner.add_log_message(text)
        times.cpu["templates"] += time.process_time() - began


def digit_cache_misses(count: int, *, letters: bool) -> float:
    """Share of the second half of the stream whose text without digits never occurred before."""
    delete = str.maketrans("", "", "0123456789")
    seen, misses = set[str](), 0
    for n, (*_, message) in enumerate(lines(count, letters=letters)):
        key = message.translate(delete)
        misses += n >= count // 2 and key not in seen
        seen.add(key)
    return round(misses / (count - count // 2), 3)


def soak(count: int, *, step: int = 200_000) -> list[dict[str, float]]:
    """Resident memory while `count` lines with fresh identifiers go through decoder, miner and vectors."""
    from ingest.types import Record

    ours, decoder, process = Ours(), Decoder(), psutil.Process()
    samples: list[dict[str, float]] = []
    for start in range(0, count, step):
        values = blocks(json_lines(step, start=start), 500)
        for n, value in enumerate(values):
            ours(decoder.decode([Record("logs", 0, start + n, 0, value)]), Times())
        if start // step % 5 == 4:
            samples.append({"lines": start + step, "resident_mb": round(process.memory_info().rss / 1e6, 1),
                            "templates": len(ours.miner), "evicted": ours.miner.evicted})
            print(f"{samples[-1]}", flush=True)
    return samples


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lines", type=int, default=1_000_000)
    parser.add_argument("--peer-lines", type=int, default=60_000)
    parser.add_argument("--soak", type=int, default=0)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    Ours().miner.template_id("compile what is compiled")
    streams: dict[str, dict[str, object]] = {}
    with tempfile.TemporaryDirectory() as directory:
        for name, letters, size, is_otlp in (
                ("json, letters and digits change", True, 500, False), ("json, digits change", False, 500, False),
                ("json, one line per record", True, 1, False), ("otlp-proto, letters and digits change", True, 500, True)):
            count = arguments.lines
            made = (otlp_blocks(count, size, letters=letters) if is_otlp else
                    blocks(json_lines(count, letters=letters), size))
            config = fill(Path(directory, name), made)
            rows = POLL_ROWS_SINGLE if size == 1 else POLL_ROWS_BLOCKS
            ours, drain = Ours(), Drain()
            peer_times = measure(config, rows, drain, arguments.peer_lines)
            our_times = measure(config, rows, ours, count)
            told: dict[str, object] = {"ours": our_times.told(), "drain3": peer_times.told()}
            told["ratio"] = round(our_times.told()["lines_per_cpu_second"] / peer_times.told()["lines_per_cpu_second"], 1)  # type: ignore[operator]
            told["templates"] = {"ours": len(ours.miner), "drain3": len(drain.miner.drain.clusters)}
            streams[name] = told
            print(f"{name}: {json.dumps(told, indent=1)}", flush=True)
    first = streams["json, letters and digits change"]
    report: dict[str, object] = {
        "name": "ingest: transport to templates and vectors, one core", "unit": "lines per CPU second",
        "ours": first["ours"]["lines_per_cpu_second"],  # type: ignore[index]
        "peers": {"drain3": first["drain3"]["lines_per_cpu_second"]}, "ratio": first["ratio"], "streams": streams,  # type: ignore[index]
        "digit_cache_misses": {"letters and digits": digit_cache_misses(200_000, letters=True),
                               "digits": digit_cache_misses(200_000, letters=False)}}
    if arguments.soak:
        report["soak"] = soak(arguments.soak)
    print(json.dumps({k: v for k, v in report.items() if k not in ("streams", "soak")}, indent=1))
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
