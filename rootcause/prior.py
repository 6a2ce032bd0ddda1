"""What is known without learning: physical signs outweigh statistics, and a caller's failure needs no cause of
its own while something it calls is physically broken."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from detect.types import Incident
from rootcause.features import CAUSES
from rootcause.types import CaseWindow

_PHYSICAL = {"process.down": 20.0, "hang": 20.0, "crash_loop": 20.0, "lock_wait": 15.0, "cache_full": 15.0}
_CHANGE = 4.0
_SYMPTOMS = frozenset({"error_ratio", "latency", "cpu", "memory", "saturation", "log_rate", "crash_loop",
                       "process.down"})


def physical_prior(case: CaseWindow, incident: Incident, p: NDArray[np.float64],
                   p_none: float) -> tuple[NDArray[np.float64], float]:
    """Multiply the odds of services with open physical signs, and of changed services that show symptoms."""
    weight = np.ones(len(p))
    at = {service: i for i, service in enumerate(case.services)}
    open_kinds: dict[str, set[str]] = {}
    for signal in incident.signals:
        # What is over is no sign of what is wrong now: an incident may outlive its first fault.
        if signal.is_open and not signal.peer and signal.service in at:
            open_kinds.setdefault(signal.service, set()).add(signal.kind)
    changed = {c.service for c in case.changes if c.kind in CAUSES and c.actor != "opsmend"
               and -10e9 <= incident.first_signal_ns - c.ts_ns <= 120e9}
    has_physical = False
    for service, kinds in open_kinds.items():
        strongest = max((_PHYSICAL.get(kind, 1.0) for kind in kinds), default=1.0)
        has_physical |= strongest > 1
        weight[at[service]] *= strongest
        if service in changed and kinds & _SYMPTOMS:
            weight[at[service]] *= _CHANGE
    raised = (p + 1e-3) * weight
    none = p_none / 5.0 if has_physical else p_none
    total = raised.sum() + none
    return raised / total, none / total
