"""LocalRunner: one process; results, state and watermark in one transaction per batch."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

import msgspec
import structlog

from ingest.transport import MAX_POLL_BYTES, Consumer
from ingest.types import DeadLetter, Record, Watermark
from opsmend.corrections import as_record
from opsmend.journal import JournalWriter
from opsmend.pipeline import Pipeline
from opsmend.runners.poison import PoisonBudget, PoisonConfig, dead_letter
from opsmend.runners.restoring import CORRECTED, restore_budget, restored
from opsmend.store.corrections import CorrectionLog
from opsmend.store.engine import AWAY, store_error
from opsmend.store.queries import Queries
from opsmend.store.records import Fenced, Records, StepResult

log = structlog.get_logger()
_T = TypeVar("_T")


@dataclass(frozen=True)
class LocalRunnerConfig:
    """How the runner polls."""

    max_rows: int = 20_000
    """Records per poll."""
    max_poll_ms: int = 250
    """Longest wait for the first record of a poll."""
    max_bytes: int = MAX_POLL_BYTES
    """Bytes per poll."""
    history_seconds: float = 900.0
    store_retry_seconds: float = 1.0
    """Pause after the store refused a commit; the same batch is then tried again."""
    poison: PoisonConfig = PoisonConfig()
    look_seconds: float = 1.0
    """How often corrections of people are looked for where nobody told of one."""


class LocalRunner:
    """Poll, step, commit; over and over until `stop`.

    A batch whose commit fails because the store is away is tried again unchanged: the pipeline has moved on in
    memory, so it is the *result* that is kept and committed again, not the step that is repeated.

    A batch that a stage or the store can't digest is halved until the record that is to blame stands alone. That
    one is *set aside*: it becomes a dead letter together with the next good result, or when there is nothing
    more to read. Too many of them raise `PoisonFlood`, and those that are set aside by then are read again at
    the next start.

    Members of one group may share a store. Where a partition is read from is what the store says at the moment it
    comes to us; a batch whose partitions went on elsewhere meanwhile (we were paused, or cut off) is refused by the
    store (`Fenced`), dropped, and reading goes on from what is stored.
    """

    def __init__(self, config: LocalRunnerConfig, consumer: Consumer, make_pipeline: Callable[[], Pipeline],
                 records: Records, queries: Queries, *, journal: JournalWriter | None = None,
                 on_step: Callable[[StepResult], None] | None = None,
                 corrections: CorrectionLog | None = None) -> None:
        self._config = config
        self._consumer = consumer
        self._make_pipeline = make_pipeline
        self.pipeline = make_pipeline()
        self._records = records
        self._queries = queries
        self._journal = journal
        self._on_step = on_step
        self._corrections = corrections
        self._stop = threading.Event()
        self._asked: deque[Callable[[Pipeline], None]] = deque()
        self._uncommitted: list[Callable[[Pipeline], None]] = []
        self._budget = PoisonBudget(config.poison)
        self._aside: list[DeadLetter] = []
        self._corrected = 0  # number of the last correction that the state knows of
        self._looked = 0.0  # when we last asked for more of them
        self._came: dict[tuple[str, int], int] = {}  # partitions that came to us, and where they begin

    def ask(self, change: Callable[[Pipeline], None]) -> None:
        """Have the pipeline's state changed between two batches, by the thread that owns it."""
        self._asked.append(change)

    def recover(self) -> None:
        """Restore state as of the stored watermark, and go on reading from there."""
        self._restore()
        restore_budget(self._budget, self._records)
        self._consumer.start(self._records.forget(), self._stored)

    def _stored(self, places: Collection[tuple[str, int]]) -> dict[tuple[str, int], int]:
        """Asked from within a poll."""
        found = self._ask_store(lambda: self._records.stored(places))
        self._came.update(found)
        return found

    def _ask_store(self, read: Callable[[], _T]) -> _T:
        """Waits for a store that is away: without it nothing can be read. Raises what it said if we are stopped."""
        while True:
            try:
                return read()
            except AWAY as error:
                if self._stop.is_set():
                    raise
                log.warning("store.read_failed", error=str(store_error(error)), retry_seconds=self._config.store_retry_seconds)
                time.sleep(self._config.store_retry_seconds)

    def _restore(self) -> None:
        """The stored state again, and what people asked for since it was stored."""
        self.pipeline, self._corrected = restored(self._make_pipeline, self._records, self._queries,
                                                  self._config.history_seconds)
        self._looked = 0.0
        self._remember_requests()
        for change in self._uncommitted:
            change(self.pipeline)

    def _remember_requests(self) -> None:
        window = self.pipeline.retries
        window.restore(self._records.requests(window.max_requests))

    def run(self) -> None:
        """Blocks until `stop`. The consumer is closed on the way out."""
        try:
            while not self._stop.is_set():
                self.turn()
        finally:
            self._consumer.close()

    def turn(self) -> int:
        """One poll; returns how many records it brought. Raises PoisonFlood."""
        while self._asked:
            self._uncommitted.append(self._asked.popleft())
            self._uncommitted[-1](self.pipeline)
        self._correct()
        records = self._consumer.poll(self._config.max_rows, self._config.max_poll_ms, self._config.max_bytes)
        if self._came:  # whoever read these partitions before us took requests that may be sent again
            self._records.adopt(self._came)
            self._ask_store(self._remember_requests)
            self._came.clear()
        if not records:
            self._commit_aside()
            return 0
        if self._journal is not None:
            self._journal.write(records)
        self._step_and_commit(records)
        return len(records)

    @property
    def corrected(self) -> int:
        """Number of the last correction that was applied here."""
        return self._corrected

    def look(self) -> None:
        """A correction was stored: apply it before the next batch. From any thread."""
        self._looked = 0.0

    def _correct(self) -> None:
        """Apply what people corrected since, each in a transaction with the state that knows of it. Other processes
        that share the store may have taken it, so we look once a second without being told."""
        if self._corrections is None or time.monotonic() - self._looked < self._config.look_seconds:
            return
        self._looked = time.monotonic()
        for seq, correction in self._ask_store(partial(self._corrections.after, self._corrected)):
            if self._journal is not None:
                self._journal.write([as_record(seq, correction)])
            before, self._corrected = self._corrected, seq
            is_applied = True
            try:
                result = self._with_aside(self.pipeline.correct(correction))
            except Exception as error:
                # A bug that this one triggers: it becomes a dead letter, as a record would, and all else goes on.
                log.error("runner.correction_failed", correction=correction.id, exc_info=True)
                self._ask_store(self._restore)
                is_applied, self._corrected = False, seq
                letter = dead_letter(as_record(seq, correction), "correction_failed", error)
                result = self._with_aside(StepResult(watermark=Watermark({}), states={}, dead_letters=(letter,)))
            try:
                if not self._commit(result):
                    self._corrected = before
                    return
            except Fenced as error:
                self._go_on_from_store(error)
                return
            if is_applied:
                self._uncommitted.clear()
            self._committed(result)

    def _step_and_commit(self, records: Sequence[Record]) -> bool:
        """False when the service is being stopped while the store is away: then nothing after it may be stored."""
        try:
            result = self._with_aside(self.pipeline.step(records))
            if not self._commit(result):
                return False
        except Fenced as error:
            self._go_on_from_store(error)
            return False
        except Exception as error:
            # A stage has a bug that some record triggers, or the store can't hold what came out. Go back to the
            # stored state and halve until the record stands alone; the service and all other records go on.
            log.error("runner.step_failed", records=len(records), error=repr(error), exc_info=len(records) == 1)
            self._ask_store(self._restore)
            if len(records) == 1:
                self._aside.append(self._budget.spend(records[0], error))
                return True
            half = len(records) // 2
            return self._step_and_commit(records[:half]) and self._step_and_commit(records[half:])
        self._uncommitted.clear()
        self._budget.good(len(records))
        self._committed(result)
        return True

    def _with_aside(self, result: StepResult) -> StepResult:
        """`result` with the records set aside before it, and the state of the budget."""
        watermark, totals = result.watermark, Counter(result.totals)
        for letter in self._aside:
            watermark = watermark.merge(Watermark({(letter.topic, letter.partition): letter.offset + 1}))
            totals.update(records=1, dead=1, bytes=len(letter.value))
        ours = {**self._budget.snapshot(), CORRECTED: msgspec.msgpack.encode(self._corrected)}
        return replace(
            result, watermark=watermark, totals=totals, states={**result.states, **ours},
            dead_letters=(*self._aside, *result.dead_letters))

    def _commit_aside(self) -> None:
        """Nothing more to read: what was set aside is stored without waiting for a good result."""
        if self._aside:
            result = self._with_aside(StepResult(watermark=Watermark({}), states={}))
            try:
                if self._commit(result):
                    self._committed(result)
            except Fenced as error:
                self._go_on_from_store(error)

    def _go_on_from_store(self, error: Fenced) -> None:
        """What was read since the last commit is dropped; it is somebody else's, or stored already."""
        log.warning("runner.fenced", error=str(error))
        self._aside.clear()
        self._ask_store(self._restore)
        self._ask_store(partial(restore_budget, self._budget, self._records))
        self._came.clear()
        self._consumer.rewind(self._ask_store(self._records.forget))

    def _committed(self, result: StepResult) -> None:
        self._aside.clear()
        if result.watermark.next_offsets:
            self._consumer.commit(result.watermark)
        if self._on_step is not None:
            self._on_step(result)

    def _commit(self, result: StepResult) -> bool:
        """Store it, waiting for a store that is away; False if we are stopped meanwhile. Raises Fenced."""
        is_waiting = False
        while True:
            try:
                self._records.commit(result)
                if is_waiting:
                    self._consumer.resume()
                return True
            except AWAY as error:
                # Reading stops meanwhile: memory stays bounded, the transport keeps the rest.
                log.warning("store.commit_failed", error=str(store_error(error)),
                            retry_seconds=self._config.store_retry_seconds)
                if self._stop.is_set():
                    return False
                if not is_waiting:
                    self._consumer.pause()
                    is_waiting = True
                self._wait_for_store()
            except Fenced:
                if is_waiting:
                    self._consumer.resume()
                raise

    def _wait_for_store(self) -> None:
        """The group must hear of us while we read nothing, or it gives our partitions to others."""
        until = time.monotonic() + self._config.store_retry_seconds
        self._consumer.poll(1, int(self._config.store_retry_seconds * 1000))
        time.sleep(max(0.0, until - time.monotonic()))

    def stop(self) -> None:
        self._stop.set()
