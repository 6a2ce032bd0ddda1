"""`opsmend run --runner quix --role worker`: a process that packs or detects, and serves nobody."""

from __future__ import annotations

import signal
import threading

import structlog
import typer

from opsmend.compose import pipeline_config, quix_config
from opsmend.config import Settings

log = structlog.get_logger()


def run_worker(settings: Settings) -> None:
    """Blocks until SIGTERM or Ctrl-C; exit code 1 when a role died. Raises OpsmendError if it can't start."""
    from opsmend.runners.quix import QuixWorkers

    stop = threading.Event()
    failed: list[BaseException] = []

    def fail(error: BaseException) -> None:
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
    workers.stop()
    log.info("worker.stopped", packed=workers.packed, judged=workers.judged)
    if failed:
        raise typer.Exit(1)
