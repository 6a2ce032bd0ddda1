"""How steady group ids are while a storm comes in."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from opsmend.evaluate.alerts_scores import Labels
from opsmend.evaluate.alerts_storms import Storm


def id_switches(truth: Sequence[int], snapshots: Iterable[Labels]) -> float:
    """Per fault: how often the group that holds most of its alerts so far was another one than the step before.

    A snapshot [n] labels the first n alerts; labels name the same group from one to the next; -1 is no group.
    """
    faults = np.asarray(truth)
    main: dict[int, int] = {}
    switches = 0
    for labels in snapshots:
        seen = faults[: len(labels)]
        for fault in np.unique(seen).tolist():
            own = labels[(seen == fault) & (labels >= 0)]
            if not len(own):
                continue
            groups, counts = np.unique(own, return_counts=True)
            held = int(np.count_nonzero(own == main.get(fault, -1)))
            if held < counts.max():  # a tie is no switch
                switches += fault in main
                main[fault] = int(groups[np.argmax(counts)])
    return switches / max(1, len(main))


def tracked(storm: Storm, method: Callable[[Storm], Labels], step_s: float) -> Iterator[Labels]:
    """Snapshots of a method without memory, run anew on all alerts so far every `step_s` seconds. A group keeps the
    id of the earlier group that it shares most alerts with: what a service around the method would do."""
    ids: Labels = np.zeros(0, dtype=np.int64)
    unused = 0
    times = np.array([a.at_s for a in storm.alerts])
    for until in np.arange(times[0] + step_s, times[-1] + step_s, step_s):
        count = int(np.searchsorted(times, until, side="right"))
        if count == len(ids):
            continue
        labels = method(replace(storm, alerts=storm.alerts[:count], fault=storm.fault[:count]))
        pairs: dict[tuple[int, int], int] = {}
        for label, old in zip(labels[: len(ids)].tolist(), ids.tolist(), strict=True):
            if label >= 0 and old >= 0:
                pairs[label, old] = pairs.get((label, old), 0) + 1
        new: dict[int, int] = {}
        for label, old in sorted(pairs, key=lambda p: (-pairs[p], p)):
            if label not in new and old not in new.values():
                new[label] = old
        for label in sorted(set(labels.tolist()) - {-1} - new.keys()):
            new[label] = unused
            unused += 1
        ids = np.array([new.get(label, -1) for label in labels.tolist()], dtype=np.int64)
        yield ids
