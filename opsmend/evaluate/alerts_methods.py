"""What others do with a storm of alerts, and what somebody would do who knew when each fault began."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np

from opsmend.evaluate.alerts_scores import Labels
from opsmend.evaluate.alerts_storms import Storm
from opsmend.evaluate.alerts_stream import opsmend

_EPS_SECONDS: Final = 20.0
_MIN_ALERTS: Final = 10
_CUT_SECONDS: Final = 150.0
_WINDOW_SECONDS: Final = 120.0
_GROUP_INTERVAL_SECONDS: Final = 300.0


def time_dbscan(storm: Storm) -> Labels:
    """DBSCAN on time alone: 10 alerts within 20 s."""
    from sklearn.cluster import DBSCAN

    labels = DBSCAN(eps=_EPS_SECONDS, min_samples=_MIN_ALERTS).fit_predict(_times(storm)[:, None])
    return np.asarray(labels, dtype=np.int64)


def average_linkage(storm: Storm) -> Labels:
    """Average linkage on time, cut at 150 s."""
    from sklearn.cluster import AgglomerativeClustering

    if len(storm.alerts) < 2:
        return np.zeros(len(storm.alerts), dtype=np.int64)
    model = AgglomerativeClustering(n_clusters=None, distance_threshold=_CUT_SECONDS, linkage="average")
    return np.asarray(model.fit_predict(_times(storm)[:, None]), dtype=np.int64)


def fixed_window(storm: Storm) -> Labels:
    """A new group every 120 s of the clock."""
    return np.asarray(_times(storm) // _WINDOW_SECONDS, dtype=np.int64)


def label_groups(storm: Storm) -> Labels:
    """As Alertmanager with `group_by: [service]`: a group per service and group interval of 5 minutes."""
    opened: dict[str, tuple[int, float]] = {}
    labels = np.zeros(len(storm.alerts), dtype=np.int64)
    count = 0
    for at, alert in enumerate(storm.alerts):
        group = opened.get(alert.service)
        if group is None or alert.at_s - group[1] > _GROUP_INTERVAL_SECONDS:
            group = opened[alert.service] = (count, alert.at_s)
            count += 1
        labels[at] = group[0]
    return labels


def oracle(storm: Storm) -> Labels:
    """Knows every true onset: an alert belongs to the fault that began last before it, in its own system where the
    faults share none."""
    onsets = np.array(storm.onsets)
    order = np.argsort(onsets)
    if storm.is_elsewhere:
        return np.asarray(storm.fault, dtype=np.int64)
    at = np.searchsorted(onsets[order], _times(storm) + 1e-6, side="right") - 1
    return np.asarray(order[np.clip(at, 0, None)], dtype=np.int64)


Method = Callable[[Storm], Labels]
METHODS: Final[dict[str, Method]] = {
    "opsmend": opsmend,
    "time-only DBSCAN": time_dbscan,
    "average linkage": average_linkage,
    "fixed window": fixed_window,
    "label grouping": label_groups,
    "oracle": oracle,
}


def _times(storm: Storm) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return np.array([a.at_s for a in storm.alerts])
