"""Somebody else's alerts, as signals."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Final

import msgspec

from detect.detectors.base import BucketWindow
from detect.types import NAMESPACE, Evidence, Signal
from ingest.types import ExternalAlert

_SCORES: Final = {"critical": 0.9, "page": 0.9, "error": 0.8, "warning": 0.6, "info": 0.3, "none": 0.1}
_DEFAULT_SCORE: Final = 0.6
_OFTEN: Final = 2
_PEER_LABELS: Final = ("peer", "peer_service", "destination_service")


@dataclass(frozen=True)
class ExternalAlertConfig:
    """Which alerts are kept, and when one that fires again is the same still."""

    max_alerts: int = 100_000
    """Firing alerts held at once; the oldest is forgotten first."""
    forget_after_seconds: float = 3600.0
    """A firing alert that nobody repeats is taken as over after this."""
    again_seconds: float = 20.0
    """An alert of the same name and place, on another instance, that starts within this of the last one is the same
    onset; so is one that has started over and over."""
    repeat_seconds: float = 5.0
    """The very same alert goes on only where it starts anew within this, until it has started anew within
    `again_seconds` twice: it is another fault as likely as the same, and what is folded can't be told apart any more."""
    flap_seconds: float = 120.0
    """One that has come back within this after it was resolved is flapping: from then on it is over only when it has been
    quiet for as long."""
    tell_seconds: float = 60.0
    """How often the count of one that is repeated is told anew, unless it has doubled."""
    tenant: str = "default"


class _Onset(msgspec.Struct):
    """Alerts of one name and place that began together: one signal."""

    signal: Signal
    last_ns: int  # newest start
    firing: int = 0  # alerts
    count: int = 0  # alerts folded into it, those not told of yet as well
    told_score: float = 0.0
    is_flapping: bool = False
    is_resolved: bool = False  # said to be over, not only started anew or forgotten
    anew: int = 0  # how often one of its alerts has started anew soon, that before this onset included


class _Firing(msgspec.Struct):
    onset: str  # signal id
    starts_ns: int
    seen_ns: int


class ExternalAlerts:
    """One signal per (alert name, service, peer) and onset: instances and repeats are folded into its count.

    A signal starts when the alert says it started, not when it came in, so that neither a late delivery nor the cut
    of batches moves it. The same alert with a new start, long after the last, is a new onset.
    """

    name = "external_alert"

    def __init__(self, config: ExternalAlertConfig | None = None) -> None:
        self._c = config or ExternalAlertConfig()
        self._firing: dict[str, _Firing] = {}
        self._onsets: dict[str, _Onset] = {}  # by signal id
        self._newest: dict[str, str] = {}  # key -> signal id
        self._quiet: dict[str, int] = {}  # signal id -> since when none of its alerts fires
        self._ended_ns: dict[str, int] = {}  # key -> when it was over, of those that could be flapping
        self._sweep_ns = 0

    def step(self, window: BucketWindow) -> list[Signal]:
        """Signals that opened, grew or closed. About 1 us per alert."""
        news: dict[str, int] = {}  # signal id -> alerts
        firing, onsets, again_ns = self._firing, self._onsets, int(self._c.again_seconds * 1e9)
        repeat_ns = int(self._c.repeat_seconds * 1e9)
        for alert in window.alerts:
            at = alert.fingerprint or f"{alert.name}|{alert.service}|{alert.instance}"
            if alert.status != "firing":
                self._end(at, window.ts_ns, is_resolved=True)
                continue
            held, left, anew = firing.get(at), "", 0
            if held is not None:
                onset = onsets[held.onset]
                after_ns = alert.starts_ns - onset.last_ns
                if -again_ns <= after_ns <= (again_ns if onset.anew >= _OFTEN else repeat_ns):
                    if after_ns > 0:
                        onset.last_ns = held.starts_ns = alert.starts_ns
                        onset.anew += 1
                elif held.starts_ns != alert.starts_ns:
                    self._end(at, window.ts_ns)
                    anew = onset.anew + 1 if 0 < after_ns <= again_ns else 0
                    left, held = held.onset, None
            if held is None:
                held = firing[at] = _Firing(self._onset(alert, window, left), alert.starts_ns, window.ts_ns)
                onsets[held.onset].firing += 1
                onsets[held.onset].anew = max(onsets[held.onset].anew, anew)
                self._quiet.pop(held.onset, None)
            held.seen_ns = window.ts_ns
            news[held.onset] = news.get(held.onset, 0) + 1
            if alert.severity:
                self._raise(held.onset, _SCORES.get(alert.severity.lower(), _DEFAULT_SCORE))
        self._forget(window.ts_ns)
        out = []
        for onset_id, count in news.items():
            onset = onsets[onset_id]
            onset.count += count
            if onset.firing and self._is_worth_telling(onset, window.ts_ns):
                onset.signal = msgspec.structs.replace(onset.signal, end_ns=window.ts_ns, count=onset.count)
                onset.told_score = onset.signal.score
                out.append(onset.signal)
        return sorted([*out, *self._ended(window.ts_ns)], key=lambda s: (s.key, s.start_ns, s.id))

    def _is_worth_telling(self, onset: _Onset, now_ns: int) -> bool:
        """New, worse, many more, or not told of for a minute: an alert that is repeated all the time is no news."""
        s = onset.signal
        return (s.count == 0 or s.score > onset.told_score or onset.count > 2 * s.count
                or now_ns - s.end_ns >= self._c.tell_seconds * 1e9)

    def signal_of(self, fingerprint: str) -> str:
        """The signal that a firing alert is folded into; "" where it does not fire."""
        held = self._firing.get(fingerprint)
        return held.onset if held else ""

    def _onset(self, alert: ExternalAlert, window: BucketWindow, left: str) -> str:
        """The onset that an alert belongs to, a new one where it starts long before or after the newest, or has just
        `left` that one."""
        peer = next((value for name, value in alert.labels if name in _PEER_LABELS and value != alert.service), "")
        key = f"alert|{alert.name}|{alert.service}" + (f"|{peer}" if peer else "")
        start_ns = min(alert.starts_ns or window.ts_ns, window.ts_ns + window.bucket_ns)
        newest = self._onsets.get(self._newest.get(key, ""))
        if newest is not None and (newest.signal.id != left or newest.is_flapping):
            within = self._c.flap_seconds if newest.is_flapping else self._c.again_seconds
            if newest.signal.start_ns - within * 1e9 <= start_ns <= newest.last_ns + within * 1e9:
                newest.last_ns = max(newest.last_ns, start_ns)
                return newest.signal.id
        ended_ns = self._ended_ns.pop(key, None)
        score = _SCORES.get(alert.severity.lower(), _DEFAULT_SCORE)
        parts = (self._c.tenant, self.name, alert.service, peer, key, str(start_ns))
        signal = Signal(
            str(uuid.uuid5(NAMESPACE, "\x1f".join(parts))), self._c.tenant, self.name, "alert", alert.service, start_ns,
            window.ts_ns, score, key, peer=peer, instance=alert.instance, series=alert.name, count=0,
            evidence=(Evidence(f"alert {alert.name[:80]} fires"),))
        if signal.id not in self._onsets:
            self._onsets[signal.id] = _Onset(
                signal, start_ns,
                is_flapping=ended_ns is not None and window.ts_ns - ended_ns <= self._c.flap_seconds * 1e9)
        if newest is None or start_ns > newest.signal.start_ns:
            self._newest[key] = signal.id
        return signal.id

    def _raise(self, onset_id: str, score: float) -> None:
        onset = self._onsets[onset_id]
        if score > onset.signal.score:
            onset.signal = msgspec.structs.replace(onset.signal, score=score)

    def _end(self, at: str, now_ns: int, *, is_resolved: bool = False) -> None:
        held = self._firing.pop(at, None)
        if held is not None:
            onset = self._onsets[held.onset]
            onset.firing -= 1
            onset.is_resolved |= is_resolved
            if not onset.firing:
                self._quiet[held.onset] = now_ns

    def _forget(self, now_ns: int) -> None:
        """Alerts that nobody has repeated for long, looked for once a minute; and the oldest of too many."""
        if now_ns >= self._sweep_ns:
            self._sweep_ns = now_ns + 60 * 10**9
            limit_ns = now_ns - int(self._c.forget_after_seconds * 1e9)
            for at in [at for at, held in self._firing.items() if held.seen_ns < limit_ns]:
                self._end(at, now_ns)
            since_ns = now_ns - int(self._c.flap_seconds * 1e9)
            self._ended_ns = {key: ns for key, ns in self._ended_ns.items() if ns >= since_ns}
        while len(self._firing) > self._c.max_alerts:
            self._end(next(iter(self._firing)), now_ns)

    def _ended(self, now_ns: int) -> list[Signal]:
        """Close onsets none of whose alerts fires; one that flaps is given time to come back."""
        out = []
        for onset_id, since_ns in list(self._quiet.items()):
            onset = self._onsets[onset_id]
            if onset.is_flapping and now_ns - since_ns < self._c.flap_seconds * 1e9:
                continue
            del self._onsets[onset_id], self._quiet[onset_id]
            if self._newest.get(onset.signal.key) == onset_id:
                del self._newest[onset.signal.key]
            if onset.is_resolved:
                self._ended_ns[onset.signal.key] = now_ns
            out.append(msgspec.structs.replace(onset.signal, is_open=False, end_ns=now_ns, count=onset.count))
        return out

    def snapshot(self) -> bytes:
        return msgspec.msgpack.encode({"firing": self._firing, "onsets": list(self._onsets.values()),
                                       "newest": self._newest, "quiet": self._quiet, "ended": self._ended_ns,
                                       "sweep": self._sweep_ns})

    def restore(self, data: bytes) -> None:
        """Go on from `snapshot`; what fired in a state from before there were onsets has to be told again."""
        state = msgspec.msgpack.decode(data)
        self._firing = msgspec.convert(state["firing"], dict[str, _Firing]) if "onsets" in state else {}
        self._onsets = {o.signal.id: o for o in msgspec.convert(state.get("onsets", []), list[_Onset])}
        self._newest = msgspec.convert(state.get("newest", {}), dict[str, str])
        self._quiet = msgspec.convert(state.get("quiet", {}), dict[str, int])
        self._ended_ns = msgspec.convert(state.get("ended", {}), dict[str, int])
        self._sweep_ns = state.get("sweep", 0)
