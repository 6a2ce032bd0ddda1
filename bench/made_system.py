"""A made-up system that answers requests, minute by minute: what it calls, logs and takes. Nothing of the simulator that
the ranker is trained on is used: requests walk through operations here, step by step, and are counted.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Final

import numpy as np

OUTSIDE: Final = "__root__"
_VERBS: Final = ("create", "find", "update", "check", "list", "price", "cancel", "refresh", "calculate", "verify")
_NOUNS: Final = ("order", "seat", "user", "route", "parcel", "invoice", "stock", "voucher", "quote", "basket", "ticket",
                 "station")
_NAMES: Final = tuple(a + b for a in ("an", "be", "ka", "lo", "mi", "ru", "so", "ti")
                      for b in ("bel", "dra", "na", "lia", "mir", "ras"))


@dataclass(frozen=True)
class Step:
    """One thing that an operation does. `mean`: how often per request; a call goes to (`service`, `operation`)."""

    kind: str  # "span", "line" or "call"
    name: str
    mean: float = 1.0
    seconds: float = 0.0
    service: int = -1
    operation: int = -1
    needs: bool = True  # without an answer the operation ends here
    is_error: bool = False  # a line that speaks of failure and is nothing to worry about
    is_named: bool = False  # a line with a word in it that is never the same and looks like any other


@dataclass(frozen=True)
class Operation:
    """What a service can be asked for."""

    name: str
    seconds: float
    steps: tuple[Step, ...]


@dataclass(frozen=True)
class System:
    """Services from the outside in: each calls only those with a higher number."""

    names: tuple[str, ...]
    operations: tuple[tuple[Operation, ...], ...]
    requests: tuple[tuple[float, int, int], ...]  # (per minute, service, operation)
    edges: tuple[tuple[int, int], ...]
    client_spans: str  # "same" name as the server's, "verb", or "" for none
    writes_own: np.ndarray  # [n] whether it logs its own failures
    writes_other: np.ndarray  # [n] whether it logs those of who it calls
    idle_lines: np.ndarray  # [n] lines a minute that no request causes
    strange_lines: np.ndarray  # [n] of these, that have words of failure
    bursts: np.ndarray  # [n] how often it has a minute with many of these, for no reason that matters
    mixed: float = 0.0  # how much the kinds of requests differ from minute to minute, of a lognormal
    pauses: float = 0.0  # how often a kind is not asked for in a minute
    fails: np.ndarray | None = None  # [n] share of requests that have always failed


@dataclass(frozen=True)
class Fault:
    """`kind` is cpu_contention, network_delay, memory_leak, return or exception; the latter two hit a step of some
    operations."""

    kind: str
    service: int
    size: float  # times as slow, or seconds on the way
    share: float = 1.0  # of the requests
    operations: tuple[int, ...] = ()
    step: int = 0
    is_heard: bool = True  # who asked it gives up as well
    label: str = ""  # what it is called, where that is not `kind`


@dataclass
class Minute:
    """What was counted."""

    spans: dict[tuple[str, str, str], list[float]] = field(default_factory=lambda: defaultdict(lambda: [0, 0.0]))
    lines: Counter[tuple[int, str]] = field(default_factory=Counter)
    bad: Counter[int] = field(default_factory=Counter)  # lines with words of failure
    asked: Counter[int] = field(default_factory=Counter)
    seconds: dict[int, float] = field(default_factory=lambda: defaultdict(float))
    calls: Counter[int] = field(default_factory=Counter)  # that it makes
    waits: dict[int, float] = field(default_factory=lambda: defaultdict(float))  # seconds that these take it
    work: dict[int, float] = field(default_factory=lambda: defaultdict(float))
    failed: Counter[int] = field(default_factory=Counter)
    between: dict[tuple[int, int], tuple[int, float, float]] = field(default_factory=dict)
    """(calls, seconds that their caller waits, seconds that the callee takes) of each pair"""


def draw_system(rng: np.random.Generator, n: int, per_minute: float) -> System:
    """`per_minute` requests come in, shared very unequally by a dozen kinds."""
    names = tuple(f"{_NOUNS[int(rng.integers(len(_NOUNS)))]}-{_VERBS[int(rng.integers(len(_VERBS)))]}-{i}" for i in range(n))
    layer = np.sort(np.concatenate([[0], rng.integers(1, 5, n - 1)]))
    counts = rng.integers(1, 6, n)
    has_gate = rng.random() < 0.6
    operations = []
    for i in range(n):
        below = np.flatnonzero(layer > layer[i])
        favourites = rng.choice(below, min(len(below), int(rng.integers(1, 6))), replace=False) if len(below) else below
        if i == 0 and has_gate:
            favourites = np.flatnonzero(layer == 1)
        operations.append(tuple(_operation(rng, names[i], k, favourites, counts) for k in range(counts[i])))
    first = [0] if has_gate else np.flatnonzero(layer <= 1).tolist()
    kinds = [(i, k) for i in first for k in range(counts[i])]
    weights = rng.lognormal(0, 1.2, len(kinds))
    edges = {(i, s.service) for i, of in enumerate(operations) for o in of for s in o.steps if s.kind == "call"}
    requests = tuple((float(per_minute * w), i, k) for w, (i, k) in zip(weights / weights.sum(), kinds, strict=True))
    return System(names, tuple(operations), requests, tuple(sorted(edges)),
                  client_spans=str(rng.choice(["same", "verb", ""], p=[0.4, 0.4, 0.2])),
                  writes_own=rng.random(n) < 0.7, writes_other=rng.random(n) < 0.35,
                  idle_lines=np.where(rng.random(n) < 0.3, rng.lognormal(1.5, 1, n), 0),
                  strange_lines=np.where(rng.random(n) < 0.15, rng.lognormal(0, 1, n), 0),
                  bursts=np.where(rng.random(n) < 0.2, rng.uniform(0, 0.15, n), 0),
                  mixed=float(rng.uniform(0, 0.7)), pauses=float(rng.choice([0.0, 0.1])))


def _operation(rng: np.random.Generator, service: str, k: int, below: np.ndarray, counts: np.ndarray) -> Operation:
    name = f"/api/{service}/{_VERBS[k % len(_VERBS)]}{k}"
    steps = [Step("line", f"{service} request {k} received with *")] if rng.random() < 0.8 else []
    for j in range(int(rng.integers(1, 7))):
        what = rng.random()
        mean = 1.0 if rng.random() < 0.6 else float(rng.lognormal(0, 0.7))
        if what < 0.4 and len(below):
            to = int(rng.choice(below))
            steps.append(Step("call", "", mean, service=to, operation=int(rng.integers(counts[to])), needs=rng.random() < 0.8))
        elif what < 0.75:
            kind = f"SELECT {service}.t{j}" if rng.random() < 0.5 else f"{service}Service.step{k}{j}"
            steps.append(Step("span", kind, mean, float(rng.lognormal(-6, 1))))
        else:
            is_error = rng.random() < 0.12
            steps.append(Step("line", f"{'Error: nothing for' if is_error else 'Done'} {k} {j} of *",
                              float(rng.uniform(0.01, 0.3)) if is_error else mean, is_error=is_error,
                              is_named=rng.random() < 0.15))
    return Operation(name, float(rng.lognormal(-5.5, 0.8)), tuple(steps))


def play(system: System, rng: np.random.Generator, load: float, fault: Fault | None, part: float = 1.0) -> Minute:
    """A minute of which the fault, if any, fills `part`; `load` times the usual requests, in a mix that is never the same."""
    out = Minute()
    for usual, service, operation in system.requests:
        rate = usual * float(rng.lognormal(0, system.mixed)) * (0.0 if rng.random() < system.pauses else 1.0)
        for on, length in ((fault, part), (None, 1.0 - part)) if fault else ((None, 1.0),):
            n = int(rng.poisson(rate * load * length))
            if n:
                _visit(system, rng, out, OUTSIDE, service, operation, n, on)
    for i in np.flatnonzero(system.idle_lines + system.strange_lines + system.bursts).tolist():
        out.lines[i, "heartbeat sent"] += int(rng.poisson(system.idle_lines[i]))
        strange = int(rng.poisson(system.strange_lines[i] + (rng.lognormal(2.5, 1) if rng.random() < system.bursts[i] else 0)))
        out.lines[i, "Error while polling *: will retry"] += strange
        out.bad[i] += strange
    return out


def _visit(system: System, rng: np.random.Generator, out: Minute, caller: str, i: int, k: int, n: int,
           fault: Fault | None) -> tuple[float, int]:
    """(mean seconds, how many of the `n` requests failed)."""
    what, name = system.operations[i][k], system.names[i]
    mine = fault if fault is not None and fault.service == i else None
    slow = mine.size if mine is not None and mine.kind == "cpu_contention" else 1.0
    stops = mine is not None and mine.kind in ("return", "exception") and k in mine.operations
    hit = int(rng.binomial(n, mine.share)) if mine is not None and stops else 0
    always = int(rng.binomial(n, system.fails[i])) if system.fails is not None and system.fails[i] else 0
    alive, broken, seconds = n - always, always, what.seconds * slow * float(rng.lognormal(0, 0.15))
    work = n * seconds
    out.asked[i] += n
    at = min(mine.step, max(0, len(what.steps) - 1)) if mine is not None and stops else -1
    for j, step in enumerate(what.steps or (Step("line", f"{name} idle", 0.0),)):
        if j == at and hit and mine is not None:
            hit = min(hit, alive)
            alive -= hit
            broken += hit if mine.kind == "exception" or mine.is_heard else 0
            _complain(system, rng, out, i, hit, mine.kind)
        times = int(rng.binomial(alive, step.mean)) if step.mean <= 1 else int(rng.poisson(alive * step.mean))
        if not times:
            continue
        if step.kind == "line":
            for text, count in _texts(rng, step, times):
                out.lines[i, text] += count
            out.bad[i] += times * step.is_error
        elif step.kind == "span":
            took = step.seconds * slow * float(rng.lognormal(0, 0.2))
            _span(out, name, name, step.name, times, took)
            seconds += took * times / n
        else:
            took, failed = _visit(system, rng, out, name, step.service, step.operation, times, fault)
            way = 0.0015 * float(rng.lognormal(0, 0.3)) * (1 + 0.3 * (slow - 1))
            if fault is not None and fault.kind == "network_delay" and fault.service in (i, step.service):
                way += fault.size * float(rng.uniform(0.7, 1.2))
            called = system.operations[step.service][step.operation].name
            if system.client_spans:
                _span(out, name, name, called if system.client_spans == "same" else "HTTP POST", times, took + way)
            seconds += (took + way) * times / n
            out.calls[i] += times
            out.waits[i] += (took + way) * times
            calls, waited, served = out.between.get((i, step.service), (0, 0.0, 0.0))
            out.between[i, step.service] = (calls + times, waited + (took + way) * times, served + took * times)
            if failed:
                if system.writes_other[i]:
                    out.lines[i, "org.web.HttpServerErrorException: 500 null"] += failed
                    out.bad[i] += failed
                if step.needs:
                    ended = min(alive, failed)
                    alive -= ended
                    broken += ended
    _span(out, caller, name, what.name, n, seconds)
    out.seconds[i] += n * seconds
    out.work[i] += work
    out.failed[i] += broken
    return seconds, broken


def _texts(rng: np.random.Generator, step: Step, times: int) -> list[tuple[str, int]]:
    if not step.is_named:
        return [(step.name, times)]
    names, counts = np.unique(rng.integers(0, len(_NAMES), times), return_counts=True)
    return [(f"{step.name} by {_NAMES[k]}", int(n)) for k, n in zip(names.tolist(), counts.tolist(), strict=True)]


def _complain(system: System, rng: np.random.Generator, out: Minute, i: int, times: int, kind: str) -> None:
    """A service that writes of its failures; who answers wrongly says so in a line of its own, or not at all."""
    if not system.writes_own[i]:
        return
    if kind == "exception":
        for text, bad in (("java.lang.IllegalStateException: broken", 1), ("	at app.Service.call(Service.java:*)", 0)):
            out.lines[i, text] += times
            out.bad[i] += times * bad
    else:
        is_bad = rng.random() < 0.8
        out.lines[i, "[failed] nothing returned for *" if is_bad else "empty answer for *"] += times
        out.bad[i] += times * is_bad


def _span(out: Minute, caller: str, callee: str, name: str, n: int, seconds: float) -> None:
    cell = out.spans[caller, callee, name]
    cell[0] += n
    cell[1] += n * seconds
