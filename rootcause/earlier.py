"""Rows in which something else was wrong are not usual: incidents that were over before this one began.

Without this, the fault before is a third of what is "usual" of the next one, and the next is less unusual for it.
What is still going on is not left out: it is in the rows before and in those after, and takes itself away.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from detect.types import LEVEL_KINDS, Incident, Observations

BASELINE_SECONDS: Final = 300.0
"""Of usual rows before the first sign; further back where incidents lie between."""
_MARGIN_NS: Final = 3 * 10**9
"""A first sign is seen a little after it began."""
_SETTLE_NS: Final = 10 * 10**9
"""After the last sign, where nobody has closed the incident yet."""
_FEWEST, _SHARE = 12, 0.2
"""Usual rows that must remain, and the share of those wanted; else the others count as well: better than none."""

Span = tuple[int, int]


@dataclass(frozen=True)
class UsualRows:
    """`seen` without the rows of earlier incidents, and how far back of the first sign its usual rows begin."""

    seen: Observations
    baseline_seconds: float


def spans_over_before(incident: Incident, others: Iterable[Incident]) -> list[Span]:
    """(first, last ns) of the others that were over when `incident` began. One of nothing but levels that may stay for good
    (memory, load) is none: after it that is how things are."""
    found = []
    for other in others:
        if other.id == incident.id or other.state == "merged" or all(s.kind in LEVEL_KINDS for s in other.signals):
            continue
        if other.state == "open" and any(s.is_open for s in other.signals):
            continue
        end_ns = max(s.end_ns for s in other.signals)
        last = other.closed_ns or end_ns + _SETTLE_NS
        if end_ns < incident.first_signal_ns:
            found.append((other.first_signal_ns - _MARGIN_NS, min(last, incident.first_signal_ns - _MARGIN_NS)))
    return found


def usual_rows(incident: Incident, seen: Observations, others: Iterable[Incident],
               wanted_seconds: float = BASELINE_SECONDS) -> UsualRows:
    """As many rows before the first sign as `wanted_seconds` have, none of them of an earlier incident, from as far back as
    is seen; all rows where too few would remain. Cost: linear in the rows."""
    spans = spans_over_before(incident, others)
    before = seen.ts_ns < incident.first_signal_ns
    wanted = int((before & (seen.ts_ns >= incident.first_signal_ns - int(wanted_seconds * 1e9))).sum())
    keep = kept(seen.ts_ns, before, spans, wanted)
    if keep.all() or not wanted:  # of older rows alone nobody made a window before either
        return UsualRows(seen, wanted_seconds)
    usual = seen.ts_ns[keep & before][-wanted:]
    forecast = None if seen.forecast is None else seen.forecast[keep]
    back = max(wanted_seconds, (incident.first_signal_ns - int(usual[0])) / 1e9)
    return UsualRows(Observations(seen.ts_ns[keep], seen.series, seen.values[keep], forecast), back)


def kept(ts_ns: NDArray[np.int64], before: NDArray[np.bool_], spans: Sequence[Span], wanted: int) -> NDArray[np.bool_]:
    """[t] all rows but those of `before` that lie in one of the spans; all where too few of the `wanted` would remain."""
    keep = np.ones(len(ts_ns), dtype=bool)
    for first, last in spans:
        keep &= ~(before & (ts_ns >= first) & (ts_ns <= last))
    enough = int((keep & before).sum()) >= max(_FEWEST, _SHARE * wanted)
    return keep if enough else np.ones(len(ts_ns), dtype=bool)
