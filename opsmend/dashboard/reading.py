"""What one page reads from the port, each thing once, and what may be a moment old from memory."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeVar

from detect.types import Incident, Observations
from ingest.types import SeriesKey
from opsmend.api.port import ServicePort, ServiceStatus
from opsmend.dashboard.words import NS
from remediate.ports import RepairsControl
from remediate.types import Outcome, Plan, Run
from rootcause.types import Diagnosis, ServiceGraph

T = TypeVar("T")


class Memory:
    """Values for a while, shared by all pages of an app. Bounded; thread-safe."""

    def __init__(self, most: int = 500) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._held: OrderedDict[Hashable, tuple[float, Any]] = OrderedDict()

    def held(self, key: Hashable, seconds: float, make: Callable[[], T]) -> T:
        """What `make` gave at most `seconds` ago (wall clock), else what it gives now."""
        with self._lock:
            found = self._held.get(key)
        if found is not None and time.monotonic() < found[0]:
            value: T = found[1]
            return value
        value = make()
        with self._lock:
            self._held[key] = (time.monotonic() + seconds, value)
            self._held.move_to_end(key)
            while len(self._held) > self._most:
                self._held.popitem(last=False)
        return value


@dataclass
class Reading:
    """One look at the port; everything of one page is as of the same moment."""

    port: ServicePort
    memory: Memory
    now_ns: int = field(init=False)

    def __post_init__(self) -> None:
        self.now_ns = self.port.now_ns()

    @cached_property
    def control(self) -> RepairsControl:
        return self.port.control()

    @cached_property
    def graph(self) -> ServiceGraph:
        return self.port.graph()

    @cached_property
    def services(self) -> list[ServiceStatus]:
        return list(self.port.services())

    @cached_property
    def plans_of(self) -> dict[str, list[Plan]]:
        """Incident -> its plans among the newest, newest first."""
        out: dict[str, list[Plan]] = {}
        for plan in self.port.plans(limit=300):
            out.setdefault(plan.incident_id, []).append(plan)
        return out

    @cached_property
    def runs_of(self) -> dict[str, list[Run]]:
        """Incident -> its runs among the newest, newest first."""
        out: dict[str, list[Run]] = {}
        for run in self.port.runs(limit=100):
            out.setdefault(run.incident_id, []).append(run)
        return out

    @cached_property
    def outcomes(self) -> dict[str, Outcome]:
        """Run -> outcome, of the newest."""
        return {o.run_id: o for o in self.port.outcomes(limit=300)}

    def diagnosis(self, incident: Incident) -> Diagnosis | None:
        """The latest; that of an incident that has ended does not change any more."""
        seconds = 0.0 if incident.state == "open" else 60.0
        return self.memory.held(("diagnosis", incident.id), seconds, lambda: self.port.diagnosis(incident.id))

    def held(self, incident: Incident) -> str:
        """See ServicePort. "" of one that has ended: nothing is planned for it anyway."""
        if incident.state != "open":
            return ""
        return self.memory.held(("held", incident.id), 5.0, lambda: self.port.held(incident.id))

    def observations(self, start_ns: int, end_ns: int, keep: Callable[[SeriesKey], bool], key: Hashable, *,
                     with_forecast: bool = False) -> Observations:
        """Read once for each event time: nothing of it changes in between."""
        seconds = 30.0 if end_ns < self.now_ns - 5 * NS else 2.0
        return self.memory.held(("observations", key, start_ns, end_ns), seconds,
                                lambda: self.port.observations(start_ns, end_ns, keep, with_forecast=with_forecast))
