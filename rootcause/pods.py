"""What the kubelet (cAdvisor) and kube-state-metrics tell of a pod is of the service that the pod belongs to, not of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Final

import msgspec

from ingest.types import MetricBatch, SeriesKey
from rootcause.owners import FACTS, named
from rootcause.placements import Placements

_TOLD_BY_OTHERS: Final = ("container_", "kube_pod_")


def of_pods(metrics: MetricBatch, placements: Placements, services: Iterable[str],
            edges: Iterable[tuple[str, str]]) -> dict[int, SeriesKey]:
    """Place in the series table -> the series by the service and pod that it is about; those alone whose pod belongs to one
    of `services`, to one that is called, or to one that tells something of itself: a cluster has many pods that nobody
    watches. Cost: some us per such series."""
    found: dict[int, SeriesKey] = {}
    known: set[str] = set()
    for at, key in enumerate(metrics.series_table):
        if not key.name.startswith(_TOLD_BY_OTHERS) or key.name in FACTS:
            continue
        if not known:
            known = {*services, *(callee for _, callee in edges), *(
                k.service for k in metrics.series_table if not k.name.startswith(_TOLD_BY_OTHERS))}
        namespace, pod = named(dict(key.labels), "pod")
        service = placements.service_of_pod(namespace, pod) if pod else ""
        if service and service in known:
            found[at] = msgspec.structs.replace(key, service=service, instance=pod)
    return found


def with_keys(metrics: MetricBatch, keys: Mapping[int, SeriesKey]) -> MetricBatch:
    """The same rows, some of whose series go by other keys."""
    return replace(metrics, series_table=tuple(keys.get(at, key) for at, key in enumerate(metrics.series_table)))
