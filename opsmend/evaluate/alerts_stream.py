"""The service's own convergence on a storm: alerts come in bucket by bucket, incidents open, split and merge."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np

from detect.config import DetectionConfig
from detect.convergence.converge import Convergence, ConvergenceConfig
from detect.detectors.base import BucketWindow
from detect.detectors.external_alert import ExternalAlerts
from detect.types import Incident
from ingest.types import ExternalAlert
from opsmend.evaluate.alerts_data import RawAlert
from opsmend.evaluate.alerts_scores import Labels
from opsmend.evaluate.alerts_storms import Storm

_EPOCH_S: Final = 1_700_000_000


def stream(storm: Storm, config: ConvergenceConfig | None = None) -> Iterator[tuple[float, Labels, list[Incident]]]:
    """(seconds, labels of the alerts that have come in so far, what was said) after each bucket of 10 s.

    Labels number the incidents in the order in which they were first told; -1: in none yet.
    """
    convergence = Convergence(config or ConvergenceConfig(), "eval")
    convergence.learn_hosts(dict(sorted(storm.hosts)))
    detector = ExternalAlerts()
    seconds = DetectionConfig().bucket_seconds
    numbers: dict[str, int] = {}
    incident_of: dict[str, str] = {}  # signal -> incident, as told
    heir: dict[str, str] = {}
    signal_of: list[str] = []
    done = 0
    for bucket in range(int(storm.alerts[0].at_s // seconds), int(storm.alerts[-1].at_s // seconds) + 1):
        until = (bucket + 1) * seconds
        new: list[RawAlert] = []
        while done + len(new) < len(storm.alerts) and storm.alerts[done + len(new)].at_s < until:
            new.append(storm.alerts[done + len(new)])
        done += len(new)
        window = BucketWindow(_ns(bucket * seconds), int(seconds * 1e9), (), np.zeros(0),
                              alerts=tuple(_external(a) for a in new))
        signals = detector.step(window)
        signal_of.extend(detector.signal_of(_fingerprint(a)) for a in new)
        told = convergence.step(window.ts_ns, signals, storm.calls, storm.hosts)
        for incident in told:
            if incident.state == "merged":
                heir[incident.id] = incident.merged_into
            else:
                incident_of.update((s.id, incident.id) for s in incident.signals)
        yield until, _labels(signal_of, incident_of, heir, numbers), told


def _labels(signal_of: list[str], incident_of: dict[str, str], heir: dict[str, str], numbers: dict[str, int]) -> Labels:
    label: dict[str, int] = {"": -1}
    for signal in dict.fromkeys(signal_of):
        incident_id = incident_of.get(signal, "")
        while incident_id in heir:
            incident_id = heir[incident_id]
        label[signal] = numbers.setdefault(incident_id, len(numbers)) if incident_id else -1
    return np.array([label[signal] for signal in signal_of], dtype=np.int64)


def opsmend(storm: Storm, config: ConvergenceConfig | None = None) -> Labels:
    """Labels of all alerts once the storm is over."""
    last: Labels = np.zeros(0, dtype=np.int64)
    for _, labels, _ in stream(storm, config):
        last = labels
    return last


def _external(alert: RawAlert) -> ExternalAlert:
    labels = (("peer", alert.peer),) if alert.peer else ()
    return ExternalAlert(alert.name, alert.service, _fingerprint(alert), "firing", _ns(alert.at_s), 0,
                         instance=alert.host, labels=labels)


def _fingerprint(alert: RawAlert) -> str:
    return f"{alert.name}|{alert.service}|{alert.peer}"


def _ns(seconds: float) -> int:
    return _EPOCH_S * 10**9 + round(seconds * 1e9)
