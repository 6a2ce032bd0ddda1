"""Features of the instances of an alert case: what it was told of, how surprising that is, next to the others."""

from __future__ import annotations

import math
from collections import Counter, defaultdict

import numpy as np
from numpy.typing import NDArray

from rootcause.alerts.case import KINDS, METRIC_KINDS, TRACE_KINDS, AlertCase, Told, is_call, service_of
from rootcause.alerts.history import History

Floats = NDArray[np.float64]
_MODALITIES = ("metric", "trace", "log")
PLAIN_FEATURES = len(KINDS) + 8


def surprises(case: AlertCase, told: Told, history: History) -> tuple[Floats, Floats]:
    """([n, kinds] surprise of each kind that was told of an instance, else 0; [n, 3] sums by modality)."""
    by_kind = np.zeros((len(case.instances), len(KINDS)))
    sums = np.zeros((len(case.instances), 3))
    for i, instance in enumerate(case.instances):
        for kind in told.kinds.get(instance, ()):
            by_kind[i, KINDS.index(kind)] = history.surprise(instance, kind)
        sums[i, 2] = sum(history.surprise(instance, t) for t in told.templates.get(instance, ()))
    sums[:, 0] = by_kind[:, :len(METRIC_KINDS)].sum(axis=1)
    sums[:, 1] = by_kind[:, len(METRIC_KINDS):].sum(axis=1)
    return by_kind, sums


def plain_table(case: AlertCase, told: Told, history: History) -> Floats:
    """[n, PLAIN_FEATURES] surprises alone: few enough that weights from one system hold in another. By kind, summed by
    modality and its logarithm, the number of rare templates, and the total next to the incident's largest."""
    by_kind, sums = surprises(case, told, history)
    total = sums.sum(axis=1, keepdims=True) / 10
    rare = np.array([sum(history.surprise(i, t) > 1.9 for t in told.templates.get(i, ())) for i in case.instances], float)
    return np.concatenate([by_kind / 3, sums / 10, np.log1p(sums) / 2, np.log1p(rare)[:, None],
                           total / max(0.1, float(total.max(initial=0.0)))], axis=1)


def rich_table(case: AlertCase, told: Told, history: History) -> Floats:
    """[n, many] everything: presence, surprise, rarity among the instances, replicas, counts, order, neighbours."""
    instances, n = case.instances, len(case.instances)
    _, sums = surprises(case, told, history)
    counts = np.array([[told.kinds.get(i, Counter())[k] for k in KINDS] for i in instances], dtype=np.float64)
    has = (counts > 0).astype(float)
    rarity = np.log((n + 1) / (has.sum(axis=0) + 1)) / math.log(n + 1)
    twins = _twins(instances)
    theirs = _over(has, twins)
    everything = sums.sum(axis=1)
    twin_sum = _over(everything[:, None], twins)[:, 0]
    top = max(1.0, float(everything.max(initial=0.0)))
    traces = counts[:, len(METRIC_KINDS):]
    templates = np.array([len(told.templates.get(i, ())) for i in instances], dtype=np.float64)
    exact, kinds_of = _exact(case, told, history)
    exact_sums = np.stack([exact[:, :len(METRIC_KINDS)].sum(axis=1), exact[:, len(METRIC_KINDS):].sum(axis=1)], axis=1)
    columns = [plain_table(case, told, history), _share(sums), exact, kinds_of, exact_sums, _share(exact_sums), has,
               has * rarity, has * (1 - theirs), theirs,
               np.tile(has.mean(axis=0), (n, 1)), np.log1p(traces) / 2, traces / np.maximum(traces.sum(axis=0), 1),
               np.stack([everything / top, (everything - twin_sum) / top, (twin_sum > 0).astype(float),
                         *(_order(v) for v in (everything, *sums.T)), np.log1p(templates) / 2,
                         has[:, :len(METRIC_KINDS)].sum(axis=1) / 10], axis=1),
               _first(case), _neighbours(case, everything), _coverage(case, told, history), _unanswered(case, told, history)]
    table: Floats = np.concatenate(columns, axis=1)
    return table


def _exact(case: AlertCase, told: Told, history: History) -> tuple[Floats, Floats]:
    """[n, kinds] each: summed surprise of the exact alerts of a kind, and how many different ones there are."""
    total, number = np.zeros((len(case.instances), len(KINDS))), np.zeros((len(case.instances), len(KINDS)))
    for i, instance in enumerate(case.instances):
        for alert in told.exact.get(instance, ()):
            k = KINDS.index(alert.partition("|")[0])
            total[i, k] += history.surprise(instance, alert)
            number[i, k] += 1
    return total, number


def _share(table: Floats) -> Floats:
    out: Floats = table / np.maximum(table.max(axis=0, initial=0.0), 1.0)
    return out


def _order(values: Floats) -> Floats:
    """1 for the largest, down to 0; equals share."""
    return np.array([(values < v).mean() for v in values])


def _twins(instances: tuple[str, ...]) -> list[list[int]]:
    """Of each instance the other replicas of its service."""
    by: dict[str, list[int]] = defaultdict(list)
    for i, instance in enumerate(instances):
        by[service_of(instance)].append(i)
    return [[j for j in by[service_of(instance)] if j != i] for i, instance in enumerate(instances)]


def _over(table: Floats, groups: list[list[int]]) -> Floats:
    """The largest of each group, 0 where it is empty."""
    return np.stack([table[group].max(axis=0) if group else np.zeros(table.shape[1]) for group in groups])


def _first(case: AlertCase) -> Floats:
    """[n, 3] how early its first alert of each modality was recorded: 1 first, 0 none."""
    out = np.zeros((len(case.instances), 3))
    at = {instance: i for i, instance in enumerate(case.instances)}
    for m, modality in enumerate(_MODALITIES):
        of = [a for a in case.alerts if a.modality == modality]
        for place, alert in enumerate(of):
            if alert.instance in at and out[at[alert.instance], m] == 0:
                out[at[alert.instance], m] = 1 - place / len(of)
    return out


def _neighbours(case: AlertCase, everything: Floats) -> Floats:
    """[n, 5] calls in alert: how many callers and callees, the largest surprise among each, own minus callees'."""
    at = {instance: i for i, instance in enumerate(case.instances)}
    up: list[set[int]] = [set() for _ in case.instances]
    down: list[set[int]] = [set() for _ in case.instances]
    for alert in case.alerts:
        if is_call(alert) and alert.peer in at and alert.instance in at:
            up[at[alert.instance]].add(at[alert.peer])
            down[at[alert.peer]].add(at[alert.instance])
    top = max(1.0, float(everything.max(initial=0.0)))
    most = [_over(everything[:, None], [sorted(g) for g in groups])[:, 0] / top for groups in (up, down)]
    return np.stack([np.array([len(g) for g in up]) / 5, np.array([len(g) for g in down]) / 5, most[0], most[1],
                     everything / top - most[1]], axis=1)


def _coverage(case: AlertCase, told: Told, history: History) -> Floats:
    """[n, 2 kinds of traces] how many of all calls of this kind that it ever had in alert are so now; minus the most of
    its replicas."""
    now = np.zeros((len(case.instances), len(TRACE_KINDS)))
    for i, instance in enumerate(case.instances):
        for alert in told.exact.get(instance, ()):
            kind = alert.partition("|")[0]
            if kind in TRACE_KINDS:
                now[i, TRACE_KINDS.index(kind)] += 1
    known = np.array([[history.variety(i, k) for k in TRACE_KINDS] for i in case.instances])
    covered = now / np.maximum(np.maximum(known, now), 1)
    return np.concatenate([covered, covered - _over(covered, _twins(case.instances))], axis=1)


def _unanswered(case: AlertCase, told: Told, history: History) -> Floats:
    """[n, 2] which part of the operations that it calls elsewhere got lost on the way (slow, failed)."""
    lost = Counter((words.split(" ", 1)[0], kind) for alerts in told.exact.values() for kind, _, words in
                   (alert.partition("|") for alert in alerts) if kind.startswith("lost."))
    called = Counter(caller for caller, _ in history.served)
    return np.array([[lost[i, f"lost.{what}"] / max(1, called[i], lost[i, f"lost.{what}"]) for what in ("slow", "failed")]
                     for i in case.instances])
