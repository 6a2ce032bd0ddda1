"""A steady stream of telemetry of four services; what stands at which place depends on its number alone.

    telemetry.py produce CONFIG.json    write records from where the log ends until the file `until` names an end
    telemetry.py tear CONFIG.json       the same, but the kernel kills it in the middle of its next write
    telemetry.py expect N               what N records hold, as JSON
"""

from __future__ import annotations

import json
import random
import resource
import signal
import sys
import time
from pathlib import Path
from typing import Any

START = 1_800_000_000
SERVICES = ("gateway", "orders", "cart", "payments")
RECORDS_PER_EVENT_SECOND = 10
BUG = "this line trips a bug"


def is_undecodable(n: int) -> bool:
    return n % 97 == 50


def is_bug(n: int) -> bool:
    return n % 1499 == 700


def value(n: int) -> tuple[bytes, int, int]:
    """Record number n: its bytes, and how many log lines and points it holds."""
    if is_undecodable(n):
        return b"\xfe\xff\x00 not text %d" % n, 0, 0
    ts = START + n / RECORDS_PER_EVENT_SECOND
    if is_bug(n):
        return _lines([{"type": "log", "ts": ts, "service": "cart", "message": BUG}]), 1, 0
    second = n // RECORDS_PER_EVENT_SECOND
    cart_is_down = second % 60 >= 40
    rows: list[dict[str, Any]] = [
        {"type": "log", "ts": ts, "service": SERVICES[(n + i) % 4], "level": "info",
         "message": f"request {n * 31 + i} took {n % 13} ms"} for i in range(8)]
    if n % RECORDS_PER_EVENT_SECOND == 0:
        for service in SERVICES:
            is_down = cart_is_down and service == "cart"
            for name, number in (("process.up", 0.0 if is_down else 1.0), ("process.restarts", 0.0),
                                 ("http.server.requests_per_second", 30.0 + second % 3)):
                rows.append({"type": "metric", "ts": ts, "service": service, "instance": f"{service}-1",
                             "name": name, "value": number})
    return _lines(rows), 8, len(rows) - 8


def _lines(rows: list[dict[str, Any]]) -> bytes:
    return "\n".join(json.dumps(row) for row in rows).encode()


def expect(count: int) -> dict[str, Any]:
    counted = [n for n in range(count) if not is_bug(n)]
    return {"records": count, "logs": sum(value(n)[1] for n in counted), "points": sum(value(n)[2] for n in counted),
            "undecodable": [n for n in range(count) if is_undecodable(n)],
            "bugs": [n for n in range(count) if is_bug(n)]}


def produce(path: Path, *, tear: bool) -> None:
    from ingest.transports.config import TransportConfig
    from ingest.transports.registry import open_producer
    from opsmend.lab.processes import write_atomic

    config = json.loads(path.read_text())
    producer = open_producer(TransportConfig(**config["transport"]))
    until, acknowledged = Path(config["until"]), Path(config["acknowledged"])
    n = _resume(config)
    batches = 0
    while not until.exists() or n < int(until.read_text()):
        begun = time.monotonic()
        if tear and batches == 3:
            _die_in_the_next_write(Path(config["transport"]["data_dir"]) / "logs" / "0")
        for _ in range(20):
            producer.send("logs", value(n)[0], key=b"one partition", headers=[("n", b"%d" % n)])
            n += 1
        producer.flush()
        write_atomic(acknowledged, str(n).encode())  # it is read at any moment
        batches += 1
        time.sleep(max(0.0, 20 / config["records_per_second"] - (time.monotonic() - begun)))
    producer.close()


def _resume(config: dict[str, Any]) -> int:
    """The number of the next record: in the embedded log it is the next offset."""
    if config["transport"]["kind"] != "embedded":
        return 0
    from ingest.transports.embedded_log import PartitionWriter

    writer = PartitionWriter(Path(config["transport"]["data_dir"]) / "logs" / "0", 64 << 20)
    n = writer.end_offset()
    writer.close()
    return n


def _die_in_the_next_write(partition: Path) -> None:
    """The file may grow by some hundred bytes: the kernel writes that much, and kills whoever goes on."""
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    size = max(partition.glob("*.log")).stat().st_size
    limit = size + random.randint(1, 3000)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))


if __name__ == "__main__":
    if sys.argv[1] == "expect":
        print(json.dumps(expect(int(sys.argv[2]))))
    else:
        produce(Path(sys.argv[2]), tear=sys.argv[1] == "tear")
