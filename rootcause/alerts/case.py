"""One incident as a set of alerts, and what the kinds of alerts are called whatever the source calls them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

_INDICATORS: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("host", re.compile(r"^node_|^host")), ("latency", re.compile(r"p\d\d|lat|duration|rt$|response_time")),
    ("errors", re.compile(r"succ|err|fail|exception")), ("traffic", re.compile(r"qps|rps|request|count$|throughput")),
    ("cpu", re.compile(r"cpu|load")), ("memory", re.compile(r"mem|rss|cache|heap|jvm")),
    ("disk", re.compile(r"fs_|disk|blk|diskio")), ("netin", re.compile(r"receive|rx|_in(_|$)|inbound")),
    ("netout", re.compile(r"trans|trainsmit|tx|_out(_|$)|outbound")), ("threads", re.compile(r"thread|proc|fd")))
_SIDED = frozenset({"latency", "errors", "traffic"})
METRIC_KINDS = tuple(f"{name}{side}.{way}" for name in (
    "cpu", "memory", "disk", "threads", "netin", "netout", "latency", "errors", "traffic", "host", "other")
    for side in (("", "@in", "@out") if name in _SIDED else ("",)) for way in ("up", "down"))
TRACE_KINDS = tuple(f"{role}.{what}" for role in ("self", "lost", "callee", "caller") for what in ("slow", "failed"))
KINDS = METRIC_KINDS + TRACE_KINDS
"""Of metrics: indicator, side of the call ("in" as a server, "out" as a client), direction. Of traces: whose part of
the call it is; "lost": a caller found calls to it slow or failed, and it did not find so itself, which is what a fault
in the network between the two looks like. Log templates have no kinds: they are told apart by their number alone."""
Served = Mapping[tuple[str, str], frozenset[str]]
"""(caller, operation) to the instances that were seen to serve it."""


@dataclass(frozen=True)
class Alert:
    """`modality` metric, trace or log; of traces `peer` is the caller of `instance`, itself for its own part."""

    modality: str
    instance: str
    peer: str
    feature: str
    value: str


@dataclass(frozen=True)
class AlertCase:
    """The alerts of one incident in the order in which they were recorded, and all instances there are."""

    system: str
    instances: tuple[str, ...]
    alerts: tuple[Alert, ...]


@dataclass(frozen=True)
class Told:
    """What was told of each instance: kind, log template and exact alert ("kind|source's words") to number."""

    kinds: Mapping[str, Counter[str]]
    templates: Mapping[str, Counter[str]]
    exact: Mapping[str, Counter[str]]


def service_of(instance: str) -> str:
    """The name without the number of the replica.

    >>> service_of("carts-1"), service_of("dbservice2"), service_of("redis")
    ('carts', 'dbservice', 'redis')
    """
    return re.sub(r"[-_]?\d+$", "", instance) or instance


def metric_kind(feature: str, value: str) -> str:
    """
    >>> metric_kind("dest_p95", "up"), metric_kind("fs_usage", "down"), metric_kind("x", "up")
    ('latency@in.up', 'disk.down', 'other.up')
    """
    name = feature.lower()
    found = next((indicator for indicator, pattern in _INDICATORS if pattern.search(name)), "other")
    side = ""
    if found in _SIDED:
        side = "@out" if name.startswith(("src", "client")) else "@in" if name.startswith(("dest", "server")) else ""
    return f"{found}{side}.{'down' if value == 'down' else 'up'}"


def is_call(alert: Alert) -> bool:
    """Whether it is a server's part of a call, both ends of which are known."""
    return alert.modality == "trace" and alert.instance != "" and alert.peer not in ("", "-1", alert.instance)


def served_in(cases: Iterable[AlertCase]) -> Served:
    """Who serves which operation to whom, from the servers' parts of the calls in alert. No cause is needed."""
    out: dict[tuple[str, str], set[str]] = {}
    for case in cases:
        for alert in filter(is_call, case.alerts):
            out.setdefault((alert.peer, alert.feature), set()).add(alert.instance)
    return {call: frozenset(who) for call, who in out.items()}


def told(case: AlertCase, served: Served) -> Told:
    """Alerts by the instance that they speak of; a slow or failed call counts for both of its ends.

    `served`: from other incidents of the system, to know whom a caller's own part of a call went to.
    """
    felt = {(a.peer, a.feature, a.value == "PD") for a in case.alerts if is_call(a)}
    kinds: dict[str, Counter[str]] = {}
    templates: dict[str, Counter[str]] = {}
    exact: dict[str, Counter[str]] = {}

    def count(instance: str, kind: str, words: str) -> None:
        kinds.setdefault(instance, Counter())[kind] += 1
        exact.setdefault(instance, Counter())[f"{kind}|{words}"] += 1

    for alert in case.alerts:
        if alert.modality == "metric":
            count(alert.instance, metric_kind(alert.feature, alert.value), f"{alert.feature} {alert.value}")
        elif alert.modality == "trace":
            what, words = "slow" if alert.value == "PD" else "failed", f"{alert.feature} {alert.value}"
            if is_call(alert):
                count(alert.instance, f"callee.{what}", f"{alert.peer} {words}")
                count(alert.peer, f"caller.{what}", f"{alert.instance} {words}")
                continue
            count(alert.instance, f"self.{what}", f"{alert.peer} {words}")
            if alert.peer == alert.instance and (alert.instance, alert.feature, what == "slow") not in felt:
                for callee in served.get((alert.instance, alert.feature), ()):
                    count(callee, f"lost.{what}", f"{alert.instance} {words}")
        else:
            number = alert.feature.removeprefix(alert.instance).strip("-_")
            templates.setdefault(alert.instance, Counter())[number] += 1
    return Told(kinds, templates, exact)
