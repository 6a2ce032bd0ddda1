"""From joined evidence to the two answers: an onset, which may page, and a state, which ranks and colours charts."""

from __future__ import annotations

from typing import Any

from detect.evidence.shape import ONSET, ONSET_AGE, PEAK, PEAK_AGE
from ingest.compiled import compiled

REFRACTORY = 100
"""Points: an onset has to be higher than every other of the last 100."""
HOLD = 200
"""Points over which a held peak falls to nothing, in a straight line."""


@compiled("void(f8[::1], f8[:, ::1], f8[::1], f8[::1])", error_model="numpy")
def answer(joined: Any, scalars: Any, onset: Any, state: Any) -> None:
    """[s] joined evidence of one tick (0 where there was no value) to onset (0: none) and state, both in its unit."""
    for i in range(len(joined)):
        row, x = scalars[i], joined[i]
        row[ONSET_AGE] += 1.0
        row[PEAK_AGE] += 1.0
        onset[i] = 0.0
        if x > 0.0 and (row[ONSET_AGE] > REFRACTORY or x > row[ONSET]):
            onset[i] = row[ONSET] = x
            row[ONSET_AGE] = 0.0
        held = row[PEAK] * max(0.0, 1.0 - row[PEAK_AGE] / HOLD)
        if x >= held:
            row[PEAK] = held = x
            row[PEAK_AGE] = 0.0
        state[i] = held
