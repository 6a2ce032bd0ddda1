"""What all kinds of made-up cases need: files of columns, and a load that wanders."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np


def drift(rng: np.random.Generator, n: int) -> np.ndarray:
    """[n] a load that wanders, about -2..2."""
    out = np.zeros(n)
    for t in range(1, n):
        out[t] = 0.95 * out[t - 1] + rng.normal(0, 0.3)
    return out


def write_table(file: Path, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """As CSV, with a head."""
    with file.open("w", newline="") as out:
        writer = csv.writer(out)
        writer.writerow(columns)
        writer.writerows(rows)
