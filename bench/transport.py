"""What a poll costs: `python bench/transport.py [--records 2000000] [--json FILE]`, on a real Kafka.

A topic of JSON lines of 200 B, read once by a bare loop over confluent-kafka's `consume` that looks at each message's
value, and once through our consumer into `Record`s, ready to be decoded; three times in turn, the best of each counts.
CPU of the whole process, the client's own threads included, in us per record. `ours` less the bare loop is what the
transport adds.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
import uuid
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path[0] = str(Path(__file__).resolve().parent.parent)  # or bench/ingest.py would be taken for the package of its name

from confluent_kafka import Consumer

from ingest.transports.config import TransportConfig
from ingest.transports.registry import open_consumer, open_producer
from ingest.types import Watermark
from opsmend.lab.kafka import KafkaCluster

BYTES = 200
TURNS = 3


def cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def fill(config: TransportConfig, count: int) -> None:
    producer = open_producer(config)
    begun_ms = int(time.time() * 1000) - 60_000
    for n in range(count):
        head = b'{"service":"s%d","level":"info","message":"request %d took %d ms ' % (n % 20, n, n % 97)
        producer.send(config.topics[0], head + b"x" * (BYTES - len(head) - 2) + b'"}',
                      timestamp_ms=begun_ms + n * 60_000 // count)
    producer.flush(120)
    producer.close()


def bare(config: TransportConfig, count: int) -> tuple[float, float]:
    consumer = Consumer({"bootstrap.servers": config.bootstrap_servers, "group.id": uuid.uuid4().hex,
                         "auto.offset.reset": "earliest", "enable.auto.commit": False})
    consumer.subscribe(list(config.topics))
    seen = size = 0
    used, begun = cpu(), time.perf_counter()
    while seen < count:
        messages: list[Any] = consumer.consume(10_000, 1.0)
        for message in messages:
            size += len(message.value())
        seen += len(messages)
    took = (cpu() - used, time.perf_counter() - begun)
    consumer.close()
    assert size == count * BYTES
    return took


def ours(config: TransportConfig, count: int) -> tuple[float, float]:
    consumer = open_consumer(replace(config, group_id=uuid.uuid4().hex))
    seen = 0
    used, begun = cpu(), time.perf_counter()
    consumer.start(Watermark())
    while seen < count:
        seen += len(consumer.poll(20_000, 250))
    took = (cpu() - used, time.perf_counter() - begun)
    consumer.close()
    return took


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=2_000_000)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    count = args.records
    with KafkaCluster(partitions=4) as cluster:
        config = TransportConfig(kind="kafka", topics=("lines",), bootstrap_servers=cluster.bootstrap_servers)
        fill(config, count)
        turns = [(bare(config, count), ours(config, count)) for _ in range(TURNS)]
    peer = min(turn[0][0] for turn in turns) / count * 1e6
    mine = min(turn[1][0] for turn in turns) / count * 1e6
    found = {"name": "transport", "unit": "us CPU per record", "ours": round(mine, 3),
             "peers": {"bare confluent-kafka loop": round(peer, 3)}, "ratio": round(mine / peer, 2),
             "added_us": round(mine - peer, 3), "records": count, "bytes_per_record": BYTES,
             "records_per_second": round(count / min(turn[1][1] for turn in turns))}
    if args.json:
        args.json.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
