"""What a detector is, and the hysteresis that all of them share."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import msgspec
import numpy as np
from numpy.typing import NDArray

from detect.types import NAMESPACE, Breach, Evidence, Signal, SignalKind
from ingest.types import Change, ExternalAlert, SeriesKey


@dataclass(frozen=True)
class BucketWindow:
    """One closed bucket. `series` only grows, so an index stays good over the life of the stage."""

    ts_ns: int
    bucket_ns: int
    series: tuple[SeriesKey, ...]
    values: NDArray[np.float64]  # [s], NaN: not reported
    log_counts: Mapping[tuple[str, str], int] = field(default_factory=dict)  # (service, template id) -> lines
    error_templates: frozenset[tuple[str, str]] = frozenset()  # those seen at WARN or above in this bucket
    templates: Mapping[str, str] = field(default_factory=dict)  # template id -> text, of log_counts
    changes: tuple[Change, ...] = ()
    alerts: tuple[ExternalAlert, ...] = ()
    merged: tuple[tuple[str, str, str], ...] = ()  # (service, old, new id) of templates that are part of others now


class Detector(Protocol):
    """Sees every closed bucket once, in order; says which signals opened, changed or closed."""

    name: str

    def step(self, window: BucketWindow) -> list[Signal]: ...
    def snapshot(self) -> bytes: ...
    def restore(self, data: bytes) -> None: ...


@runtime_checkable
class Foretells(Protocol):
    """A detector that also says what it had expected."""

    def foretold(self) -> NDArray[np.float32]:
        """[s, 3]: quantiles (5, 50, 95 %) of the bucket that was judged last, as forecast before it was seen."""


class Candidate(msgspec.Struct, frozen=True):
    """Something that looks wrong in one bucket. `key` folds repeats."""

    key: str
    kind: SignalKind
    service: str
    score: float
    text: str
    peer: str = ""
    instance: str = ""
    series: str = ""
    value: float | None = None
    usual: float | None = None
    template_id: str = ""
    count: int = 1
    breach: Breach | None = None


class _Track(msgspec.Struct):
    hits: list[bool]
    first_ns: int = 0
    quiet: int = 0
    signal: Signal | None = None


class Hysteresis:
    """Opens a signal after `need` of the last `of` buckets were bad, closes it after `close` quiet ones.

    A bucket in which a key was not observed counts as quiet. State is bounded: a key without an open signal
    is forgotten when its last `of` buckets were quiet.
    """

    def __init__(self, detector: str, *, need: int, of: int, close: int, tenant: str = "default") -> None:
        self._detector, self._need, self._of, self._close, self._tenant = detector, need, of, close, tenant
        self._tracks: dict[str, _Track] = {}

    def is_open(self, key: str) -> bool:
        track = self._tracks.get(key)
        return track is not None and track.signal is not None

    def update(self, window: BucketWindow, found: Mapping[str, Candidate]) -> list[Signal]:
        """Signals that opened, changed or closed in this bucket."""
        out: list[Signal] = []
        for key in sorted(set(self._tracks) | set(found)):
            candidate = found.get(key)
            track = self._tracks.setdefault(key, _Track([]))
            track.hits = [*track.hits, candidate is not None][-self._of:]
            if candidate is not None:
                track.quiet = 0
                track.first_ns = track.first_ns or window.ts_ns
                if track.signal is not None:
                    track.signal = self._grown(track.signal, candidate, window)
                    out.append(track.signal)
                elif sum(track.hits) >= self._need:
                    track.signal = self._opened(candidate, track.first_ns, window)
                    out.append(track.signal)
                continue
            track.quiet += 1
            if track.signal is not None and track.quiet >= self._close:
                out.append(msgspec.structs.replace(track.signal, is_open=False, end_ns=window.ts_ns))
                del self._tracks[key]
            elif track.signal is None and not any(track.hits):
                del self._tracks[key]
        return out

    def _opened(self, c: Candidate, start_ns: int, window: BucketWindow) -> Signal:
        name = "\x1f".join((self._tenant, self._detector, c.service, c.peer, c.key, str(start_ns)))
        return Signal(
            id=str(uuid.uuid5(NAMESPACE, name)), tenant=self._tenant, detector=self._detector, kind=c.kind,
            service=c.service, start_ns=start_ns, end_ns=window.ts_ns, score=c.score, key=c.key, peer=c.peer,
            instance=c.instance, series=c.series, value=c.value, usual=c.usual, template_id=c.template_id,
            count=c.count, evidence=(Evidence(c.text, c.value, c.usual),), breach=c.breach)

    def _grown(self, signal: Signal, c: Candidate, window: BucketWindow) -> Signal:
        worse = c.score >= signal.score
        return msgspec.structs.replace(
            signal, end_ns=window.ts_ns, count=signal.count + c.count, score=max(signal.score, c.score),
            value=c.value if worse else signal.value, breach=c.breach or signal.breach,
            evidence=(Evidence(c.text, c.value, c.usual),) if worse else signal.evidence)

    def dump(self) -> dict[str, _Track]:
        return self._tracks

    def load(self, tracks: dict[str, _Track]) -> None:
        self._tracks = tracks


def dump_state(hysteresis: Hysteresis, **state: object) -> bytes:
    """msgpack of the tracks and whatever else a detector keeps."""
    return msgspec.msgpack.encode({"tracks": hysteresis.dump(), **state})


def load_state(hysteresis: Hysteresis, data: bytes) -> dict[str, object]:
    """The inverse of dump_state; gives what else was kept."""
    state: dict[str, object] = msgspec.msgpack.decode(data)
    hysteresis.load(msgspec.convert(state.pop("tracks"), dict[str, _Track]))
    return state
