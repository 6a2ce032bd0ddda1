"""Which instances of a service are unusual while others of it are not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from detect.indicators import indicator_of
from detect.types import Evidence, Observations
from ingest.types import SeriesKey
from rootcause.robust import Floats

_FROM_SPANS: Final = {"instance.error_ratio": 0.02, "instance.latency_seconds": 0.002,
                      "instance.error_lines_per_second": 0.1}
"""With the smallest change that matters; without the traffic of single instances, which a load balancer moves about."""
_LEAST: Final = {"up": 0.5, "responsive": 0.5, "errors": 0.02, "latency": 0.002, "cpu": 0.05, "memory": 1e6,
                 "saturation": 0.05, "restarts": 0.5, "lock_wait": 0.5, "cache_full": 0.1}
_ASKED: Final = "instance.requests_per_second"
_STEADY: Final = 0.8
"""Share of the rows before in which an instance answered that is missed when it does not any more."""
_LOUD: Final = 6.0
"""In usual deviations."""
_AHEAD: Final = 3.0
"""Times as unusual as the middle one of the service."""
_RECENT: Final = 30
"""Rows at the end that count as now."""
_MOST: Final = 4
_CAP: Final = 100.0
_POD: Final = ("pod", "exported_pod", "k8s.pod.name", "pod_name")
_PLACE: Final = frozenset({*_POD, "node", "exported_node", "host", "hostname", "host_ip", "pod_ip", "uid", "instance",
                           "exported_instance", "container_id", "k8s.node.name", "k8s.pod.uid", "host.name"})
"""Labels that differ from instance to instance and say nothing of what is measured."""
_CADVISOR: Final = frozenset({"id", "name", "image"})
"""The same of `container_...`, which the kubelet tells of its pods."""


@dataclass(frozen=True)
class UnusualInstance:
    """One of several of a service; `score` in usual deviations, at most 100."""

    instance: str
    score: float
    series: str
    now: float
    others: float  # median of the others now


def unusual_instances(service: str, seen: Observations, first_signal_ns: int, *, baseline_seconds: float = 300.0,
                      margin_seconds: float = 3.0) -> tuple[UnusualInstance, ...]:
    """At most four, the most unusual first; none where a service has one instance, or half of them or more changed
    alike: then it is the service.

    Each instance is compared with itself before the first sign, and then with the others. Cost: linear in the series of
    the service. Fails where instances do different work, such as the leader of a cluster: it is compared with its own
    past, but so is what it alone does.
    """
    begin = first_signal_ns - int(baseline_seconds * 1e9)
    before = (seen.ts_ns >= begin) & (seen.ts_ns < first_signal_ns - int(margin_seconds * 1e9))
    now = np.flatnonzero(seen.ts_ns >= first_signal_ns)[-_RECENT:]
    if before.sum() < 3 or not len(now):
        return ()
    groups: dict[tuple[str, tuple[tuple[str, str], ...]], dict[str, int]] = {}
    for column, key in enumerate(seen.series):
        if key.service == service and not key.peer and (instance := instance_of(key)):
            groups.setdefault((key.name, _measured(key)), {})[instance] = column
    worst: dict[str, UnusualInstance] = {}
    for (name, _), columns in groups.items():
        if name == _ASKED:
            worst |= {one.instance: one for one in _gone(columns, seen.values[before], seen.values[now])}
        least = _least_of(seen.series[next(iter(columns.values()))])
        if least is None or len(columns) < 2:
            continue
        for one in _of_group(columns, seen.series, seen.values[before], seen.values[now], least):
            if one.instance not in worst or one.score > worst[one.instance].score:
                worst[one.instance] = one
    everyone = {instance for columns in groups.values() for instance in columns}
    if len(worst) * 2 > len(everyone):
        return ()
    return tuple(sorted(worst.values(), key=lambda u: (-u.score, u.instance))[:_MOST])


def instance_of(key: SeriesKey) -> str:
    """The instance that a series is of: the pod where a label names one (`instance` may be the kubelet that tells of it), else
    `instance`; "" where it is of the service.

    >>> instance_of(SeriesKey("cart", "container_memory_rss", "10.0.0.1:10250", labels=(("pod", "cart-7d4-x2"),)))
    'cart-7d4-x2'
    """
    labels = dict(key.labels)
    return next((labels[name] for name in _POD if labels.get(name)), key.instance)


def _measured(key: SeriesKey) -> tuple[tuple[str, str], ...]:
    """The labels that its like has on other instances too."""
    own = _PLACE | _CADVISOR if key.name.startswith("container_") else _PLACE
    return tuple(label for label in key.labels if label[0] not in own)


def _least_of(key: SeriesKey) -> float | None:
    return _FROM_SPANS[key.name] if key.name in _FROM_SPANS else _LEAST.get(indicator_of(key))


def _of_group(columns: Mapping[str, int], series: tuple[SeriesKey, ...], before: Floats, now: Floats,
              least: float) -> list[UnusualInstance]:
    """Of one series per instance: those that left their own past while the middle one of all did not."""
    names, at = list(columns), list(columns.values())
    usual, level = _median(before[:, at]), _median(now[:, at])
    spread = 1.4826 * _median(np.abs(before[:, at] - usual))
    has = np.isfinite(usual) & np.isfinite(level)
    if has.sum() < 2:
        return []
    # What is quiet by chance is given the spread that the others have.
    scale = np.maximum(np.maximum(spread, np.median(spread[has])), np.maximum(0.05 * np.abs(usual), least / 3))
    z = np.where(has, np.minimum(np.abs(level - usual) / np.where(has, scale, 1.0), _CAP), np.nan)
    middle = float(np.sort(z[has])[(int(has.sum()) - 1) // 2])
    found = []
    for i in np.flatnonzero(has & (z >= np.maximum(_LOUD, _AHEAD * middle))).tolist():
        others = [level[j] for j in np.flatnonzero(has).tolist() if j != i]
        found.append(UnusualInstance(names[i], float(z[i]), series[at[i]].name, float(level[i]), float(np.median(others))))
    return found


def _gone(columns: Mapping[str, int], before: Floats, now: Floats) -> list[UnusualInstance]:
    """Those that answered before and do not any more, unless as many others took over."""
    names, at = list(columns), list(columns.values())
    was, is_there = np.isfinite(before[:, at]).mean(axis=0) > _STEADY, np.isfinite(now[:, at]).any(axis=0)
    gone = was & ~is_there
    if not is_there.any() or gone.sum() <= (is_there & ~np.isfinite(before[:, at]).any(axis=0)).sum():
        return []
    others = float(np.nanmedian(now[:, at]))
    return [UnusualInstance(names[i], _CAP, _ASKED, 0.0, others) for i in np.flatnonzero(gone).tolist()]


def _median(table: Floats) -> Floats:
    """[columns] over the rows, NaN where there is none."""
    out = np.full(table.shape[1], np.nan)
    some = np.isfinite(table).any(axis=0)
    if some.any():
        out[some] = np.nanmedian(table[:, some], axis=0)
    return out


def instance_evidence(service: str, unusual: tuple[UnusualInstance, ...], placed: Mapping[str, str]) -> list[Evidence]:
    """In words; `placed`: instance of the service -> host."""
    if not unusual:
        return []
    first = unusual[0]
    who = " and ".join(u.instance[:60] for u in unusual[:2]) + (f" and {len(unusual) - 2} more" if len(unusual) > 2 else "")
    out = [Evidence(f"of its instances only {who}: {first.series.removeprefix('instance.')} {first.now:.3g}, "
                    f"the others {first.others:.3g}", first.now, first.others)]
    hosts = {placed.get(u.instance, "") for u in unusual}
    rest = {host for instance, host in placed.items() if instance not in {u.instance for u in unusual}}
    if len(hosts) == 1 and "" not in hosts and rest and not hosts & rest:
        out.append(Evidence(f"these run on {next(iter(hosts))[:60]}, and no other instance of it does"))
    return out
