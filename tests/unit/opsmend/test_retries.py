"""A request that is sent again counts once: after a restart, in any split into polls, and when it is replayed."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.transports.config import TransportConfig
from ingest.transports.registry import open_consumer, open_producer
from ingest.types import Record
from opsmend.config_sections import IngestSection
from opsmend.intake import Intake
from opsmend.lab.kafka import KafkaBroker, why_not
from opsmend.pipeline import Pipeline, PipelineConfig
from opsmend.retries import HEADER, RetryConfig, RetryWindow, SeenRequest, digest_of
from opsmend.runners.local import LocalRunner, LocalRunnerConfig
from opsmend.store.engine import open_engine
from opsmend.store.queries import Queries
from opsmend.store.records import Records

JSON = {"content-type": "application/json"}


def record(request: int | None, at_ms: int, offset: int = 0) -> Record:
    headers = () if request is None else ((HEADER, request.to_bytes(16, "big")),)
    return Record("logs", 0, offset, at_ms, b"x", None, headers)


def test_what_makes_two_requests_the_same() -> None:
    same = digest_of("logs", b"{}", JSON)
    assert same == digest_of("logs", b"{}", {"content-type": "other", "traceparent": "another"})
    others = [digest_of("metrics", b"{}", JSON), digest_of("logs", b"{} ", JSON),
              *(digest_of("logs", b"{}", {name: "a"}) for name in
                ("idempotency-key", "webhook-id", "x-tenant", "x-scope-orgid")),
              digest_of("logs", b"{}", {"idempotency-key": "b"})]
    assert len({same, *others}) == len(others) + 1


def test_repeats_are_dropped_and_the_rest_stays_in_order() -> None:
    window = RetryWindow()
    records = [record(1, 0), record(None, 1), record(1, 2), record(2, 3), record(None, 4), record(2, 5), record(3, 6)]
    fresh, first = window.sift(records)
    assert [r.timestamp_ms for r in fresh] == [0, 1, 3, 4, 6]
    assert [int.from_bytes(r.digest, "big") for r in first] == [1, 2, 3]
    none = [record(None, 7), record(None, 8)]
    assert window.sift(none) == (none, [])


def test_after_the_window_a_repeat_is_new_and_nothing_is_remembered_for_ever() -> None:
    window = RetryWindow(RetryConfig(window_seconds=10, max_requests=3))
    assert len(window.sift([record(1, 1_000), record(1, 11_000), record(1, 11_001)])[0]) == 2
    assert len(window.sift([record(n, 11_002) for n in range(2, 6)])[1]) == 4
    assert (len(window), window.forgotten_early) == (3, 2)


@given(st.lists(st.tuples(st.none() | st.integers(0, 5), st.integers(0, 3_000)), max_size=40), st.data())
def test_neither_the_polls_nor_a_restart_matter(sent: list[tuple[int | None, int]], data: st.DataObject) -> None:
    records, now = [], 0
    for offset, (request, later) in enumerate(sent):
        now += later
        records.append(record(request, now, offset))
    config = RetryConfig(window_seconds=10, max_requests=4)
    whole = [r.offset for n in range(len(records)) for r in _sift_one(records, n, config)]
    window, kept, stored = RetryWindow(config), list[int](), list[SeenRequest]()
    at = 0
    while at < len(records):
        end = data.draw(st.integers(at + 1, len(records)))
        if data.draw(st.booleans()):
            window = RetryWindow(config)
            window.restore(stored[-config.max_requests:])
        # One by one: a bound on the count is applied after each poll, and here it is smaller than a poll.
        for one in records[at:end]:
            fresh, first = window.sift([one])
            kept += [r.offset for r in fresh]
            stored += first
        at = end
    assert kept == whole


def _sift_one(records: Sequence[Record], upto: int, config: RetryConfig) -> list[Record]:
    window = RetryWindow(config)
    for before in records[:upto]:
        window.sift([before])
    return list(window.sift([records[upto]])[0])


@pytest.mark.parametrize("kill", [False, True], ids=["same process", "after a restart"])
def test_a_retried_request_is_counted_once_by_the_service(tmp_path: Path, kill: bool) -> None:
    config = TransportConfig(topics=("logs", "alerts"), data_dir=str(tmp_path / "transport"), partitions=4)
    send_again(config, tmp_path, restart=kill)


@pytest.mark.kafka
@pytest.mark.parametrize("kind", ["kafka", "kafka-python"])
def test_a_retried_request_is_counted_once_on_a_real_kafka(tmp_path: Path, kind: Literal["kafka", "kafka-python"]) -> None:
    if reason := why_not():
        pytest.skip(f"NOT TESTED against Kafka: {reason}")
    with KafkaBroker() as broker:
        send_again(TransportConfig(kind=kind, topics=("logs",), bootstrap_servers=broker.bootstrap_servers), tmp_path,
                   restart=True)


def send_again(config: TransportConfig, directory: Path, *, restart: bool) -> None:
    producer, engine = open_producer(config), open_engine(f"sqlite:///{directory / 'opsmend.db'}")
    intake = Intake(producer, IngestSection().topics, lambda: 0, max_waiting=1000)

    def start() -> LocalRunner:
        runner = LocalRunner(LocalRunnerConfig(max_poll_ms=1), open_consumer(config),
                             lambda: Pipeline(PipelineConfig()), Records(engine, retention_seconds=3600), Queries(engine))
        runner.recover()
        return runner

    def line(n: int) -> bytes:
        return b'{"message":"line %d","service":"cart"}' % n

    for n in range(20):
        intake.put("logs", line(n), JSON)
    intake.put("logs", line(0), JSON)
    def drain(records: int) -> None:
        deadline = time.monotonic() + 60
        while Queries(engine).totals().get("records", 0) < records:
            runner.turn()
            assert time.monotonic() < deadline

    runner = start()
    drain(21)
    if restart:
        runner._consumer.close()
        runner = start()
    for n in range(30):
        intake.put("logs", line(n), JSON)
    intake.put("logs", line(0), {**JSON, "idempotency-key": "on purpose"})
    drain(52)
    totals = Queries(engine).totals()
    assert (totals["records"], totals["duplicates"], totals["logs"]) == (52, 21, 31)
    runner._consumer.close()
    producer.close()
    engine.dispose()
