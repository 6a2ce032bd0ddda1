"""What is usual for each series: an exponentially weighted mean and deviation that wait out the unusual."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


class Usual:
    """Mean and mean absolute deviation per series, [s]; memory 24 bytes a series.

    Robust to single spikes (steps are clipped at three deviations once warm), and frozen while a caller says
    that the series is anomalous. `count` is how many points a series has had.
    """

    def __init__(self, half_life: float = 60.0, *, give_up_after: int = 900) -> None:
        self._alpha = 1.0 - 0.5 ** (1.0 / half_life)
        self._give_up_after = give_up_after
        self.mean = np.zeros(0)
        self.deviation = np.zeros(0)
        self.count = np.zeros(0, dtype=np.int64)
        self._frozen = np.zeros(0, dtype=np.int64)

    def grow(self, size: int) -> None:
        """Room for `size` series."""
        more = size - len(self.mean)
        if more > 0:
            self.mean = np.concatenate([self.mean, np.zeros(more)])
            self.deviation = np.concatenate([self.deviation, np.zeros(more)])
            self.count = np.concatenate([self.count, np.zeros(more, np.int64)])
            self._frozen = np.concatenate([self._frozen, np.zeros(more, np.int64)])

    def learn(self, values: NDArray[np.float64], frozen: NDArray[np.bool_]) -> None:
        """Take in one bucket; NaN and frozen series stay as they are.

        A series frozen for longer than `give_up_after` buckets learns again: it is the new normal.
        """
        self.grow(len(values))
        self._frozen = np.where(frozen, self._frozen + 1, 0)
        use = np.isfinite(values) & (~frozen | (self._frozen > self._give_up_after))
        n = self.count
        # Plain averages first, so that a young series converges at once.
        alpha = np.maximum(self._alpha, 1.0 / (n + 1.0))
        step = np.where(use, values - self.mean, 0.0)
        limit = np.where(n >= 20, 3.0 * np.maximum(self.deviation, 1e-9 + 0.05 * np.abs(self.mean)), np.inf)
        step = np.clip(step, -limit, limit)
        self.mean += alpha * step * use
        self.deviation += alpha * (np.abs(step) - self.deviation) * use
        self.count = n + use

    def dump(self) -> list[list[float]]:
        return [column.astype(float).tolist() for column in (self.mean, self.deviation, self.count, self._frozen)]

    def load(self, state: list[list[float]]) -> None:
        self.mean, self.deviation = np.array(state[0], float), np.array(state[1], float)
        self.count, self._frozen = np.array(state[2], np.int64), np.array(state[3], np.int64)
