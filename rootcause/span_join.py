"""Parents and children among spans, which come in any order and from different processes: calls, other names of
services, what calls wait for on the way, and how long services work themselves."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ingest.types import PEER_KINDS, TraceBatch

Call = tuple[str, str]
_CLIENT: Final = 3
_SERVER: Final = 2
_REQUESTS: Final = (_SERVER, 5)
_NAMES_A_SERVICE: Final = (PEER_KINDS.index("service"), PEER_KINDS.index("address"))
_SEPARATOR: Final = "\x1f"


@dataclass
class Joined:
    """What was found among the spans of one batch and those held back."""

    calls: set[Call] = field(default_factory=set)  # (caller, callee)
    names: set[Call] = field(default_factory=set)
    """(name, service) where a client span calls somebody by a name and the span that answered is of a service of another
    name: an address, a load balancer, a DNS name"""
    waits: dict[Call, list[int]] = field(default_factory=dict)
    """(caller, callee) -> newest start in ns, microseconds that client spans last longer than the answers, calls"""
    own: dict[str, list[int]] = field(default_factory=dict)
    """service -> newest start in ns, microseconds of its own work, requests. Spans that wait for somebody (of clients) are no
    work, and of the others that is which no child of theirs covers; children that run at the same time are counted once."""


_Span = tuple[str, int, int, int]
"""Service, or "service\x1fwhom it calls"; microseconds plus 1 of a client span, minus that of a server span, 0 of others;
its start in ns; its microseconds."""
_Stretch = tuple[int, int]
"""From and to, ns."""
_STRETCHES: Final = 32
"""Of a span that are covered by children: the newest, where there are more."""


class SpanJoin:
    """`step(batch)`. Holds back up to `max_spans` spans, and as many whose parent is missing. Cost: 2 us a span."""

    def __init__(self, max_spans: int) -> None:
        self._half = max(1, max_spans // 2)
        # Two generations each: when the younger is full, the older is let go. Cheaper than to know the oldest one.
        self._spans: dict[str, _Span] = {}
        self._old_spans: dict[str, _Span] = {}
        self._orphans: dict[str, list[_Span]] = {}  # parent id -> its children, as services
        self._old_orphans: dict[str, list[_Span]] = {}
        self._covered: dict[str, list[_Stretch]] = {}  # span id -> what its children cover
        self._waiting = 0
        """Children put into `_orphans` since it was begun: one parent that never comes may have any number."""

    def step(self, batch: TraceBatch) -> Joined:
        out = Joined(own=_work(batch))
        covered = self._covered
        spans, old_spans, orphans, old_orphans = self._spans, self._old_spans, self._orphans, self._old_orphans
        texts, pair_of = _remembered(batch)
        # The sign tells who asks from who answers.
        took = np.where(batch.kind == _CLIENT, batch.duration_us + 1, np.where(
            batch.kind == _SERVER, -batch.duration_us - 1, 0))
        for pair, micros, ts_ns, lasts, span, parent in zip(pair_of.tolist(), took.tolist(), batch.ts_ns.tolist(),
                                                            batch.duration_us.tolist(), batch.span_id, batch.parent_id,
                                                            strict=True):
            of = texts[pair]
            if of is None:
                continue
            if span:
                spans[span] = one = (of[1], micros, ts_ns, lasts)
                for waiting in (orphans, old_orphans):
                    if span in waiting:
                        children = waiting.pop(span)
                        for child in children:
                            _join(one, child, out)
                        if micros <= 0:
                            known = covered.setdefault(span, [])
                            out.own[of[0]][1] -= sum([_cover(known, one, child) for child in children])
            if parent:
                above = spans.get(parent) or old_spans.get(parent)
                if above is None:
                    orphans.setdefault(parent, []).append((of[0], micros, ts_ns, lasts))
                    self._waiting += 1
                    if self._waiting > self._half:
                        orphans, old_orphans, self._waiting = {}, orphans, 0
                        self._orphans, self._old_orphans = orphans, old_orphans
                    continue
                child = (of[0], micros, ts_ns, lasts)
                if above[0] != of[0]:
                    _join(above, child, out)
                if above[1] <= 0:
                    known = covered.setdefault(parent, [])
                    out.own.setdefault(above[0], [above[2], 0, 0])[1] -= _cover(known, above, child)
        if len(spans) > self._half:
            self._spans, self._old_spans = {}, spans
            self._covered = {span: stretches for span, stretches in self._covered.items() if span in spans}
        return out


def _cover(known: list[_Stretch], above: _Span, child: _Span) -> int:
    """Add to what of `above` is covered by children (apart from each other, in order); microseconds that are new in it."""
    start, stop = max(above[2], child[2]), min(above[2] + 1000 * above[3], child[2] + 1000 * child[3])
    if stop <= start:
        return 0
    if not known or start >= known[-1][1]:
        known.append((start, stop))
        fresh = stop - start
    else:
        before = sum(to - since for since, to in known)
        apart: list[_Stretch] = []
        for since, to in sorted([*known, (start, stop)]):
            if apart and since <= apart[-1][1]:
                apart[-1] = (apart[-1][0], max(apart[-1][1], to))
            else:
                apart.append((since, to))
        known[:] = apart
        fresh = sum(to - since for since, to in known) - before
    if len(known) > _STRETCHES:  # the gap between the two oldest counts as covered from now on
        known[:2] = [(known[0][0], known[1][1])]
    return fresh // 1000


def _work(batch: TraceBatch) -> dict[str, list[int]]:
    """Service -> newest start, microseconds of its spans but those of clients, requests; whatever their children cover."""
    mine = np.flatnonzero((batch.service >= 0) & (batch.kind != _CLIENT))
    found, of = np.unique(batch.service[mine], return_inverse=True)
    newest = np.zeros(len(found), np.int64)
    np.maximum.at(newest, of, batch.ts_ns[mine])
    micros, asked = (np.bincount(of, weights, len(found)) for weights in (
        batch.duration_us[mine].astype(float), np.isin(batch.kind[mine], _REQUESTS).astype(float)))
    return {batch.vocab[service]: [int(ts_ns), int(total), int(requests)] for service, ts_ns, total, requests in zip(
        found.tolist(), newest.tolist(), micros.tolist(), asked.tolist(), strict=True)}


def _remembered(batch: TraceBatch) -> tuple[list[tuple[str, str] | None], NDArray[np.intp]]:
    """(service, what is remembered of a span of it) of each combination, None without a service; [n] which one it is."""
    vocab = batch.vocab
    names_one = (batch.kind == _CLIENT) & np.isin(batch.peer_kind, _NAMES_A_SERVICE) & (batch.peer >= 0)
    called = np.where(names_one, batch.peer, -1)
    found, row = np.unique(batch.service.astype(np.int64) * (len(vocab) + 1) + called + 1, return_inverse=True)
    pairs = [divmod(pair, len(vocab) + 1) for pair in found.tolist()]
    return [(vocab[s], f"{vocab[s]}{_SEPARATOR}{vocab[p - 1]}" if p else vocab[s]) if s >= 0 else None
            for s, p in pairs], row


def _join(above: _Span, child: _Span, out: Joined) -> None:
    caller, _, called = above[0].partition(_SEPARATOR)
    service = child[0]
    if caller == service:
        return
    out.calls.add((caller, service))
    if called and called != service:
        out.names.add((called, service))
    if above[1] > 0 > child[1]:
        wait = out.waits.setdefault((caller, service), [0, 0, 0])
        wait[0] = max(wait[0], above[2], child[2])
        wait[1] += above[1] + child[1]
        wait[2] += 1
