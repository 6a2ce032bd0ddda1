"""How far what a service does is from its usual mix: of log templates, and of spans per request.

Faults that change no rate and no latency show here: an exception takes another path, a wrong answer skips calls. The
same numbers are read from recorded cases (opsmend/evaluate/rca_modalities.py), minute by minute; live the minute slides.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

Counts = Mapping[str, Mapping[str, int]]
"""Service -> kind -> count."""
_MINUTE_NS: Final = 60 * 10**9
_MAX_KINDS: Final = 500
_OTHERS: Final = ""


@dataclass(frozen=True)
class MixConfig:
    """Over which time something counts as now, and from which as usual."""

    now_ns: int = _MINUTE_NS
    lag_ns: int = 3 * _MINUTE_NS
    """Before it becomes usual: an incident must not be its own measure in its first minutes."""
    half_life_ns: int = 30 * _MINUTE_NS
    enough_ns: int = _MINUTE_NS
    """Nothing is said before so much is usual."""


def apart(found: Mapping[str, float], usual: Mapping[str, float], size: float, of: float) -> float:
    """log(1 + the largest deviation of a kind's count from its usual share of `size`), in what chance and a mix that
    changes by a quarter would do. `of` is the size that `usual` belongs to.

    >>> apart({"a": 10}, {"a": 100}, 10, 100)
    0.0
    """
    worst = 0.0
    for kind in found.keys() | usual.keys():
        expected = usual.get(kind, 0.0) * size / max(of, 1e-9)
        worst = max(worst, abs(found.get(kind, 0.0) - expected) / math.sqrt(expected + (0.25 * expected) ** 2 + 1.0))
    return math.log1p(worst)


@dataclass
class _Service:
    """What one service did: in the last minute, and usually."""

    now: Counter[str] = field(default_factory=Counter)
    now_size: float = 0.0
    held: Counter[str] = field(default_factory=Counter)  # of the last minutes, what is neither now nor usual yet too
    usual: dict[str, float] = field(default_factory=dict)
    usual_size: float = 0.0


class Mix:
    """`step(ts, counts, sizes)`: service -> (kinds per size now, how far the mix is from the usual one).

    Deterministic; event time alone. Cost: linear in the kinds of the services; 4 ms a bucket for 40 services of 50
    kinds. Fails for the first four minutes (nothing is said), and where the mix of a service changes all the time.
    """

    def __init__(self, config: MixConfig | None = None) -> None:
        self._c = config or MixConfig()
        self._services: dict[str, _Service] = {}
        # (time, service -> counts, service -> size), oldest first; those in front of `_passed` are no longer "now"
        self._past: deque[tuple[int, dict[str, dict[str, int]], dict[str, float]]] = deque()
        self._passed = 0
        self._begun_ns = self._decayed_ns = 0

    def step(self, ts_ns: int, counts: Counts, sizes: Mapping[str, float]) -> dict[str, tuple[float, float]]:
        """`sizes`: what the counts of a service are relative to. A service without a size says nothing."""
        self._begun_ns = self._begun_ns or ts_ns
        self._decayed_ns = self._decayed_ns or ts_ns
        kept = {service: self._bounded(service, kinds) for service, kinds in counts.items() if kinds}
        size = {service: float(n) for service, n in sizes.items() if n > 0}
        self._past.append((ts_ns, kept, size))
        self._take(kept, size, 1)
        self._hold(kept, 1)
        while self._passed < len(self._past) and self._past[self._passed][0] <= ts_ns - self._c.now_ns:
            _, old, old_size = self._past[self._passed]
            self._take(old, old_size, -1)
            self._passed += 1
        while self._past and self._past[0][0] <= ts_ns - self._c.lag_ns:
            _, old, old_size = self._past.popleft()
            self._passed -= 1
            self._learn(old, old_size)
            self._hold(old, -1)
        self._decay(ts_ns)
        if ts_ns - self._begun_ns < self._c.lag_ns + self._c.enough_ns:
            return {}
        return {name: (sum(s.now.values()) / s.now_size, apart(s.now, s.usual, s.now_size, s.usual_size))
                for name, s in sorted(self._services.items()) if s.now_size > 0 and s.usual_size > 0 and s.usual}

    def rename(self, merged: Iterable[tuple[str, str, str]]) -> None:
        """(service, old, new kind): what was counted under the old name counts under the new one. No service: all."""
        for service, old, new in merged:
            for name in [service] if service in self._services else list(self._services):
                s = self._services[name]
                for counter in (s.now, s.held):
                    if old in counter:
                        counter[new] += counter.pop(old)
                if old in s.usual:
                    s.usual[new] = s.usual.get(new, 0.0) + s.usual.pop(old)
                for _, counts, _ in self._past:
                    kinds = counts.get(name, {})
                    if old in kinds:
                        kinds[new] = kinds.get(new, 0) + kinds.pop(old)

    def _bounded(self, service: str, kinds: Mapping[str, int]) -> dict[str, int]:
        known = self._services.get(service)
        room = _MAX_KINDS - (len(known.usual.keys() | known.held.keys()) if known else 0)
        out: dict[str, int] = {}
        for kind, n in kinds.items():
            is_known = known is not None and (kind in known.usual or kind in known.held)
            if not is_known and kind not in out:
                room -= 1
                kind = kind if room >= 0 else _OTHERS
            out[kind] = out.get(kind, 0) + n
        return out

    def _take(self, counts: Counts, sizes: Mapping[str, float], sign: int) -> None:
        for service in counts.keys() | sizes.keys():
            s = self._services.setdefault(service, _Service())
            s.now_size += sign * sizes.get(service, 0.0)
            for kind, n in counts.get(service, {}).items():
                s.now[kind] += sign * n
                if not s.now[kind]:
                    del s.now[kind]

    def _hold(self, counts: Counts, sign: int) -> None:
        for service, kinds in counts.items():
            held = self._services.setdefault(service, _Service()).held
            for kind, n in kinds.items():
                held[kind] += sign * n
                if not held[kind]:
                    del held[kind]

    def _learn(self, counts: Counts, sizes: Mapping[str, float]) -> None:
        for service in counts.keys() | sizes.keys():
            s = self._services.setdefault(service, _Service())
            s.usual_size += sizes.get(service, 0.0)
            for kind, n in counts.get(service, {}).items():
                s.usual[kind] = s.usual.get(kind, 0.0) + n

    def _decay(self, ts_ns: int) -> None:
        if ts_ns - self._decayed_ns < _MINUTE_NS:
            return
        keep = 0.5 ** ((ts_ns - self._decayed_ns) / self._c.half_life_ns)
        self._decayed_ns = ts_ns
        for name, s in list(self._services.items()):
            s.usual_size *= keep
            s.usual = {kind: n * keep for kind, n in s.usual.items() if n * keep >= 0.01}
            if not s.usual and not s.held and s.now_size <= 0:
                del self._services[name]

    def dump(self) -> dict[str, object]:
        return {"past": list(self._past), "begun": self._begun_ns, "decayed": self._decayed_ns,
                "usual": {name: [s.usual, s.usual_size] for name, s in self._services.items()}}

    def load(self, state: Mapping[str, Any]) -> None:
        past = msgspec.convert(state["past"], list[tuple[int, dict[str, dict[str, int]], dict[str, float]]])
        usual = msgspec.convert(state["usual"], dict[str, tuple[dict[str, float], float]])
        self._begun_ns, self._decayed_ns = int(state["begun"]), int(state["decayed"])
        self._services = {name: _Service(usual=kinds, usual_size=size) for name, (kinds, size) in usual.items()}
        self._past = deque(past)
        newest = past[-1][0] if past else 0
        self._passed = sum(ts <= newest - self._c.now_ns for ts, _, _ in past)
        for _, counts, sizes in past[self._passed:]:
            self._take(counts, sizes, 1)
        for _, counts, _ in past:
            self._hold(counts, 1)

    def __len__(self) -> int:
        """Kinds that are kept."""
        return sum(len(s.usual.keys() | s.held.keys()) for s in self._services.values())
