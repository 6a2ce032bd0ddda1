"""Ten times more than it can take: `python bench/backpressure.py [--seconds 300] [--transport kafka] [--json FILE]`.

A producer writes JSON log lines to a real Kafka at ten times the rate that a pipeline takes, whose store is slow (each
commit takes so long that it keeps up with a tenth). Measured once a second: resident memory of the consuming process,
the lag it exports, and how much it has counted. Then the producer stops, the store becomes fast again, and everything
has to be there. `ours` is the largest growth of the resident set in MB; the bound that is stated is `bound_mb`.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from multiprocessing.synchronize import Event as Flag
from pathlib import Path
from typing import Any

import psutil

sys.path[0] = str(Path(__file__).parents[1])  # beside us is a benchmark that has the name of a package
QUEUE_BYTES = 16 << 20
POLL_BYTES = 16 << 20
LINE_BYTES = 1000
TAKEN_PER_SECOND = 2000
OVERLOAD = 10
BOUND_MB = 320
"""Growth of the resident set that is promised here, whatever waits at the brokers. Twice the queue (a fetch is on its way
while it is full), what waits and what was polled make 64 MB; the poll is decoded into columns, mined and stored, which
takes some ten times its bytes for a moment, and the allocator gives that back late."""


@dataclass
class Samples:
    """One list per column, one row a second."""

    seconds: list[float] = field(default_factory=list)
    rss_mb: list[float] = field(default_factory=list)
    lag_records: list[int] = field(default_factory=list)
    counted: list[int] = field(default_factory=list)

    def add(self, at: float, rss_mb: float, lag: int, counted: int) -> None:
        self.seconds.append(round(at, 1))
        self.rss_mb.append(round(rss_mb, 1))
        self.lag_records.append(lag)
        self.counted.append(counted)


def consume(config: dict[str, Any], directory: str, is_slow: Flag, stop: Flag, told: Any) -> None:
    """The consuming process: a real runner, pipeline and store; only the commit is made slow."""
    from ingest.transports.config import TransportConfig
    from ingest.transports.registry import open_consumer
    from opsmend.pipeline import Pipeline, PipelineConfig
    from opsmend.runners.local import LocalRunner, LocalRunnerConfig
    from opsmend.store.engine import open_engine
    from opsmend.store.queries import Queries
    from opsmend.store.records import Records, StepResult

    class Slow(Records):
        def commit(self, step: StepResult) -> None:
            super().commit(step)
            until = time.monotonic() + step.totals.get("records", 0) / TAKEN_PER_SECOND
            while is_slow.is_set() and time.monotonic() < until and not stop.is_set():
                time.sleep(0.05)

    engine = open_engine(f"sqlite:///{directory}/opsmend.db")
    consumer = open_consumer(TransportConfig(**config))
    queries = Queries(engine)
    runner = LocalRunner(LocalRunnerConfig(20_000, 250, POLL_BYTES), consumer, lambda: Pipeline(PipelineConfig()),
                         Slow(engine, retention_seconds=3600), queries)
    runner.recover()
    last = 0.0
    while not stop.is_set():
        runner.turn()
        if time.monotonic() - last > 0.5:
            last = time.monotonic()
            totals = queries.totals()
            told.put((sum(consumer.lag().values()), totals.get("records", 0), totals.get("late", 0)))
    consumer.close()


def line(n: int) -> bytes:
    head = b'{"type":"log","service":"s%d","ts":%.3f,"message":"request %d took %d ms ' % (n % 20, time.time(), n, n % 97)
    return head + b"x" * (LINE_BYTES - len(head) - 2) + b'"}'


def run(seconds: float, transport: dict[str, Any], *, tell: Callable[..., None] = lambda *_: None) -> dict[str, Any]:
    """Overload for so long, then catch up; what was seen."""
    from ingest.transports.config import TransportConfig
    from ingest.transports.registry import open_producer

    config = replace(TransportConfig(**transport), queue_bytes=QUEUE_BYTES, hold_bytes=POLL_BYTES, topics=("logs",))
    context = multiprocessing.get_context("spawn")
    is_slow, stop, told = context.Event(), context.Event(), context.Queue()
    is_slow.set()
    samples, sent = Samples(), 0
    lag = counted = late = 0
    with tempfile.TemporaryDirectory(prefix="opsmend-backpressure-") as directory:
        if config.kind == "embedded":
            config = replace(config, data_dir=directory)
        producer = open_producer(config)
        for sent in range(1, 4001):
            producer.send("logs", line(sent))
        producer.flush(30)
        consumer = context.Process(target=consume, args=(asdict(config), directory, is_slow, stop, told))
        consumer.start()
        process = psutil.Process(consumer.pid)
        deadline = time.monotonic() + 120
        while counted < 2000:  # started, and warm: from here on the growth counts
            if time.monotonic() > deadline or not consumer.is_alive():
                raise RuntimeError("the consumer did not start")
            lag, counted, late = told.get(timeout=120)
        first_mb = process.memory_info().rss / 1e6
        begun, next_look = time.monotonic(), 0.0
        overload_ended = 0.0
        per_step = TAKEN_PER_SECOND * OVERLOAD // 20
        while True:
            now = time.monotonic() - begun
            if now < seconds:
                for _ in range(per_step):
                    sent += 1
                    producer.send("logs", line(sent))
            elif not overload_ended:
                producer.flush(60)
                overload_ended = now
                is_slow.clear()
            while not told.empty():
                lag, counted, late = told.get()
            if now >= next_look:
                next_look = now + 1.0
                samples.add(now, process.memory_info().rss / 1e6, lag, counted)
                tell(samples)
            if overload_ended and (counted >= sent or now > overload_ended + 120 + seconds):
                break
            time.sleep(max(0.0, 0.05 - (time.monotonic() - begun - now)))
        caught_up = time.monotonic() - begun - overload_ended
        stop.set()
        consumer.join(30)
        producer.close()
    grown = max(samples.rss_mb) - first_mb
    return {"name": "backpressure", "unit": "MB", "ours": round(grown, 1), "peers": {}, "ratio": round(grown / BOUND_MB, 2),
            "bound_mb": BOUND_MB, "rss_mb_at_start": round(first_mb, 1), "rss_mb_at_most": max(samples.rss_mb),
            "records": sent, "counted": counted, "late": late, "seconds": round(overload_ended, 1),
            "sent_per_second": round(sent / max(overload_ended, 1e-9)),
            "taken_per_second": round(counted_at(samples, overload_ended) / max(overload_ended, 1e-9)),
            "largest_lag": max(samples.lag_records), "catch_up_seconds": round(caught_up, 1), "samples": asdict(samples)}


def counted_at(samples: Samples, at: float) -> int:
    """How much was counted when the overload ended."""
    return max((n for s, n in zip(samples.seconds, samples.counted, strict=True) if s <= at), default=0)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--transport", choices=("embedded", "kafka", "kafka-python"), default="kafka")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()

    def tell(samples: Samples) -> None:
        print(f"{samples.seconds[-1]:6.0f} s  {samples.rss_mb[-1]:7.1f} MB  lag {samples.lag_records[-1]:9,}  "
              f"counted {samples.counted[-1]:9,}", file=sys.stderr, flush=True)

    if args.transport == "embedded":
        found = run(args.seconds, {"kind": "embedded"}, tell=tell)
    else:
        from opsmend.lab.kafka import KafkaBroker

        with KafkaBroker() as broker:
            found = run(args.seconds, {"kind": args.transport, "bootstrap_servers": broker.bootstrap_servers}, tell=tell)
    if args.json:
        args.json.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps({k: v for k, v in found.items() if k != "samples"}, indent=1))
    return 0 if found["ours"] <= BOUND_MB and found["counted"] == found["records"] else 1


if __name__ == "__main__":
    sys.exit(main())
