"""LocalRunner: one process; results, state and watermark in one SQLite transaction per batch."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import sqlalchemy as sa
import structlog

from ingest.transport import Consumer
from ingest.types import DeadLetter, Record, Watermark
from opsmend.journal import JournalWriter
from opsmend.pipeline import Pipeline
from opsmend.store.queries import Queries
from opsmend.store.records import Records, StepResult

log = structlog.get_logger()


@dataclass(frozen=True)
class LocalRunnerConfig:
    """How the runner polls."""

    max_rows: int = 20_000
    """Records per poll."""
    max_poll_ms: int = 250
    """Longest wait for the first record of a poll."""
    history_seconds: float = 900.0
    store_retry_seconds: float = 1.0
    """Pause after the store refused a commit; the same batch is then tried again."""


class LocalRunner:
    """Poll, step, commit; over and over until `stop`.

    A batch whose commit fails is tried again unchanged: the pipeline has moved on in memory, so it is
    the *result* that is kept and committed again, not the step that is repeated.
    """

    def __init__(self, config: LocalRunnerConfig, consumer: Consumer, make_pipeline: Callable[[], Pipeline],
                 records: Records, queries: Queries, *, journal: JournalWriter | None = None,
                 on_step: Callable[[StepResult], None] | None = None) -> None:
        self._config = config
        self._consumer = consumer
        self._make_pipeline = make_pipeline
        self.pipeline = make_pipeline()
        self._records = records
        self._queries = queries
        self._journal = journal
        self._on_step = on_step
        self._stop = threading.Event()
        self._asked: deque[Callable[[Pipeline], None]] = deque()

    def ask(self, change: Callable[[Pipeline], None]) -> None:
        """Have the pipeline's state changed between two batches, by the thread that owns it."""
        self._asked.append(change)

    def recover(self) -> None:
        """Restore state as of the stored watermark, and go on reading from there."""
        self._restore()
        self._consumer.start(self._records.watermark())

    def _restore(self) -> None:
        self.pipeline = self._make_pipeline()
        incidents = self._queries.incidents(state="open", limit=1000)
        newest = self._queries.newest_observation_ns()
        start = newest - int(self._config.history_seconds * 1e9)
        self.pipeline.restore(
            self._records.states(), incidents=incidents, observations=self._queries.observations(start, newest),
            changes=self._queries.changes(start, newest + 3600 * 10**9))

    def run(self) -> None:
        """Blocks until `stop`. The consumer is closed on the way out."""
        try:
            while not self._stop.is_set():
                self.turn()
        finally:
            self._consumer.close()

    def turn(self) -> int:
        """One poll; returns how many records it brought."""
        while self._asked:
            self._asked.popleft()(self.pipeline)
        records = self._consumer.poll(self._config.max_rows, self._config.max_poll_ms)
        if not records:
            return 0
        if self._journal is not None:
            self._journal.write(records)
        self._step_and_commit(records)
        return len(records)

    def _step_and_commit(self, records: Sequence[Record]) -> None:
        try:
            result = self.pipeline.step(records)
        except Exception as error:
            # A stage has a bug that some record triggers. Go back to the stored state and halve until the
            # record stands alone; that one becomes a dead letter, the service and all other records go on.
            log.error("pipeline.step_failed", records=len(records), error=repr(error), exc_info=len(records) == 1)
            self._restore()
            if len(records) > 1:
                half = len(records) // 2
                self._step_and_commit(records[:half])
                self._step_and_commit(records[half:])
                return
            result = _dead(records[0], error)
        if self._commit(result):
            self._consumer.commit(result.watermark)
            if self._on_step is not None:
                self._on_step(result)

    def _commit(self, result: StepResult) -> bool:
        while True:
            try:
                self._records.commit(result)
                return True
            except sa.exc.OperationalError as error:
                # Reading stops meanwhile: memory stays bounded, the transport keeps the rest.
                log.warning("store.commit_failed", error=str(error.orig),
                            retry_seconds=self._config.store_retry_seconds)
                if self._stop.is_set():
                    return False
                time.sleep(self._config.store_retry_seconds)

    def stop(self) -> None:
        self._stop.set()


def _dead(record: Record, error: Exception) -> StepResult:
    letter = DeadLetter(topic=record.topic, partition=record.partition, offset=record.offset,
                        timestamp_ms=record.timestamp_ms, reason="step_failed", detail=repr(error)[:500],
                        value=record.value)
    return StepResult(watermark=Watermark.of([record]), states={}, totals={"records": 1, "dead": 1},
                      dead_letters=(letter,))
