"""What the alerts of recorded faults say about detection: which modality alarms, and when. Without ordinary time there
are no false alarms to count, so that more alarms always look better here."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np

from opsmend.evaluate.alerts_data import MODALITIES, Fault, read_faults
from opsmend.evaluate.rca_cases import CaseError

WITHIN_SECONDS: Final = (60.0, 300.0)
VOTE_SECONDS: Final = 30.0
"""A vote counts for so long: a scrape interval."""
_NAMES: Final = {m: f"{m}s" for m in MODALITIES}


def first_alerts(data: Path) -> dict[str, dict[str, float]]:
    """Method -> share of the faults with an alarm within one and five minutes of the injection, and the median seconds
    to it. Early: any alert. Late: alerts of two modalities within 30 s. Nothing is learned: all distinct faults with an
    alert count. Raises CaseError where data can't be read or there is no fault."""
    faults = [f for f in read_faults(data) if f.alerts]
    if not faults:
        raise CaseError(f"{data}: no fault with alerts")
    return {"cases": {"n": float(len(faults))}} | {name: _summary(found) for name, found in seconds_to_alarm(faults).items()}


def seconds_to_alarm(faults: Sequence[Fault]) -> dict[str, list[float]]:
    """Method -> seconds from the injection to the first alarm of each fault with alerts, at least 0; inf for none."""
    out = {_NAMES[m]: [_first(f, m) for f in faults] for m in MODALITIES}
    out["early (any alert)"] = [max(0.0, f.alerts[0].at_s) for f in faults]
    out["late (votes)"] = [_second(f) for f in faults]
    return out


def _first(fault: Fault, modality: str) -> float:
    return min((max(0.0, a.at_s) for a in fault.alerts if a.modality == modality), default=np.inf)


def _second(fault: Fault) -> float:
    """When a second modality agrees with the alert of another that is no older than the tolerance."""
    last: dict[str, float] = {}
    for alert in fault.alerts:
        last[alert.modality] = alert.at_s
        if sum(alert.at_s - at <= VOTE_SECONDS for at in last.values()) >= 2:
            return max(0.0, alert.at_s)
    return np.inf


def _summary(found: list[float]) -> dict[str, float]:
    seconds = np.array(found)
    seen = seconds[np.isfinite(seconds)]
    delay = {"delay_s": round(float(np.median(seen)), 1)} if len(seen) else {}
    return {"recall": round(float(np.isfinite(seconds).mean()), 4),
            **{f"within_{within:.0f}_s": round(float((seconds <= within).mean()), 4) for within in WITHIN_SECONDS}, **delay}
