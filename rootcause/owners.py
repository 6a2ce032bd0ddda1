"""Kubernetes owner references, as kube-state-metrics tells them: pod -> ReplicaSet -> Deployment, pod -> node, claims.

`kube_pod_owner{namespace,pod,owner_kind,owner_name}`, `kube_replicaset_owner{namespace,replicaset,...}`,
`kube_job_owner{namespace,job_name,...}`, `kube_pod_info{namespace,pod,node}`,
`kube_pod_spec_volumes_persistentvolumeclaims_info{namespace,pod,persistentvolumeclaim}`, `kube_pod_status_phase{namespace,
pod,phase}` 0 or 1. Where Prometheus keeps its own `pod` and `namespace`, those of the object are `exported_pod`,
`exported_namespace`. There is a row per owner: the one with `owner_is_controller="true"` counts (`internal/store/pod.go`,
`replicaset.go`, `job.go` of kube-state-metrics).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec
import numpy as np

from ingest.types import MetricBatch
from rootcause.last_seen import room

_OWNED: Final = {"kube_pod_owner": "pod", "kube_replicaset_owner": "replicaset", "kube_job_owner": "job_name"}
_INFO: Final = "kube_pod_info"
_CLAIM: Final = "kube_pod_spec_volumes_persistentvolumeclaims_info"
_PHASE: Final = "kube_pod_status_phase"
FACTS: Final = frozenset({*_OWNED, _INFO, _CLAIM})
"""Metrics that are 1 whatever happens: what they say is in their labels."""
_NAMES: Final = FACTS | {_PHASE}
_OVER: Final = ("Succeeded", "Failed")
"""Such pods are kept for a while: of a Job that is done, or evicted."""
_MOST_CLAIMS: Final = 8
_KINDS: Final = {"ReplicaSet": "replicaset", "Job": "job_name"}
"""Owners that are owned themselves."""
Thing = tuple[str, str, str]
"""(pod, replicaset or job_name; namespace; name)"""


class Fact(msgspec.Struct):
    """What is known of one pod, ReplicaSet or Job."""

    seen_ns: int
    owner_kind: str = ""
    owner: str = ""
    node: str = ""
    claims: tuple[str, ...] = ()
    over: str = ""  # the phase in which it ended


class Owners:
    """`step(metrics, now)`; then `workload(namespace, pod)`, `pod(namespace, pod)`, `pods()`."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._facts: dict[Thing, Fact] = {}
        self._namespaces: dict[str, list[str]] = {}  # pod -> where there is one of this name
        self.is_changed = False

    def step(self, metrics: MetricBatch, now_ns: int) -> None:
        phases = []
        for at, key in enumerate(metrics.series_table):
            if key.name in _NAMES:
                labels = dict(key.labels)
                if key.name != _PHASE:
                    self._take(key.name, labels, now_ns)
                elif labels.get("phase") in _OVER:
                    phases.append((at, labels))
        if phases:
            newest = np.full(len(metrics.series_table), np.nan)
            newest[metrics.series] = metrics.value  # of several rows of one series the last counts
            for at, labels in phases:
                self._end(labels, float(newest[at]))

    def _end(self, labels: Mapping[str, str], value: float) -> None:
        """What is told of the phase of a pod that is known."""
        fact = self._facts.get(("pod", *named(labels, "pod")))
        if fact is None or np.isnan(value):
            return
        phase = labels["phase"]
        over = phase if value > 0 else "" if fact.over == phase else fact.over
        self.is_changed = self.is_changed or over != fact.over
        fact.over = over

    def _take(self, name: str, labels: Mapping[str, str], now_ns: int) -> None:
        kind = _OWNED.get(name, "pod")
        namespace, thing = named(labels, kind)
        if not thing:
            return
        fact = self._facts.get((kind, namespace, thing))
        if fact is None:
            fact = self._facts[kind, namespace, thing] = Fact(now_ns)
            self._index(kind, namespace, thing)
        fact.seen_ns = now_ns
        if name == _CLAIM:
            claim = labels.get("persistentvolumeclaim", "")
            if claim and claim not in fact.claims and len(fact.claims) < _MOST_CLAIMS:
                fact.claims = tuple(sorted((*fact.claims, claim)))
                self.is_changed = True
            return
        if labels.get("owner_is_controller") == "false":
            return
        told = {"node": labels.get("exported_node") or labels.get("node", "")} if name == _INFO else {
            "owner_kind": labels.get("owner_kind", ""), "owner": labels.get("owner_name", "")}
        for field, value in told.items():
            if value not in ("", "<none>") and getattr(fact, field) != value:
                setattr(fact, field, value)
                self.is_changed = True

    def _index(self, kind: str, namespace: str, name: str) -> None:
        if kind == "pod":
            self._namespaces.setdefault(name, []).append(namespace)

    def workload(self, namespace: str, pod: str) -> str:
        """The Deployment, StatefulSet, DaemonSet, CronJob, ... that owns the pod; "" where nobody says."""
        fact = self._facts.get(("pod", namespace, pod))
        for _ in _KINDS:  # no chain is longer, but for one that telemetry makes up: a ring
            if fact is None or fact.owner_kind not in _KINDS:
                break
            above = self._facts.get((_KINDS[fact.owner_kind], namespace, fact.owner))
            if above is None or not above.owner:
                break
            fact = above
        return fact.owner if fact is not None and fact.owner_kind != "Node" else ""

    def pod(self, namespace: str, pod: str) -> tuple[str, tuple[str, ...]]:
        """(node, claims) of a pod, "" where nobody says. A namespace that nobody tells is looked for."""
        one = self.namespaces(pod)
        fact = self._facts.get(("pod", one[0] if not namespace and len(one) == 1 else namespace, pod))
        return (fact.node, fact.claims) if fact is not None else ("", ())

    def namespaces(self, pod: str) -> list[str]:
        """Those that have a pod of this name."""
        return self._namespaces.get(pod, [])

    def pods(self) -> Iterator[tuple[str, str, int]]:
        """(namespace, pod, when it was last seen) of those that have not ended."""
        for (kind, namespace, name), fact in sorted(self._facts.items(), key=lambda item: item[0]):
            if kind == "pod" and not fact.over:
                yield namespace, name, fact.seen_ns

    def forget(self, before_ns: int) -> None:
        """Drop what was last seen before `before_ns`, and of too many those that were seen longest ago."""
        old = [thing for thing, fact in self._facts.items() if fact.seen_ns < before_ns]
        left = len(self._facts) - len(old)
        if left > self._most:
            order = sorted((f.seen_ns, thing) for thing, f in self._facts.items() if f.seen_ns >= before_ns)
            old += [thing for _, thing in order[: left - room(self._most)]]
        for thing in old:
            del self._facts[thing]
        if old:
            self._rebuild()
        self.is_changed = self.is_changed or bool(old)

    def _rebuild(self) -> None:
        self._namespaces = {}
        for thing in self._facts:
            self._index(*thing)

    def dump(self) -> list[tuple[Thing, Fact]]:
        return list(self._facts.items())

    def load(self, state: Any) -> None:
        self._facts = dict(msgspec.convert(state, list[tuple[Thing, Fact]]))
        self._rebuild()

    def __len__(self) -> int:
        return len(self._facts)


def named(labels: Mapping[str, str], kind: str) -> tuple[str, str]:
    """(namespace, name) of the object that a row is about."""
    return (labels.get("exported_namespace") or labels.get("namespace", ""),
            labels.get(f"exported_{kind}") or labels.get(kind, ""))


def without_facts(metrics: MetricBatch) -> MetricBatch:
    """The rows of all other series."""
    stays = np.array([key.name not in FACTS for key in metrics.series_table])
    number = np.cumsum(stays, dtype=np.int32) - np.int32(1)
    rows = stays[metrics.series]
    return MetricBatch(metrics.ts_ns[rows], number[metrics.series[rows]], metrics.value[rows],
                       tuple(key for key, stay in zip(metrics.series_table, stays.tolist(), strict=True) if stay),
                       {int(number[at]): start_ns for at, start_ns in metrics.begun.items() if stays[at]})
