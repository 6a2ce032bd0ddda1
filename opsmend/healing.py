"""From diagnoses to plans: looks at the open incidents after every committed step, and submits plans."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final, Literal

import structlog

from detect.types import Incident
from ingest.errors import OpsmendError
from opsmend.store.engine import REFUSED, store_error
from opsmend.store.queries import Queries
from remediate.planner.planner import Planner
from remediate.ports import Ledger, Observer, Unclear
from remediate.repair import Repair
from remediate.types import Outcome, Plan
from rootcause.types import Diagnosis

log = structlog.get_logger()
_PATIENCE_NS = 30 * 10**9
_PAUSE_SECONDS: Final = 5.0
"""After a turn that failed in a way nobody foresaw: it is likely to fail again, and there are several in a second."""
Place = Literal["repairs", "incidents", "planning"]


class HealerBug(OpsmendError):
    """Something nobody foresaw. `reason` is where: a `Place`."""

    def __init__(self, place: Place, error: Exception) -> None:
        super().__init__(repr(error), reason=place)


class Healer:
    """One thread. An incident is planned for when it has ripened, and again after a repair that did not help."""

    def __init__(self, planner: Planner, repair: Repair, ledger: Ledger, observer: Observer, queries: Queries, *,
                 ripen_seconds: float, on_bug: Callable[[str], None] = lambda place: None,
                 on_put_off: Callable[[str, str], None] = lambda place, reason: None) -> None:
        self._planner, self._repair, self._ledger = planner, repair, ledger
        self._observer, self._queries = observer, queries
        self._ripen_ns = int(ripen_seconds * 1e9)
        self._on_bug, self._on_put_off = on_bug, on_put_off
        self._wake, self._stop = threading.Event(), threading.Event()
        self._refused: dict[str, int] = {}  # incident -> event time before which it is not planned for again
        self._thread = threading.Thread(target=self._run, name="healer", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def wake(self) -> None:
        """Something was committed."""
        self._wake.set()

    def stop(self) -> None:
        self._stop.set()
        self._wake.set()
        self._thread.join(5)

    def _run(self) -> None:
        while not self._stop.is_set():
            self._wake.wait(1.0)
            self._wake.clear()
            if not self.turn():
                self._stop.wait(_PAUSE_SECONDS)

    def turn(self) -> bool:
        """One look at everything that is open. False where a part of it failed in a way nobody foresaw; that is counted,
        and the other part is done all the same."""
        return all([self._safely("repairs", self._repair.tick), self._safely("incidents", self._look)])

    def _safely(self, place: Place, part: Callable[[], None]) -> bool:
        try:
            with _named(place):
                part()
        except HealerBug as error:
            self._bug(error)
            return False
        except OpsmendError as error:
            # The store may be away for a moment; nothing was started, and the next turn looks again.
            self._on_put_off(place, error.reason)
            log.warning("healer.turn_failed", place=place, reason=error.reason, error=str(error))
        return True

    def _bug(self, error: HealerBug, **about: str) -> None:
        self._on_bug(error.reason)
        log.error("healer.bug", place=error.reason, error=str(error), exc_info=error.__cause__, **about)

    def _look(self) -> None:
        now = self._observer.now_ns()
        incidents = self._queries.incidents(state="open", limit=200)
        for incident in sorted(incidents, key=lambda i: (i.opened_ns, i.id)):
            if now - incident.opened_ns < self._ripen_ns or now < self._refused.get(incident.id, 0):
                continue
            try:
                self._consider(incident, now)
            except Unclear as error:
                # What was tried, or what a person rejected, may be in there: this one is for people, the others go on.
                self._refused[incident.id] = now + _PATIENCE_NS
                self._on_put_off("planning", error.reason)
                log.error("healer.held", incident_id=incident.id, reason=error.reason, error=str(error))
        still_open = {i.id for i in incidents}
        self._refused = {i: until for i, until in self._refused.items() if i in still_open}

    def _consider(self, incident: Incident, now: int) -> None:
        """One incident that has ripened. Raises Unclear where what was done about it can't be read: it might be done again,
        or against a person's word. What limits count is read by the gates, see `remediate.ports.Ledger`."""
        plans = self._ledger.plans(incident_id=incident.id)
        if any(p.state in ("proposed", "approved", "running") for p in plans):
            return
        tried = self._ledger.outcomes(incident_id=incident.id, limit=200)
        if any(o.verdict == "fixed" and now - o.ts_ns < _PATIENCE_NS for o in tried):
            return  # a verified repair gets time for the last signals to close before anything else is tried
        diagnoses = self._queries.diagnoses(incident.id, limit=1)
        if diagnoses:
            self._plan_safely(incident, diagnoses[0], tried, now)

    def _plan_safely(self, incident: Incident, diagnosis: Diagnosis, tried: Sequence[Outcome], now: int) -> None:
        """An error nobody foresaw in planning one incident must not keep all others from being mended."""
        try:
            with _named("planning"):
                self._plan(incident, diagnosis, tried, now)
        except HealerBug as error:
            self._bug(error, incident_id=incident.id)
            self._refused[incident.id] = now + _PATIENCE_NS

    def _plan(self, incident: Incident, diagnosis: Diagnosis, tried: Sequence[Outcome], now: int) -> None:
        result = asyncio.run(self._planner.plan(incident, diagnosis, self._observer.graph(), tried, now))
        if not isinstance(result, Plan):
            self._refused[incident.id] = now + 2 * 10**9
            return
        stored = self._repair.submit(result)
        if stored.state == "blocked":
            # What a gate stopped is looked at again later, as a plan of that later moment.
            self._refused[incident.id] = now + 5 * 10**9


@contextmanager
def _named(place: Place) -> Iterator[None]:
    """Every error gets a name: what the database says, or that it is busy, is StoreError; what is none of ours is HealerBug."""
    try:
        yield
    except OpsmendError:
        raise
    except REFUSED as error:
        raise store_error(error) from error
    except Exception as error:
        raise HealerBug(place, error) from error
