"""The executor seam: durable or in memory, the same contract."""

from __future__ import annotations

from typing import Protocol

import msgspec

from remediate.runbook import Runbook
from remediate.types import Plan


class RunInput(msgspec.Struct, frozen=True):
    """Everything a run needs, as of its start: a later change of the runbook file does not change it."""

    run_id: str
    plan: Plan
    runbook: Runbook
    approved_hash: str = ""


class Executor(Protocol):
    """Runs runbooks. `start` returns at once; the run is in the ledger from then on."""

    def start(self, given: RunInput) -> None:
        """Begin, or do nothing if a run of this id was begun before."""

    def wait(self, run_id: str, timeout_seconds: float) -> bool:
        """True when the run has ended."""

    def cancel(self, run_id: str, *, by: str = "") -> None:
        """Stop before the next step; holds over a restart. Nothing if the run has ended."""

    def recover(self) -> int:
        """Go on with the runs that a dead process left; how many."""

    def reconcile(self) -> int:
        """Close the runs that broke off by an error nobody foresaw, as cannot_tell: a plan that says "running" for
        ever would keep everybody from acting. How many."""

    def close(self) -> None: ...
