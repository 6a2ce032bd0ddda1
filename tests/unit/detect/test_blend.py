"""`settle` works on blocks of series; here are the same rules for one series, written out, to hold it against."""

from __future__ import annotations

import numpy as np
import pytest

from detect.forecaster.blend import BLOCK, LAG, PENDING, TRACK, settle
from detect.forecaster.scaling import ORIGIN, RING_TICK, SCALARS, SINCE, TICK
from detect.forecaster.shape import HORIZONS, OUTPUTS

State = dict[str, np.ndarray]


def made(n: int, seed: int) -> State:
    """[n] series at different ticks: young and old, with and without a season, some forecasts due and some waiting."""
    rng = np.random.default_rng(seed)
    scalars = np.abs(rng.normal(1.0, 0.5, (n, SCALARS))) + 0.1
    scalars[:, 0] = rng.integers(1, 300, n)
    scalars[:, TICK] = rng.integers(200, 2000, n)
    scalars[:, RING_TICK] = scalars[:, TICK] - rng.integers(1, 40, n)
    scalars[:, SINCE] = rng.integers(0, 120, n)
    scalars[rng.random(n) < 0.3, 23:28] = np.nan
    track = np.abs(rng.normal(0.5, 0.3, (n, len(HORIZONS), TRACK))).astype(np.float32) + np.float32(0.05)
    track[:, :, 7] = rng.integers(0, 40, (n, len(HORIZONS)))
    track[rng.random(n) < 0.3, :, 4] = 0.0
    pending = rng.normal(size=(n, len(HORIZONS), PENDING)).astype(np.float32)
    pending[rng.random(n) < 0.3, :, 6:9] = np.nan
    due = scalars[:, TICK, None] + rng.integers(-1, 2, (n, len(HORIZONS)))
    due[rng.random(n) < 0.1] = -1.0
    return {"values": rng.normal(size=n) + scalars[:, ORIGIN], "raw": rng.normal(size=(n, OUTPUTS)).astype(np.float32),
            "scalars": scalars, "due": due, "pending": pending, "track": track,
            "ring": rng.normal(size=(n, LAG, 3)).astype(np.float32)}


def by_hand(state: State, i: int) -> tuple[np.ndarray, np.ndarray]:
    """Forecasts [horizons, 3] and what was said of now [3] of series i; its state is changed as `settle` does."""
    s, tick, ring = state["scalars"][i], state["scalars"][i, TICK], state["ring"][i]
    scale, origin, y = s[3], s[ORIGIN], state["values"][i] - s[ORIGIN]
    skipped = min(int(tick - s[RING_TICK]), 31) if s[0] > 1 else 31
    for k in range(1, skipped):
        ring[int(tick - k) % LAG] = np.nan
    s[RING_TICK] = tick
    lagged = ring[int(tick) % LAG].astype(float) + origin if skipped < 31 else np.full(3, np.nan)
    out = np.empty((len(HORIZONS), 3))
    for k, steps in enumerate(HORIZONS):
        due, p, t = state["due"][i, k], state["pending"][i, k], state["track"][i, k].astype(float)
        if due == tick:
            t = judged(p.astype(float), t, y, scale, k)
            state["track"][i, k] = t
        said = candidates(state["raw"][i, 3 * k: 3 * k + 3].astype(float), t, s, y, k)
        shares = [t[8 + c] if np.isfinite(said[c][1]) and (c > 0 or s[SINCE] >= 60) else 0.0 for c in range(3)]
        low, middle, high = sum(share * one for share, one in zip(shares, np.nan_to_num(said), strict=True)) / sum(shares)
        band = np.array([middle - (middle - low) * t[5], middle, middle + (high - middle) * t[6]])
        if due <= tick:
            p[:9], p[9], p[10] = np.concatenate(said), band[0], band[2]
            state["due"][i, k] = tick + steps
        if steps == LAG:
            ring[int(tick) % LAG] = band
        out[k] = band + origin
    return out, lagged


def judged(p: np.ndarray, before: np.ndarray, y: float, scale: float, k: int) -> np.ndarray:
    t = before.copy()
    rate = max((0.05, 0.1, 0.2, 0.2, 0.2)[k], 1 / (t[7] + 3))
    for c in range(3):
        said = p[3 * c: 3 * c + 3]
        middle = said[1]
        if np.isnan(middle):
            continue
        loss = sum(max(q * (y - x), (q - 1) * (y - x)) for q, x in zip((0.05, 0.5, 0.95), said, strict=True)) / 3
        t[c] += rate * (min(loss / scale, 10) - t[c])
        t[8 + c] = (t[c] + 1e-3) ** -8
        if c > 0:
            error, known = abs(y - middle), t[2 + c]
            if known > 0:
                t[2 + c] += rate * ((min(error, 4 * known) if before[7] > 5 else error) - known)
            else:
                t[2 + c] = error
    pace = 0.04 if k < 2 else 0.1
    t[5] = np.clip(t[5] * np.exp(pace * ((y < p[9]) - 0.05)), 0.3, 5)
    t[6] = np.clip(t[6] * np.exp(pace * ((y > p[10]) - 0.05)), 0.3, 5)
    t[7] += 1
    return t


def candidates(raw: np.ndarray, t: np.ndarray, s: np.ndarray, y: float, k: int) -> list[np.ndarray]:
    one, sides = np.ones(3), np.array([-1.0, 0.0, 1.0])
    level = s[5 if k < 2 else 6] - s[ORIGIN]
    young = 1.6 * (1 + 4 / s[0]) * (s[3] if s[0] > 1 else 0.1 * abs(s[4])) * (1 + 0.3 * k)
    half = 2.06 * t[3] if t[7] > (2 if k else 20) else max(2.06 * t[3], young)
    season = 2.06 * (t[4] if t[4] > 0 else s[16] + 0.1 * s[3])
    return [y + s[3] * np.sort(raw), level * one + half * sides, s[23 + k] * one + season * sides]


@pytest.mark.parametrize("n", [1, BLOCK - 1, BLOCK, 2 * BLOCK + 5])
def test_a_block_of_series_is_settled_as_each_alone(n: int) -> None:
    state = made(n, n)
    ours = {name: array.copy() for name, array in state.items()}
    at = np.flatnonzero(np.random.default_rng(n).random(n) < 0.8) if n > 1 else np.zeros(1, np.int64)
    out, lagged = np.full((n, len(HORIZONS), 3), -1.0), np.full((n, 3), -1.0)
    settle(at, ours["values"], np.ascontiguousarray(ours["raw"][at]), ours["scalars"], ours["due"], ours["pending"],
           ours["track"], ours["ring"], out, lagged)
    for i in at:
        said, then = by_hand(state, int(i))
        np.testing.assert_allclose(out[i], said, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(lagged[i], then, rtol=1e-6)
    silent = np.setdiff1d(np.arange(n), at)
    assert (out[silent] == -1).all() and (lagged[silent] == -1).all()
    for name in ("due", "pending", "track", "ring", "scalars"):
        np.testing.assert_allclose(ours[name], state[name], rtol=2e-4, atol=1e-5, err_msg=name)
