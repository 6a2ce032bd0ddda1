"""From streams to rarity: how often an onset at least this high starts on series that nobody labelled.

rarity(x) = -log10(onsets per point at or above x), read from a frozen monotone table, straight lines in log x between
its knots; below the first knot it is that of any onset at all (a new maximum is news, however small). Streams of
different units become comparable, and a norm between the Euclidean and the maximum (power 2.5) joins them: one stream
that is sure is enough, and several that are nearly sure help each other, but not as if they were independent.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from detect.evidence.shape import STREAMS
from ingest.compiled import compiled

Floats = NDArray[np.float64]

TABLE: Final = Path(__file__).resolve().parent / "table.json"
_BEYOND: Final = 1.5
"""What lies beyond the last knot gains at most so much: the corpus says nothing about it."""
COMMON: Final = 0.5
"""Evidence counts from here: what begins at every third point is none."""
QUIET: Final = 100
"""Points in which a new series gains its voice: everything is new to it."""


@dataclass(frozen=True)
class Calibration:
    """`rarities` and `levels` [4, k], both rising along each row. The thresholds are in joined rarity."""

    rarities: Floats
    levels: Floats
    page: float
    """An onset this high pages: once per so many points on the corpus as the card says."""
    flag: float
    """A state this high is flagged: one point in so many of the corpus."""
    version: str

    @classmethod
    def load(cls, path: Path = TABLE) -> Calibration:
        """The shipped table, or that of `path`. Raises OSError, KeyError or ValueError where it is none."""
        card = json.loads(path.read_text())
        levels, rarities = (np.array([card[what][stream] for stream in STREAMS], float) for what in ("levels", "rarities"))
        if levels.shape != rarities.shape or levels.ndim != 2 or levels.shape[1] < 3:
            raise ValueError(f"{path}: as many levels as rarities, and at least three")
        if (np.diff(levels, axis=1) <= 0).any() or (np.diff(rarities, axis=1) < 0).any() or (levels <= 0).any():
            raise ValueError(f"{path}: levels must be positive and rise, and rarities with them")
        return cls(rarities, levels, float(card["page"]), float(card["flag"]), str(card["version"]))

    def joined(self, streams: Floats, counts: Floats) -> Floats:
        """[s] joined rarity of [s, 4] streams. `counts`: points that each series has had; young ones are told down."""
        out = np.empty(len(streams))
        join(streams, np.ascontiguousarray(counts), np.log(self.levels), self.rarities, out)
        return out


@compiled("void(f8[:, ::1], f8[::1], f8[:, ::1], f8[:, ::1], f8[::1])", error_model="numpy")
def join(streams: Any, counts: Any, levels: Any, rarities: Any, out: Any) -> None:
    """The 2.5-norm of the rarities beyond the common; `levels` are logarithms."""
    knots = rarities.shape[1]
    for i in range(len(out)):
        total = 0.0
        for k in range(streams.shape[1]):
            if streams[i, k] <= 0.0:
                continue
            x, level, rare = np.log(streams[i, k]), levels[k], rarities[k]
            if x <= level[0]:
                rarity = rare[0]
            elif x >= level[-1]:
                slope = (rare[-1] - rare[-3]) / (level[-1] - level[-3])
                rarity = rare[-1] + min(slope * (x - level[-1]), _BEYOND)
            else:
                j = 1
                while j < knots - 1 and x >= level[j]:
                    j += 1
                rarity = rare[j - 1] + (x - level[j - 1]) / (level[j] - level[j - 1]) * (rare[j] - rare[j - 1])
            more = max(rarity - COMMON, 0.0)
            total += more * more * np.sqrt(more)
        out[i] = total**0.4 * min(counts[i] / QUIET, 1.0)
