"""`opsmend run --runner quix --role worker`: a process that packs or detects, and serves nobody."""

from __future__ import annotations

import signal
import threading
from pathlib import Path

import sqlalchemy as sa
import structlog

from opsmend.compose import pipeline_config, quix_config
from opsmend.config import Settings
from opsmend.store.deaths import Deaths, RoleDied
from opsmend.store.engine import StoreError, open_engine

log = structlog.get_logger()


def run_worker(settings: Settings) -> None:
    """Blocks until SIGTERM or Ctrl-C. Raises OpsmendError if it can't start, and RoleDied when a role died: it is noted in
    the store, where that is there, and said in the last line of the log and through the exit code."""
    from opsmend.runners.quix import QuixWorkers

    stop = threading.Event()
    failed: list[RoleDied] = []

    def fail(error: RoleDied) -> None:
        failed.append(error)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    config = pipeline_config(settings)
    workers = QuixWorkers(quix_config(settings), config.decoder, config.detection, settings.scale.role,
                          on_failure=fail)
    workers.start()
    log.info("worker.started", role=settings.scale.role, shards=settings.scale.shards)
    stop.wait()
    if failed:
        _note(failed[0], settings.store_url)
    workers.stop()
    log.info("worker.stopped", packed=workers.packed, judged=workers.judged)
    if failed:
        log.critical("worker.died", role=failed[0].role, reason=failed[0].reason, error=str(failed[0]))
        raise failed[0]


def _note(died: RoleDied, store_url: str) -> None:
    """A worker needs no store: one that is a file of its own machine, and is not there, is not made for this."""
    database = sa.make_url(store_url).database
    if store_url.startswith("sqlite") and not (database and Path(database).expanduser().is_file()):
        return
    try:
        engine = open_engine(store_url)
    except StoreError as error:
        log.error("role.death_not_noted", role=died.role, reason=died.reason, error=str(error))
        return
    Deaths(engine).note(died)
    engine.dispose()
