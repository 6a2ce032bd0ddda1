"""One process per data directory."""

from __future__ import annotations

import fcntl
from pathlib import Path
from typing import IO

import tenacity

from ingest.errors import TransportError


def lock_data_dir(directory: Path, *, wait_seconds: float = 3.0) -> IO[str]:
    """The held lock file; closing it gives the directory free. Raises TransportError(busy) after `wait_seconds`.

    A process that was killed may hold its files a moment longer than its main thread lives, and supervisors start
    the next one at once: so the lock is asked for again for a while.
    """
    file = (directory / "lock").open("a")
    tries = tenacity.Retrying(retry=tenacity.retry_if_exception_type(BlockingIOError), reraise=True,
                              stop=tenacity.stop_after_delay(wait_seconds), wait=tenacity.wait_fixed(0.1))
    try:
        tries(fcntl.flock, file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.close()
        raise TransportError(f"another opsmend runs on {directory}; stop it, or set another [service] data_dir",
                             reason="busy", is_transient=False) from error
    return file
