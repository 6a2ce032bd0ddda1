"""A log-linear model of the root: what each instance says, and what the whole incident says about each instance."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import log_softmax

from rootcause.alerts.case import AlertCase, Told

Floats = NDArray[np.float64]
_SHARED_RIDGE, _OWN_RIDGE, _BIAS_RIDGE = 3e-3, 1e-3, 1e-3
_SCALE = 3.0
_FARTHEST = 5.0
"""Standard deviations at which a feature is cut off."""


class LogLinear:
    """log p(instance) = w . its features + v[instance] . the incident's exact alerts + b[instance], up to a constant.

    `w` is shared by all instances; `v` remembers how whole incidents looked when this one was the root, so it helps
    with instances that have been roots before. Alerts count by log(incidents / incidents that had it). Convex, so
    without a seed. Cost: a second for 250 cases of 20 instances, 300 features and 700 alerts.
    """

    def fit(self, cases: Sequence[AlertCase], said: Sequence[Told], tables: Sequence[Floats],
            roots: Sequence[int]) -> LogLinear:
        """`tables`: the features of the instances of each case. Raises ValueError for no cases."""
        if not cases:
            raise ValueError("no labelled case to fit on")
        rows = np.concatenate(list(tables))
        self._mean, deviation = rows.mean(axis=0), rows.std(axis=0)
        self._kept = deviation > 1e-9
        self._unit = np.where(self._kept, deviation, 1.0)
        self._learn_words(said)
        names = sorted({(case.system, i) for case in cases for i in case.instances})
        self._place = {name: k for k, name in enumerate(names)}
        bags = np.stack([self._bag(one) for one in said])
        self._norm = math.sqrt(max(1e-12, float((bags ** 2).sum(axis=1).mean())))
        self._solve(cases, np.concatenate([self._scaled(t) for t in tables]), bags / self._norm * _SCALE, roots)
        return self

    def log_p(self, case: AlertCase, said: Told, table: Floats) -> Floats:
        """[n] log probabilities of the instances of a case."""
        own = self._own @ (self._bag(said) / self._norm * _SCALE) + self._bias
        known = [self._place.get((case.system, i)) for i in case.instances]
        score = self._scaled(table) @ self._shared + np.array([0.0 if k is None else own[k] for k in known])
        p: Floats = log_softmax(score)
        return p

    def _learn_words(self, said: Sequence[Told]) -> None:
        seen = Counter(word for one in said for word in _words(one))
        self._words = {word: k for k, word in enumerate(sorted(w for w, number in seen.items() if number > 1))}
        self._weight = np.array([math.log((len(said) + 1) / (seen[w] + 0.5)) for w in self._words])

    def _bag(self, said: Told) -> Floats:
        out = np.zeros(len(self._words))
        at = [self._words[word] for word in _words(said) if word in self._words]
        out[at] = self._weight[at]
        return out

    def _scaled(self, table: Floats) -> Floats:
        deviations = np.clip((table - self._mean) / self._unit, -_FARTHEST, _FARTHEST)[:, self._kept]
        out: Floats = deviations * _SCALE / math.sqrt(max(1, int(self._kept.sum())))
        return out

    def _solve(self, cases: Sequence[AlertCase], rows: Floats, bags: Floats, roots: Sequence[int]) -> None:
        sizes = np.array([len(case.instances) for case in cases])
        starts = np.cumsum(sizes) - sizes
        of_case = np.repeat(np.arange(len(cases)), sizes)
        who = np.array([self._place[case.system, i] for case in cases for i in case.instances])
        answer = np.zeros(len(rows))
        answer[starts + np.asarray(roots)] = 1.0
        features, people, words = rows.shape[1], len(self._place), bags.shape[1]

        def parts(x: Floats) -> tuple[Floats, Floats, Floats]:
            return x[:features], x[features:-people].reshape(people, words), x[-people:]

        def loss(x: Floats) -> tuple[float, Floats]:
            shared, own, bias = parts(x)
            score = rows @ shared + (bags @ own.T + bias)[of_case, who]
            score -= np.repeat(np.maximum.reduceat(score, starts), sizes)
            log_p = score - np.log(np.repeat(np.add.reduceat(np.exp(score), starts), sizes))
            wrong = (np.exp(log_p) - answer) / len(cases)
            table = np.zeros((len(cases), people))
            table[of_case, who] = wrong
            ridge = _SHARED_RIDGE * shared @ shared + _OWN_RIDGE * (own ** 2).sum() + _BIAS_RIDGE * bias @ bias
            slope = np.concatenate([rows.T @ wrong + 2 * _SHARED_RIDGE * shared,
                                    (table.T @ bags + 2 * _OWN_RIDGE * own).ravel(),
                                    table.sum(axis=0) + 2 * _BIAS_RIDGE * bias])
            return -float(log_p @ answer) / len(cases) + float(ridge), slope

        start = np.zeros(features + people * (words + 1))
        self._shared, self._own, self._bias = parts(
            minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": 150}).x)


def _words(said: Told) -> list[tuple[str, str]]:
    """(instance, exact alert or log template), each once."""
    return [(i, what) for table in (said.exact, said.templates) for i, counts in table.items() for what in counts]
