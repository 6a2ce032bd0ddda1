"""What a shop process tells about itself: log lines on stdout; counts, latencies and spans when scraped."""

from __future__ import annotations

import os
import random
import sys
import time
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

import msgspec

_SPAN_LIMIT = 400
_SAMPLE_ONE_IN = 5
_encode = msgspec.json.Encoder().encode


def quantile(values: list[float], q: float) -> float:
    """The nearest-rank quantile of a non-empty list."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(q * len(ordered)))]


@dataclass
class Calls:
    """Requests, served or made, since the last scrape."""

    seconds: list[float] = field(default_factory=list)
    errors: int = 0

    def add(self, seconds: float, *, is_error: bool) -> None:
        self.seconds.append(seconds)
        self.errors += is_error

    def summary(self) -> dict[str, float]:
        """`n`, `errors`, and p50 and p95 in seconds if there were any."""
        result: dict[str, float] = {"n": len(self.seconds), "errors": self.errors}
        if self.seconds:
            result |= {"p50": quantile(self.seconds, 0.5), "p95": quantile(self.seconds, 0.95)}
        return result


class Span(msgspec.Struct, frozen=True):
    """The context that travels with a request, in the manner of W3C trace context."""

    trace_id: str
    span_id: str
    sampled: bool

    @classmethod
    def parse(cls, header: str | None, rng: random.Random) -> Span:
        """The caller's span from a `traceparent` header, or a new trace without parent (`span_id` empty)."""
        parts = (header or "").split("-")
        if len(parts) == 4 and len(parts[1]) == 32 and len(parts[2]) == 16:
            return cls(parts[1], parts[2], parts[3] == "01")
        return cls(f"{rng.getrandbits(128):032x}", "", rng.randrange(_SAMPLE_ONE_IN) == 0)

    def child(self, rng: random.Random) -> Span:
        return Span(self.trace_id, f"{rng.getrandbits(64):016x}", self.sampled)

    def header(self) -> str:
        return f"00-{self.trace_id}-{self.span_id}-{'01' if self.sampled else '00'}"


class Telemetry:
    """Counts of one process. `drain` gives what happened since the last `drain`."""

    def __init__(self, service: str, instance: str, version: str) -> None:
        self.service = service
        self.instance = instance
        self.version = version
        self.rng = random.Random(os.getpid())
        self.served = Calls()
        self.made: defaultdict[str, Calls] = defaultdict(Calls)
        self.acquired: list[float] = []
        self.in_flight = 0
        self._spans: list[dict[str, Any]] = []
        self._since = time.monotonic()

    def log(self, level: str, message: str, trace: Span | None = None, **attributes: Any) -> None:
        """One line in opsmend's own log format."""
        line = _encode({
            "type": "log", "ts": time.time_ns(), "service": self.service, "instance": self.instance, "level": level,
            "message": message, "trace_id": trace.trace_id if trace else "", "attributes": attributes})
        sys.stdout.buffer.write(line + b"\n")
        sys.stdout.buffer.flush()

    def span(self, span: Span, parent_id: str, kind: int, started_ns: int, seconds: float, *, is_error: bool,
             name: str, peer: str = "") -> None:
        """Keep a span (kind 2 server, 3 client) if its trace is sampled; the oldest are dropped when full."""
        if not span.sampled:
            return
        if len(self._spans) >= _SPAN_LIMIT:
            del self._spans[0]
        attributes = [{"key": "peer.service", "value": {"stringValue": peer}}] if peer else []
        self._spans.append({
            "traceId": span.trace_id, "spanId": span.span_id, "parentSpanId": parent_id, "name": name, "kind": kind,
            "startTimeUnixNano": str(started_ns), "endTimeUnixNano": str(started_ns + int(seconds * 1e9)),
            "attributes": attributes, "status": {"code": 2 if is_error else 1}})

    def drain(self, pool: dict[str, float]) -> dict[str, Any]:
        """Everything since the last call, as JSON-able values; times in seconds."""
        now = time.monotonic()
        result = {
            "seconds": max(1e-3, now - self._since), "version": self.version, "in_flight": self.in_flight,
            "served": self.served.summary(), "made": {p: c.summary() for p, c in sorted(self.made.items())},
            "pool": pool | ({"acquire_p95": quantile(self.acquired, 0.95)} if pool and self.acquired else {}),
            "spans": self._spans}
        peers = list(self.made)
        self.served, self.made, self.acquired, self._spans, self._since = Calls(), defaultdict(Calls), [], [], now
        for peer in peers:
            self.made[peer] = Calls()  # an edge without calls says 0, it does not vanish
        return result
