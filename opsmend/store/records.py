"""What the pipeline writes: results, stage states and watermark of one step in one transaction.

That single transaction is why nothing is lost and nothing counted twice, whatever dies.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import msgspec
import numpy as np
import sqlalchemy as sa

from detect.types import Incident, Observations
from ingest.errors import OpsmendError
from ingest.types import Change, DeadLetter, SeriesKey, Watermark
from opsmend.retries import SeenRequest
from opsmend.store import tables as t
from opsmend.store.bodies import UNREADABLE, Bodies, UnreadableState
from opsmend.store.engine import reading
from opsmend.store.outbox import add_event, trim_events
from rootcause.types import Diagnosis

REFUSED = "io.opsmend.records.refused"
"""The event of a step's dead letters; its body lists their (topic, partition, offset)."""
_QUARANTINED = 1000
_RACES = 3
"""How often a commit is tried that met a row which another member had just made."""
_NAMESPACE = uuid.UUID("6f1b7a0e-6a0c-5f6e-9b0e-0a4f0c1f4f10")


class Fenced(OpsmendError):
    """The stored watermark is not the one that the step began at: somebody else has read these partitions meanwhile,
    or this very step is stored already. Nothing of it was stored now; go on from what is."""

    reason = "fenced"
    is_transient = True


@dataclass(frozen=True)
class StepResult:
    """Everything one pipeline step leads to; committed as a whole or not at all."""

    watermark: Watermark
    states: Mapping[str, bytes]
    totals: Mapping[str, int] = field(default_factory=dict)
    dead_letters: Sequence[DeadLetter] = ()
    incidents: Sequence[Incident] = ()
    diagnoses: Sequence[Diagnosis] = ()
    changes: Sequence[Change] = ()
    observations: Observations | None = None
    requests: Sequence[SeenRequest] = ()
    """Requests over HTTP that were seen for the first time."""
    forget_before_ms: int = 0
    """Requests that were seen before may be forgotten."""


def change_id(change: Change) -> str:
    """UUIDv5 of the content: a replayed change is the same row."""
    return str(uuid.uuid5(_NAMESPACE, msgspec.json.encode(change).decode()))


class Records:
    """Writes steps, and reads back what the pipeline needs to go on. One thread at a time.

    Several members may write to one store, each under its own `seat`. A watermark moves on only from where this object
    knows it to be, in the same transaction as the results: of two members that think a partition theirs, one is told
    `Fenced`, and no record counts twice.
    """

    def __init__(self, engine: sa.Engine, *, retention_seconds: int, seat: int = 0, bodies: Bodies | None = None) -> None:
        self._engine = engine
        self._bodies = bodies or Bodies()
        self._seat = seat
        self._prefix = f"{seat}/" if seat else ""
        self._retention_ns = retention_seconds * 1_000_000_000
        self._series_ids: dict[SeriesKey, int] = {}
        self._steps = 0
        with reading(engine) as c:
            # One that can't be read stays where it is: observations refer to its number, which nothing else may get.
            for row in c.execute(sa.select(t.series)):
                key = self._bodies.one("series", str(row.id), row.key, partial(msgspec.json.decode, type=SeriesKey))
                if key is not None:
                    self._series_ids[key] = row.id
        self._known = dict(self.watermark().next_offsets)

    def commit(self, step: StepResult) -> None:
        """One transaction. Raises Fenced if the watermark is not where it was known to be, and sqlalchemy errors
        untouched: then nothing of the step is stored (as far as we were told)."""
        for attempt in range(_RACES):
            known = dict(self._series_ids)
            try:
                self._commit(step)
                break
            except BaseException as error:
                self._series_ids = known  # the ids that the lost transaction gave out do not exist
                if not isinstance(error, sa.exc.IntegrityError) or attempt == _RACES - 1:
                    raise
        self._known.update(step.watermark.next_offsets)

    def adopt(self, offsets: Mapping[tuple[str, int], int]) -> None:
        """These partitions are read from here on, as `stored` told: what is committed next begins there."""
        self._known.update(offsets)

    def forget(self) -> Watermark:
        """Believe the store alone; returns what it says."""
        watermark = self.watermark()
        self._known = dict(watermark.next_offsets)
        return watermark

    def stored(self, places: Collection[tuple[str, int]]) -> dict[tuple[str, int], int]:
        """See `ingest.transport.Stored`."""
        found = self.watermark().next_offsets
        return {place: found[place] for place in places if place in found}

    def _advance(self, c: sa.Connection, place: tuple[str, int], offset: int) -> None:
        table, known = t.watermarks, self._known.get(place)
        here = [table.c.topic == place[0], table.c.partition == place[1]]
        if known is None:
            if c.execute(sa.select(table.c.next_offset).where(*here)).first() is None:
                c.execute(table.insert().values(topic=place[0], partition=place[1], next_offset=offset))
                return
        elif offset >= known:
            moved = table.update().where(*here, table.c.next_offset == known).values(next_offset=offset)
            if c.execute(moved).rowcount == 1:
                return
        raise Fenced(f"{place[0]}/{place[1]} is not at {known} any more")

    def _commit(self, step: StepResult) -> None:
        with self._engine.begin() as c:
            for place, offset in sorted(step.watermark.next_offsets.items()):
                self._advance(c, place, offset)
            for stage, body in step.states.items():
                _upsert(c, t.stage_state, {"stage": self._prefix + stage}, {"body": body})
            for what, count in sorted(step.totals.items()):  # in one order: members wait for each other, not crosswise
                if count:
                    _add(c, what, count)
            for letter in step.dead_letters:
                fields = msgspec.structs.asdict(letter)
                key = {k: fields.pop(k) for k in ("topic", "partition", "offset")}
                _upsert(c, t.dead_letters, key, fields)
            if step.dead_letters:
                places = [(d.topic, d.partition, d.offset) for d in step.dead_letters]
                add_event(c, REFUSED, "records", step.dead_letters[0].timestamp_ms * 1_000_000, places)
            self._put_requests(c, step)
            for change in step.changes:
                self._put_change(c, change)
            for incident in step.incidents:
                _put_incident(c, incident)
            for diagnosis in step.diagnoses:
                _upsert(c, t.diagnoses, {"incident_id": diagnosis.incident_id, "ts_ns": diagnosis.ts_ns},
                        {"body": msgspec.json.encode(diagnosis)})
                add_event(c, "io.opsmend.incident.diagnosed", diagnosis.incident_id, diagnosis.ts_ns, diagnosis)
            if step.observations is not None:
                self._put_observations(c, step.observations)
            self._steps += 1
            if self._steps % 500 == 0:
                trim_events(c)

    def _put_requests(self, c: sa.Connection, step: StepResult) -> None:
        if step.requests:
            c.execute(t.requests.insert(), [{"digest": r.digest, "seen_ms": r.seen_ms} for r in step.requests])
        if self._steps % 50 == 0 and step.forget_before_ms > 0:
            c.execute(t.requests.delete().where(t.requests.c.seen_ms < step.forget_before_ms))

    def requests(self, limit: int) -> list[SeenRequest]:
        """The newest, in the order in which they were seen."""
        query = sa.select(t.requests).order_by(t.requests.c.seq.desc()).limit(limit)
        with reading(self._engine) as c:
            return [SeenRequest(row.digest, row.seen_ms) for row in c.execute(query)][::-1]

    def _put_change(self, c: sa.Connection, change: Change) -> None:
        _upsert(c, t.changes, {"id": change_id(change)}, {
            "ts_ns": change.ts_ns, "service": change.service, "kind": change.kind,
            "body": msgspec.json.encode(change)})

    def _put_observations(self, c: sa.Connection, seen: Observations) -> None:
        if len(seen.ts_ns) == 0:
            return
        ids = np.array([self._series_id(c, key) for key in seen.series], dtype=np.int64)
        rows = []
        for row, ts_ns in enumerate(seen.ts_ns.tolist()):
            there = ~np.isnan(seen.values[row])
            body = msgspec.msgpack.encode((ids[there].tolist(), seen.values[row][there].tolist()))
            told = None if seen.forecast is None else seen.forecast[row][there]
            rows.append({"ts_ns": ts_ns, "seat": self._seat, "body": body,
                         "forecast": told.astype("<f4").tobytes() if told is not None and np.isfinite(told).any() else None})
        at = t.observations.c.ts_ns
        c.execute(t.observations.delete().where(
            t.observations.c.seat == self._seat, at >= int(seen.ts_ns.min()), at <= int(seen.ts_ns.max())))
        c.execute(t.observations.insert(), rows)
        if self._steps % 50 == 0:
            newest = int(seen.ts_ns.max())
            c.execute(t.observations.delete().where(t.observations.c.ts_ns < newest - self._retention_ns))

    def _series_id(self, c: sa.Connection, key: SeriesKey) -> int:
        if (known := self._series_ids.get(key)) is None:
            encoded = msgspec.json.encode(key)
            row = c.execute(sa.select(t.series.c.id).where(t.series.c.key == encoded)).first()
            if row is None:
                c.execute(t.series.insert().values(key=encoded))
                row = c.execute(sa.select(t.series.c.id).where(t.series.c.key == encoded)).one()
            known = int(row.id)
            self._series_ids[key] = known
        return known

    def watermark(self) -> Watermark:
        """Where to go on reading."""
        with reading(self._engine) as c:
            rows = c.execute(sa.select(t.watermarks))
            return Watermark({(r.topic, r.partition): r.next_offset for r in rows})

    def states(self) -> dict[str, bytes]:
        """The snapshots of our stages, as of the last commit from this seat."""
        with reading(self._engine) as c:
            found = {row.stage: row.body for row in c.execute(sa.select(t.stage_state))}
        if not self._seat:
            return {stage: body for stage, body in found.items() if not stage.partition("/")[0].isdigit()}
        return {stage.removeprefix(self._prefix): body for stage, body in found.items()
                if stage.startswith(self._prefix)}

    def is_alone(self) -> bool:
        """Whether no other member has left a state here."""
        with reading(self._engine) as c:
            found = [stage for (stage,) in c.execute(sa.select(t.stage_state.c.stage))]
        return not self._seat and not any(stage.partition("/")[0].isdigit() for stage in found)

    def quarantine(self, error: UnreadableState) -> None:
        """Keep a copy of states that can't be read before they are overwritten; the newest 1,000 are kept."""
        with self._engine.begin() as c:
            for stage in error.stages:
                here = t.stage_state.c.stage == self._prefix + stage
                if (row := c.execute(sa.select(t.stage_state.c.body).where(here)).first()) is not None:
                    c.execute(t.quarantine.insert().values(table="stage_state", row=self._prefix + stage, at_ns=time.time_ns(),
                                                           detail=str(error), body=row.body))
            newest = c.execute(sa.select(sa.func.max(t.quarantine.c.seq))).scalar_one() or 0
            c.execute(t.quarantine.delete().where(t.quarantine.c.seq <= newest - _QUARANTINED))
        for stage in error.stages:
            self._bodies.tell("stage_state", self._prefix + stage, error)

    def put_alone(self, incident: Incident) -> None:
        """Store one incident outside of a step (a person closed or merged it)."""
        with self._engine.begin() as c:
            _put_incident(c, incident)


def _put_incident(c: sa.Connection, incident: Incident) -> None:
    existed = c.execute(sa.select(t.incidents.c.state, t.incidents.c.body)
                        .where(t.incidents.c.id == incident.id)).first()
    _upsert(c, t.incidents, {"id": incident.id}, {
        "tenant": incident.tenant, "state": incident.state, "severity": incident.severity,
        "opened_ns": incident.opened_ns, "updated_ns": incident.updated_ns,
        "body": msgspec.json.encode(incident)})
    what = "updated"
    if existed is None:
        what = "split" if incident.split_from else "opened"
    elif incident.state != existed.state and incident.state != "open":
        what = incident.state
    add_event(c, f"io.opsmend.incident.{what}", incident.id, incident.updated_ns, incident)
    forecasts = [s for s in incident.signals if s.breach is not None and s.is_open]
    if forecasts:
        known = _signals_of(existed.body) if existed else set()
        for signal in forecasts:
            if signal.id not in known:
                add_event(c, "io.opsmend.breach.predicted", signal.id, signal.start_ns, signal)


def _signals_of(body: bytes) -> set[str]:
    """Ids; none where the body can't be read: it is about to be replaced."""
    try:
        return {s.id for s in msgspec.json.decode(body, type=Incident).signals}
    except UNREADABLE:
        return set()


def _upsert(c: sa.Connection, table: sa.Table, key: dict[str, object], values: dict[str, object]) -> None:
    where = [table.c[name] == value for name, value in key.items()]
    if c.execute(table.update().where(*where).values(**values)).rowcount == 0:
        c.execute(table.insert().values(**key, **values))


def _add(c: sa.Connection, what: str, count: int) -> None:
    totals = t.ingest_totals
    grown = totals.update().where(totals.c.what == what).values(count=totals.c.count + count)
    if c.execute(grown).rowcount == 0:
        c.execute(totals.insert().values(what=what, count=count))
