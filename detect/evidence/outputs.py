"""From joined evidence to the two answers: an onset, which may page, and a state, which ranks and colours charts."""

from __future__ import annotations

from typing import Any

from detect.evidence.shape import ONSET, ONSET_AGE, PEAK, PEAK_AGE
from ingest.compiled import compiled

REFRACTORY = 100
"""Points: within so many an onset has to be rarer than the last one..."""
RARER = 0.2
"""... by so much: 1.6 times as rare. A shift that grows would page at each of its steps."""
HELD, FALLS = 0.8, 300
"""A peak is held at 0.8 of its height, which falls to nothing over 300 points, in a straight line..."""
KEPT, EASES = 8, 600
"""... but after 8 points the state is below the threshold that pages, and falls from there over 600: what was an
anomaly a moment ago ranks below one that is there now, and above what never was one."""


@compiled("void(f8[::1], f8, f8[:, ::1], f8[::1], f8[::1])", error_model="numpy")
def answer(joined: Any, page: Any, scalars: Any, onset: Any, state: Any) -> None:
    """[s] joined evidence of one tick (0 where there was no value) to onset (0: none) and state, both in its unit."""
    for i in range(len(joined)):
        row, x = scalars[i], joined[i]
        row[ONSET_AGE] += 1.0
        row[PEAK_AGE] += 1.0
        onset[i] = 0.0
        if x > 0.0 and (row[ONSET_AGE] > REFRACTORY or x > row[ONSET] + RARER):
            onset[i] = row[ONSET] = x
            row[ONSET_AGE] = 0.0
        peak = held = HELD * row[PEAK] * max(0.0, 1.0 - row[PEAK_AGE] / FALLS)
        if row[PEAK_AGE] > KEPT:
            held = min(held, page * max(0.0, 1.0 - row[PEAK_AGE] / EASES))
        if x >= peak:
            row[PEAK] = x
            row[PEAK_AGE] = 0.0
        state[i] = max(x, held)
