"""Parents and children among spans, which come in any order and from different processes: calls, other names of
services, and what calls wait for on the way."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ingest.types import PEER_KINDS, TraceBatch

Call = tuple[str, str]
_CLIENT: Final = 3
_SERVER: Final = 2
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


_Span = tuple[str, int, int]
"""Service, or "service\x1fwhom it calls"; microseconds plus 1 of a client span, minus that of a server span, 0 of others;
its start."""


class SpanJoin:
    """`step(batch)`. Holds back up to `max_spans` spans, and as many whose parent is missing. Cost: 1 us a span."""

    def __init__(self, max_spans: int) -> None:
        self._half = max(1, max_spans // 2)
        # Two generations each: when the younger is full, the older is let go. Cheaper than to know the oldest one.
        self._spans: dict[str, _Span] = {}
        self._old_spans: dict[str, _Span] = {}
        self._orphans: dict[str, list[_Span]] = {}  # parent id -> its children, as services
        self._old_orphans: dict[str, list[_Span]] = {}
        self._waiting = 0
        """Children in `_orphans`: one parent that never comes may have any number."""

    def step(self, batch: TraceBatch) -> Joined:
        out = Joined()
        spans, old_spans, orphans, old_orphans = self._spans, self._old_spans, self._orphans, self._old_orphans
        texts, pair_of = _remembered(batch)
        # The sign tells who asks from who answers.
        took = np.where(batch.kind == _CLIENT, batch.duration_us + 1, np.where(
            batch.kind == _SERVER, -batch.duration_us - 1, 0))
        for pair, micros, ts_ns, span, parent in zip(pair_of.tolist(), took.tolist(), batch.ts_ns.tolist(), batch.span_id,
                                                     batch.parent_id, strict=True):
            of = texts[pair]
            if of is None:
                continue
            if span:
                spans[span] = one = (of[1], micros, ts_ns)
                for waiting in (orphans, old_orphans):
                    if span in waiting:
                        for child in waiting.pop(span):
                            _join(one, child, out)
            if parent:
                above = spans.get(parent) or old_spans.get(parent)
                if above is None:
                    orphans.setdefault(parent, []).append((of[0], micros, ts_ns))
                    self._waiting += 1
                    if self._waiting > self._half:
                        orphans, old_orphans, self._waiting = {}, orphans, 0
                        self._orphans, self._old_orphans = orphans, old_orphans
                elif above[0] != of[0]:
                    _join(above, (of[0], micros, ts_ns), out)
        if len(spans) > self._half:
            self._spans, self._old_spans = {}, spans
        return out


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
