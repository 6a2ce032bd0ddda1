"""Fine-tuning on confirmed incidents: a forest over everything that is known of each instance, and a log-linear model
that also remembers whole incidents."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax
from sklearn.ensemble import ExtraTreesClassifier

from rootcause.alerts.case import AlertCase, Told, service_of, told
from rootcause.alerts.features import rich_table
from rootcause.alerts.history import History, history_of
from rootcause.alerts.loglinear import LogLinear

Floats = NDArray[np.float64]
_TREES = 300
_LINEAR_SHARE = 0.3
"""Of the log-linear model's log probabilities, next to the forest's."""


class Tuned:
    """`fit` on cases whose roots are known (of one system or several), then `rank` others. Seeded."""

    name = "fine_tuned"

    def __init__(self, seed: int = 0) -> None:
        self._forest = ExtraTreesClassifier(_TREES, min_samples_leaf=2, max_features=0.3, class_weight="balanced",
                                            random_state=seed)
        self._linear = LogLinear()
        self._services: tuple[str, ...] = ()

    def fit(self, cases: Sequence[AlertCase], roots: Sequence[int]) -> Tuned:
        """Cost: 6 s for 250 cases of 20 instances. The history of each case: the others of its system."""
        self._services = tuple(sorted({service_of(i) for case in cases for i in case.instances}))
        systems: dict[str, list[AlertCase]] = defaultdict(list)
        for case in cases:
            systems[case.system].append(case)
        histories = {system: history_of(members) for system, members in systems.items()}
        tables, said = [], []
        for case in cases:
            with histories[case.system].without(case) as one:
                said.append(one)
                tables.append(self._table(case, one, histories[case.system]))
        answers = [np.arange(len(case.instances)) == root for case, root in zip(cases, roots, strict=True)]
        self._forest.fit(np.concatenate(tables), np.concatenate(answers))
        self._linear.fit(cases, said, tables, roots)
        return self

    def rank(self, case: AlertCase, history: History) -> Floats:
        """[n] chance of each instance, adding up to 1. Raises sklearn's NotFittedError before `fit`."""
        said = told(case, history.served)
        table = self._table(case, said, history)
        votes = self._forest.predict_proba(table)[:, 1] + 1e-4
        p: Floats = softmax(np.log(votes / votes.sum()) + _LINEAR_SHARE * self._linear.log_p(case, said, table))
        return p

    def _table(self, case: AlertCase, said: Told, history: History) -> Floats:
        services = np.array([[float(service_of(i) == s) for s in self._services] for i in case.instances])
        return np.concatenate([rich_table(case, said, history), services], axis=1)
