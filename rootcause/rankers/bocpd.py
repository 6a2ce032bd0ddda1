"""Bayesian online change points of several series at once (Adams & MacKay, 2007): how long has it been like this?

The run length is how many rows the present state has lasted. Rows of one run are Gaussian with unknown mean and
covariance (Normal-Wishart prior), so the next one is a multivariate Student t; a run ends with a fixed chance.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln

Floats = NDArray[np.float64]


def run_lengths(rows: Floats, *, usual_run: float = 50.0) -> NDArray[np.int64]:
    """[t] the most probable run length after each row of [t, d] (no NaN). Cost: t^2 d^2; 0.1 s for 120 x 30."""
    count, width = rows.shape
    best = np.zeros(count, dtype=np.int64)
    log_p = np.zeros(1)
    mean, inverse = np.zeros((1, width)), np.eye(width)[None]  # of each run length, newest state first
    log_det, weight, freedom = np.zeros(1), np.ones(1), np.full(1, width + 1.0)
    hazard = 1.0 / usual_run
    for t, x in enumerate(rows):
        off = x - mean  # [r, d]
        spread = np.einsum("rd,rde,re->r", off, inverse, off)
        joint = log_p + _student(spread, log_det, weight, freedom, width)
        grown, ended = joint + np.log1p(-hazard), np.logaddexp.reduce(joint) + np.log(hazard)
        log_p = np.concatenate([[ended], grown])
        log_p -= np.logaddexp.reduce(log_p)
        best[t] = int(np.argmax(log_p))
        # Rank-one update of every run's scatter: its inverse (Sherman-Morrison) and log determinant.
        share = weight / (weight + 1.0)
        turned = np.einsum("rde,re->rd", inverse, off)
        scale = share / (1.0 + share * spread)
        inverse = inverse - scale[:, None, None] * turned[:, :, None] * turned[:, None, :]
        inverse = np.concatenate([np.eye(width)[None], inverse])
        log_det = np.concatenate([[0.0], log_det + np.log1p(share * spread)])
        mean = np.concatenate([np.zeros((1, width)), (weight[:, None] * mean + x) / (weight + 1.0)[:, None]])
        weight, freedom = np.concatenate([[1.0], weight + 1.0]), np.concatenate([[width + 1.0], freedom + 1.0])
    return best


def _student(spread: Floats, log_det: Floats, weight: Floats, freedom: Floats, width: int) -> Floats:
    """Log density of the next row, given (x - mean)' scatter^-1 (x - mean) and log det scatter of each run."""
    nu = freedom - width + 1.0
    scale = (weight + 1.0) / (weight * nu)  # the t's shape matrix is scatter times this
    out: Floats = (gammaln((nu + width) / 2) - gammaln(nu / 2) - width / 2 * np.log(nu * np.pi)
                   - (log_det + width * np.log(scale)) / 2 - (nu + width) / 2 * np.log1p(spread / (nu * scale)))
    return out
