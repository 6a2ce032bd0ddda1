"""Since when a counter counts that is seen for the first time: what it shows then may be the failures of this very moment.

Many counters have no series before the first thing that they count: a client makes one for `code="500"` with the first
failure. Without a value before, its growth would be known a bucket later, and one of a single failure never.

It is counted from 0 in two cases:
- Another series of the same metric and the same target was reported before and is reported still. Then the target was
  asked before, and did not have this one: it began since. A target that is scraped for the first time, or whose labels
  were changed on the way, has no series that was there before and goes on; whatever its counters show stays unknown.
- It says itself when it began (OTLP's start time, Prometheus' `_created`), that is less than a minute ago, and we have
  been listening since before that. A counter that is older than our memory stays unknown: after a start from nothing a
  large counter is no burst.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from detect.buckets import SeriesTable
from ingest.types import FRESH_NS, SeriesKey

_BEFORE_NS: Final = 180 * 10**9
"""Three times the 60 s in which OpenTelemetry's SDKs send metrics where nothing else is set."""
_PLACES: Final = frozenset((
    "pod", "pod_name", "container", "container_id", "node", "nodename", "host", "hostname", "server", "replica", "task",
    "machine", "job", "k8s.pod.name", "k8s.pod.uid", "k8s.node.name", "host.name", "host.id", "container.id",
    "service.instance.id"))
"""Labels that tell targets apart beside `instance`."""
Target = tuple[str, str, str, tuple[tuple[str, str], ...]]
"""(service, metric, instance, labels that name a place)"""


def target_of(key: SeriesKey) -> Target:
    """What series have in common that come from one place. Failures that have a metric of their own belong to that of all.

    >>> target_of(SeriesKey("cart", "traces_service_graph_request_failed_total"))[1]
    'traces_service_graph_request_total'
    """
    return (key.service, key.name.replace("_failed_", "_"), key.instance,
            tuple(pair for pair in key.labels if pair[0] in _PLACES))


class Beginnings:
    """Stateless but for a table that names the series; cost only where a series is new: what its service has reported."""

    def __init__(self, table: SeriesTable) -> None:
        self._table = table

    def since(self, new: Mapping[int, int], going_on: Iterable[tuple[int, int]], begun: Mapping[int, int],
              gauges: Mapping[int, float], listening_ns: int) -> dict[int, int]:
        """From when on to count the series `new` (-> time of its point) from 0; without those that stay unknown.

        `going_on`: (series, time of its point before this one) of those that have one; `begun`: when series began, as they
        say; `gauges`: newest values, for `_created`; `listening_ns`: since when we are told things.
        """
        before: dict[Target, int] = {}
        services = {self._table.keys[at].service for at in new}
        for at, last_ns in going_on:
            if (key := self._table.keys[at]).service in services:
                target = target_of(key)
                before[target] = max(last_ns, before.get(target, 0))
        found = {}
        for at, at_ns in new.items():
            key = self._table.keys[at]
            last_ns = before.get(target_of(key), 0)
            start_ns = begun.get(at, 0) or self._created(key, gauges)
            if 0 < at_ns - last_ns <= _BEFORE_NS:
                found[at] = last_ns
            elif listening_ns <= start_ns and 0 < at_ns - start_ns <= FRESH_NS:
                found[at] = start_ns
        return found

    def _created(self, key: SeriesKey, gauges: Mapping[int, float]) -> int:
        """ns, 0 where nothing tells."""
        base = next((key.name[:-len(end)] for end in ("_total", "_count", "_sum", "_bucket") if key.name.endswith(end)), "")
        labels = tuple(pair for pair in key.labels if pair[0] != "le")
        at = self._table.find(SeriesKey(key.service, f"{base}_created", key.instance, key.peer, "", "gauge", labels))
        seconds = gauges.get(at, 0.0) if base and at >= 0 else 0.0
        return int(seconds * 1e9) if 0 < seconds < 2**33 else 0
