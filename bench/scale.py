"""The distributed engine on a real Apache Kafka: `python bench/scale.py [--lines N] [--quick] [--json FILE]`.

Lines in and judged, with one worker and with two, and the local runner on the same broker and the same records
(bench/log_stream.py, JSON lines, 100 a record). A worker is a process of its own with the roles packer and detect;
the figures are between the first and the last judged line. On a machine whose cores the workers share with the broker
and with each other, lines per second say little: CPU time per line is what sizes a cluster (docs/scaling.md).
"""

from __future__ import annotations

import argparse
import functools
import itertools
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path[0] = str(Path(__file__).resolve().parent.parent)  # or this file would be taken for the package of its name

from bench.log_stream import json_lines
from detect.config import DetectionConfig
from ingest.decode import DecoderConfig
from ingest.transports.config import TransportConfig
from ingest.transports.registry import open_consumer, open_producer
from opsmend.lab.kafka import KafkaBroker, why_not
from opsmend.pipeline import Pipeline, PipelineConfig
from opsmend.runners.local import LocalRunner, LocalRunnerConfig
from opsmend.runners.quix_detect import detect
from opsmend.runners.quix_packer import pack
from opsmend.runners.quix_settings import QuixConfig, make_topics
from opsmend.store.engine import open_engine
from opsmend.store.queries import Queries
from opsmend.store.records import Records, StepResult

LINES_PER_RECORD, PARTITIONS, SHARDS = 100, 8, 8
GROUP = TransportConfig.group_id


@dataclass(frozen=True)
class Run:
    """One measurement."""

    lines: int
    seconds: float
    cpu_seconds: float

    def told(self) -> dict[str, float]:
        return {"lines_per_s": round(self.lines / self.seconds),
                "cpu_us_per_line": round(self.cpu_seconds / self.lines * 1e6, 2)}


def records(count: int) -> list[bytes]:
    """`count` lines, as the values of the records that carry them."""
    block: list[bytes] = []
    values = []
    for line in itertools.islice(json_lines(count), count):
        block.append(line)
        if len(block) == LINES_PER_RECORD:
            values.append(b"\n".join(block))
            block.clear()
    return values


def fill(bootstrap: str, values: list[bytes]) -> None:
    """Put them on the topic; every partition has its share at any time."""
    from confluent_kafka.admin import NewTopic

    admin_of(bootstrap).create_topics([NewTopic("logs", PARTITIONS)])["logs"].result(30)
    producer = open_producer(TransportConfig(kind="kafka", bootstrap_servers=bootstrap))
    for n, value in enumerate(values):
        producer.send("logs", value, key=b"%d" % (n % (8 * PARTITIONS)))
    producer.flush(120)
    producer.close()


def child(plan: dict[str, Any]) -> None:
    """One process that works until it is killed, and tells how far it has come and what that took."""
    lines_done, go = [0], threading.Event()
    directory = Path(plan["directory"])
    transport = TransportConfig(kind="kafka", topics=("logs",), bootstrap_servers=plan["bootstrap"])
    if plan["role"] == "local":
        run = local(transport, directory, lines_done)
    else:
        config = QuixConfig(transport, "default", 10.0, 5.0, directory / "state", shards=SHARDS,
                            envelope_rows=plan["rows"])
        make_topics(config)
        never = threading.Event()
        run = {"packer": lambda: pack(config, DecoderConfig(), never, on_packed=count(lines_done, LINES_PER_RECORD)),
               "detect": lambda: detect(config, DetectionConfig(), never, on_envelope=count(lines_done, 1)),
               }.get(plan["role"]) or worker(config, lines_done, go)
    threading.Thread(target=run, daemon=True).start()
    threading.Thread(target=lambda: go.set() if sys.stdin.readline() else None, daemon=True).start()
    while True:
        print(json.dumps([lines_done[0], time.monotonic(), time.process_time()]), flush=True)
        time.sleep(0.1)


def count(done: list[int], each: int) -> Callable[[int], None]:
    def add(number: int) -> None:
        done[0] += number * each

    return add


def worker(config: QuixConfig, done: list[int], go: threading.Event) -> Callable[[], None]:
    """Both roles, the packer from `go` on; what counts is what was judged."""
    def packs() -> None:
        go.wait()
        pack(config, DecoderConfig(), threading.Event())

    def run() -> None:
        threading.Thread(target=packs, daemon=True).start()
        detect(config, DetectionConfig(), threading.Event(), on_envelope=count(done, 1))

    return run


def local(transport: TransportConfig, directory: Path, done: list[int]) -> Callable[[], None]:
    engine = open_engine(f"sqlite:///{directory / 'opsmend.db'}")

    def stepped(result: StepResult) -> None:
        done[0] += result.totals["logs"]

    runner = LocalRunner(LocalRunnerConfig(), open_consumer(transport), lambda: Pipeline(PipelineConfig()),
                         Records(engine, retention_seconds=3600), Queries(engine), on_step=stepped)
    runner.recover()
    return runner.run


class Child:
    """A child process and its newest word."""

    def __init__(self, plan: dict[str, Any]) -> None:
        self.process = subprocess.Popen([sys.executable, __file__, "--child", json.dumps(plan)], stdout=subprocess.PIPE,
                                        stdin=subprocess.PIPE, text=True)
        self.words: list[tuple[int, float, float]] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.words.append(tuple(json.loads(line)))

    @property
    def done(self) -> int:
        return self.words[-1][0] if self.words else 0

    def go(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        self._reader.join()


def owners(bootstrap: str, group: str) -> set[str]:
    """The members of a group that have partitions."""
    found = admin_of(bootstrap).describe_consumer_groups([group])[group].result(20)
    return {m.member_id for m in found.members if m.assignment.topic_partitions}


@functools.cache
def admin_of(bootstrap: str) -> Any:
    from confluent_kafka.admin import AdminClient

    return AdminClient({"bootstrap.servers": bootstrap})


def measure(bootstrap: str, directory: Path, roles: list[str], rows: int, wanted: int) -> Run:
    """Children with these roles until all of `wanted` is done. Start-up and the first rebalance do not count: workers
    are measured from when all of them have shards and partitions, single roles from the end of their first poll."""
    children = []
    for n, role in enumerate(roles):
        own = directory / f"{role}-{n}"
        own.mkdir()
        children.append(Child({"role": role, "bootstrap": bootstrap, "rows": rows, "directory": str(own)}))
    begun: list[tuple[int, float, float]] = []
    deadline = time.monotonic() + 240
    try:
        while sum(c.done for c in children) < wanted:
            if any(c.process.poll() is not None for c in children) or time.monotonic() > deadline:
                raise SystemExit(f"{roles}: {[c.done for c in children]} of {wanted} lines: a child ended or stands still")
            if not begun and roles[0] == "worker" and len(owners(bootstrap, f"{GROUP}-detect")) == len(roles):
                for c in children:
                    c.go()
                while len(owners(bootstrap, GROUP)) < len(roles):
                    time.sleep(0.1)
                begun = [c.words[-1] for c in children]
            elif not begun and roles[0] != "worker" and sum(c.done > 0 for c in children) == len(children):
                begun = [c.words[-1] for c in children]
            time.sleep(0.02)
        if not begun:
            raise SystemExit(f"{roles}: over before all had begun; more --lines")
        ended = [c.words[-1] for c in children]
    finally:
        for c in children:
            c.end()
    pairs = list(zip(begun, ended, strict=True))
    return Run(sum(e[0] - b[0] for b, e in pairs), max(e[1] for _, e in pairs) - max(b[1] for b, _ in pairs),
               sum(e[2] - b[2] for b, e in pairs))


def on_a_broker(values: list[bytes], steps: list[tuple[str, list[str]]], rows: int) -> dict[str, Run]:
    """A broker of its own for each, so that nothing of the run before is in the way."""
    with tempfile.TemporaryDirectory() as name, KafkaBroker() as broker:
        fill(broker.bootstrap_servers, values)
        found = {}
        for label, roles in steps:
            found[label] = measure(broker.bootstrap_servers, Path(name), roles, rows, len(values) * LINES_PER_RECORD)
            print(label, rows, found[label].told(), file=sys.stderr)
        admin_of.cache_clear()  # or it would look for this broker for ever
        return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lines", type=int, default=1_000_000)
    parser.add_argument("--rows", type=int, nargs="+", default=[100, 1000, 10_000], help="rows per envelope")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        child(json.loads(args.child))
    if reason := why_not():
        raise SystemExit(f"nothing was measured: {reason}")
    values = records(args.lines)
    sweep = {rows: on_a_broker(values, [("packer", ["packer"]), ("detect", ["detect"])], rows) for rows in args.rows}
    usual = QuixConfig.envelope_rows
    whole = {f"{n} worker{'s' * (n > 1)}": on_a_broker(values, [("workers", ["worker"] * n)], usual)["workers"]
             for n in (1, 2)}
    alone = on_a_broker(values, [("local", ["local"])], usual)["local"]
    told = {
        "name": "scale", "unit": "lines/s", "cores": os.cpu_count(), "load": os.getloadavg()[0], "lines": args.lines,
        "bytes_per_line": round(sum(map(len, values)) / args.lines),
        "ours": whole["2 workers"].told()["lines_per_s"], "peers": {"local runner": alone.told()["lines_per_s"]},
        "ratio": round(whole["2 workers"].told()["lines_per_s"] / alone.told()["lines_per_s"], 2),
        "workers": {label: run.told() for label, run in whole.items()}, "local": alone.told(),
        "roles_by_envelope_rows": {str(rows): {role: run.told() for role, run in found.items()}
                                   for rows, found in sweep.items()}}
    print(json.dumps(told, indent=1))
    if args.json:
        args.json.write_text(json.dumps(told, indent=1) + "\n")


if __name__ == "__main__":
    main()
