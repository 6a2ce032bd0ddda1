"""The distributed engine: `opsmend run --runner quix`.

    raw topics ─packer─► opsmend.envelopes (key = shard) ─detect─► opsmend.signals (key = tenant) ─conclude─► store

Packers read the raw topics and put hundreds of rows of a shard into one record; `detect` keeps the state of its
shards on Quix Streams; `conclude` is `LocalRunner` over `TenantPipeline`. Any number of workers pack and detect, one
process concludes. Each role may be a process of its own, or all of them threads of one.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final, Literal, get_args

import structlog

from detect.config import DetectionConfig
from ingest.decode import DecoderConfig
from opsmend.runners.quix_detect import detect
from opsmend.runners.quix_fence import Fence
from opsmend.runners.quix_packer import pack
from opsmend.runners.quix_settings import QuixConfig, make_topics
from opsmend.store.deaths import RoleDied

log = structlog.get_logger()
Role = Literal["all", "worker", "packer", "detect", "conclude"]
ROLES: Final[tuple[str, ...]] = get_args(Role)


class QuixWorkers:
    """The threads that pack and detect. A thread that dies ends the process through `on_failure`: its shards then go
    to others at once, which is better than half a worker."""

    def __init__(self, config: QuixConfig, decoder: DecoderConfig, detection: DetectionConfig, role: Role, *,
                 on_failure: Callable[[RoleDied], None]) -> None:
        self._stop = threading.Event()
        self._on_failure = on_failure
        self.packed = 0
        self.judged = 0
        runs: dict[str, Callable[[], None]] = {
            "packer": lambda: pack(config, decoder, self._stop, on_packed=self._count_packed),
            "detect": lambda: detect(config, detection, self._stop, on_envelope=self._count_judged)}
        groups = {"packer": config.transport.group_id, "detect": config.detect_group}
        wanted = {"all": list(runs), "worker": list(runs), "conclude": []}.get(role, [role])
        self._config = config
        self._threads = [threading.Thread(target=self._run, args=(name, runs[name]), name=name, daemon=True)
                         for name in wanted]
        if wanted:
            watch = Fence(config, [groups[name] for name in wanted])
            self._threads.append(threading.Thread(target=self._run, args=("fence", lambda: watch.run(self._stop)),
                                                  name="fence", daemon=True))

    def start(self) -> None:
        """Raises TransportError if the broker can't be reached, OpsmendError if its topics do not fit."""
        make_topics(self._config)
        self.start_threads()

    def start_threads(self) -> None:
        """The topics are there."""
        for thread in self._threads:
            thread.start()

    def _run(self, name: str, run: Callable[[], None]) -> None:
        try:
            run()
        except BaseException as error:
            died = RoleDied(name, error)
            log.critical("quix.role_died", role=name, reason=died.reason, error=repr(error), exc_info=True)
            self._on_failure(died)

    def _count_packed(self, records: int) -> None:
        self.packed += records

    def _count_judged(self, lines: int) -> None:
        self.judged += lines

    def stop(self, timeout_seconds: float = 15.0) -> None:
        """Commit what is under way, and give the shards back."""
        self._stop.set()
        for thread in self._threads:
            if thread.is_alive():
                thread.join(timeout_seconds)
