"""Compiled: one step of the LSTM and its head for a batch of series.

    i, f, g, o = W x + U h + b;  c = s(f) c + s(i) tanh(g);  h = s(o) tanh(c);  q = V [x, h] + d

Series are the inner dimension, in blocks that stay in the first cache: a weight is loaded once and used for the whole
block, on vectors. The order of additions does not depend on the batch, so neither do the results: a series' forecast
is the same to the last bit however many others are stepped with it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ingest.compiled import compiled

BLOCK = 256
PITCH = BLOCK + 16
"""Rows are not a power of two apart: turning series into columns would hit the same few cache sets again and again."""
_HALF, _ONE = np.float32(0.5), np.float32(1.0)
_TOP, _BOTTOM = np.float32(6.15), np.float32(-6.15)
# tanh x as Lambert's continued fraction, ended after the ninth term: cut off where it meets one: within 6e-6.
_P0, _P1, _P2, _P3, _P4 = (np.float32(x) for x in (34459425.0, 4729725.0, 135135.0, 990.0, 1.0))
_Q0, _Q1, _Q2, _Q3, _Q4 = (np.float32(x) for x in (34459425.0, 16216200.0, 945945.0, 13860.0, 45.0))


@compiled(error_model="numpy")
def _tanh(value: np.float32) -> np.float32:
    x = min(max(value, _BOTTOM), _TOP)
    t = x * x
    above = x * (_P0 + t * (_P1 + t * (_P2 + t * (_P3 + t * _P4))))
    return above / (_Q0 + t * (_Q1 + t * (_Q2 + t * (_Q3 + t * _Q4))))


@compiled(error_model="numpy")
def _four(w: NDArray[np.float32], b: NDArray[np.float32], first: int, stride: int, x: NDArray[np.float32],
          out: NDArray[np.float32], lanes: int) -> None:
    """Four rows of out[j, s] = b[j] + sum_k w[j, k] x[k, s], from `first` on, `stride` apart; k comes in fours."""
    j0, j1, j2, j3 = first, first + stride, first + 2 * stride, first + 3 * stride
    o0, o1, o2, o3 = out[0], out[1], out[2], out[3]
    for s in range(lanes):
        o0[s], o1[s], o2[s], o3[s] = b[j0], b[j1], b[j2], b[j3]
    for k in range(0, w.shape[1], 4):
        a0, a1, a2, a3 = w[j0, k], w[j0, k + 1], w[j0, k + 2], w[j0, k + 3]
        b0, b1, b2, b3 = w[j1, k], w[j1, k + 1], w[j1, k + 2], w[j1, k + 3]
        c0, c1, c2, c3 = w[j2, k], w[j2, k + 1], w[j2, k + 2], w[j2, k + 3]
        d0, d1, d2, d3 = w[j3, k], w[j3, k + 1], w[j3, k + 2], w[j3, k + 3]
        for s in range(lanes):
            x0, x1, x2, x3 = x[k, s], x[k + 1, s], x[k + 2, s], x[k + 3, s]
            o0[s] += a0 * x0 + a1 * x1 + a2 * x2 + a3 * x3
            o1[s] += b0 * x0 + b1 * x1 + b2 * x2 + b3 * x3
            o2[s] += c0 * x0 + c1 * x1 + c2 * x2 + c3 * x3
            o3[s] += d0 * x0 + d1 * x1 + d2 * x2 + d3 * x3


@compiled("void(int64[::1],float32[:,::1],float32[:,::1],float32[:,::1],float32[::1],float32[:,::1],float32[::1],"
          "float32[:,::1])", error_model="numpy")
def advance(at: NDArray[np.int64], feats: NDArray[np.float32], hidden: NDArray[np.float32], w: NDArray[np.float32],
            b: NDArray[np.float32], v: NDArray[np.float32], d: NDArray[np.float32], out: NDArray[np.float32]) -> None:
    """Step the series in `at` ([m]): `feats` [m, x], `hidden` [n, 2h] (h, then c) is changed in place, `w` [4h, x + h],
    `v` [outputs, x + h]; writes `out` [m, outputs]. x + h and outputs are multiples of 4."""
    size, width = hidden.shape[1] // 2, feats.shape[1]
    x = np.empty((width + size, PITCH), np.float32)
    c, h = np.empty((size, PITCH), np.float32), np.empty((size, PITCH), np.float32)
    rows = np.empty((4, PITCH), np.float32)
    for start in range(0, len(at), BLOCK):
        lanes = min(BLOCK, len(at) - start)
        for s in range(lanes):
            i = at[start + s]
            for k in range(width):
                x[k, s] = feats[start + s, k]
            for k in range(size):
                x[width + k, s] = hidden[i, k]
                c[k, s] = hidden[i, size + k]
        for k in range(size):
            _four(w, b, k, size, x, rows, lanes)
            gi, gf, gg, go, ck, hk = rows[0], rows[1], rows[2], rows[3], c[k], h[k]
            for s in range(lanes):
                into = _HALF + _HALF * _tanh(_HALF * gi[s])
                keep = _HALF + _HALF * _tanh(_HALF * gf[s])
                ck[s] = keep * ck[s] + into * _tanh(gg[s])
            for s in range(lanes):
                hk[s] = (_HALF + _HALF * _tanh(_HALF * go[s])) * _tanh(ck[s])
        x[width:, :lanes] = h[:, :lanes]
        for s in range(lanes):
            i = at[start + s]
            for k in range(size):
                hidden[i, k] = h[k, s]
                hidden[i, size + k] = c[k, s]
        for first in range(0, out.shape[1], 4):
            _four(v, d, first, 1, x, rows, lanes)
            for s in range(lanes):
                for k in range(4):
                    out[start + s, first + k] = rows[k, s]
