"""`opsmend` that is killed between "it is durable" and "yes": OPSMEND_CHAOS_DIE_AFTER names the request to die after.

OPSMEND_CHAOS_FORGETS=1 counts what is sent again as new: with it the tests of retried requests fail.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping, Sequence

from ingest.types import Record
from opsmend import cli, intake, retries
from opsmend.api.port import AcceptKind

_put = intake.Intake.put
_left = int(os.environ.get("OPSMEND_CHAOS_DIE_AFTER", "0"))


def put(self: intake.Intake, kind: AcceptKind, body: bytes, headers: Mapping[str, str]) -> int:
    global _left
    taken = _put(self, kind, body, headers)
    if _left and taken:
        _left -= 1
        if not _left:
            os.kill(os.getpid(), signal.SIGKILL)
    return taken


def sift(self: retries.RetryWindow, records: Sequence[Record]) -> tuple[Sequence[Record], list[retries.SeenRequest]]:
    return records, []


intake.Intake.put = put  # type: ignore[method-assign]
if os.environ.get("OPSMEND_CHAOS_FORGETS"):
    retries.RetryWindow.sift = sift  # type: ignore[method-assign]
cli.main()
