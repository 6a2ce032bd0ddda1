"""`opsmend run`, over and over, each life a process of its own that can be killed.

Imports once and forks for each life, so that a kill costs no four seconds of imports. On stdin one configuration file a
line; on stdout the process id of each life. What it adds to opsmend: a bug (`telemetry.BUG` raises), and with every
commit, in its transaction, the offsets of the records that were counted.
"""

from __future__ import annotations

import faulthandler
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import msgspec
import sqlalchemy as sa
from telemetry import BUG, is_bug, value

from ingest.types import Record
from opsmend import cli, pipeline
from opsmend.store import records as store
from opsmend.store.records import StepResult

AUDIT = "CREATE TABLE IF NOT EXISTS audit (life INTEGER, topic TEXT, part INTEGER, offsets BYTEA)"


@dataclass(frozen=True)
class Audited(StepResult):
    """A step and the offsets of the records in it."""

    offsets: tuple[tuple[str, int, tuple[int, ...]], ...] = ()


def install() -> None:
    whole_step, whole_commit, whole_advance = pipeline.Pipeline.step, store.Records._commit, store.Records._advance

    def step(self: pipeline.Pipeline, records: Sequence[Record]) -> StepResult:
        if any(BUG.encode() in r.value for r in records):
            raise KeyError("a bug of ours")
        result = whole_step(self, records)
        places = sorted({(r.topic, r.partition) for r in records})
        offsets = tuple((topic, part, tuple(r.offset for r in records if (r.topic, r.partition) == (topic, part)))
                        for topic, part in places)
        values: dict[str, Any] = {f.name: getattr(result, f.name) for f in fields(StepResult)}
        return Audited(**values, offsets=offsets)

    def commit(self: store.Records, result: StepResult) -> None:
        rows = [*getattr(result, "offsets", ())]
        rows += [(d.topic, d.partition, (d.offset,)) for d in result.dead_letters if d.reason == "step_failed"]
        self.audited = rows  # type: ignore[attr-defined]
        whole_commit(self, result)

    def advance(self: store.Records, connection: sa.Connection, place: tuple[str, int], offset: int) -> None:
        whole_advance(self, connection, place, offset)
        for topic, part, offsets in self.audited:  # type: ignore[attr-defined]
            if (topic, part) == place:
                connection.execute(
                    sa.text("INSERT INTO audit (life, topic, part, offsets) VALUES (:life, :topic, :part, :offsets)"),
                    {"life": os.getpid(), "topic": topic, "part": part, "offsets": msgspec.msgpack.encode(offsets)})

    pipeline.Pipeline.step = step  # type: ignore[method-assign]
    store.Records._commit = commit  # type: ignore[method-assign]
    store.Records._advance = advance  # type: ignore[method-assign]


def live(config: str) -> None:
    log = os.open(Path(config).with_suffix(".log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    faulthandler.register(signal.SIGUSR1, all_threads=True)  # where it stands, to its log
    sys.argv = ["opsmend", "run", "-c", config]
    cli.main()


def warm_up() -> None:
    """A first incident imports for seconds: what a life would spend on it is not what is measured."""
    from opsmend.pipeline import Pipeline, PipelineConfig

    whole = Pipeline(PipelineConfig())
    for first in range(0, 1200, 100):
        whole.step([Record("logs", 0, n, 0, value(n)[0]) for n in range(first, first + 100) if not is_bug(n)])


def main() -> None:
    import uvicorn  # noqa: F401

    import opsmend.api.app
    import opsmend.service  # noqa: F401  what takes long to import

    warm_up()
    install()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the killed
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            sys.stdin.close()
            live(line.strip())
            os._exit(0)
        print(pid, flush=True)


if __name__ == "__main__":
    main()
