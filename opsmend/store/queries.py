"""Reads for the API, the dashboard and the command line. None of them blocks the writer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import msgspec
import numpy as np
import sqlalchemy as sa

from detect.types import Incident, IncidentState, Observations
from ingest.types import Change, DeadLetter, SeriesKey
from opsmend.store import tables as t
from opsmend.store.bodies import UNREADABLE, Bodies, Unreadable
from opsmend.store.engine import reading
from rootcause.types import Diagnosis

_INCIDENT, _DIAGNOSIS = msgspec.json.Decoder(Incident), msgspec.json.Decoder(Diagnosis)
_CHANGE = msgspec.json.Decoder(Change)
_BAND_BYTES = 12  # three float32
_OBSERVED = msgspec.msgpack.Decoder(tuple[list[int], list[float]])


class Queries:
    """Read-only view of the store. Lists leave out what can't be read (see `Bodies`)."""

    def __init__(self, engine: sa.Engine, bodies: Bodies | None = None) -> None:
        self._engine = engine
        self._bodies = bodies or Bodies()
        self._keys: dict[int, SeriesKey] = {}

    def incidents(self, *, state: IncidentState | None = None, before_ns: int | None = None,
                  limit: int = 100) -> Sequence[Incident]:
        """Newest first; `before_ns` pages by opening time."""
        query = sa.select(t.incidents.c.id, t.incidents.c.body).order_by(t.incidents.c.opened_ns.desc(), t.incidents.c.id)
        if state is not None:
            query = query.where(t.incidents.c.state == state)
        if before_ns is not None:
            query = query.where(t.incidents.c.opened_ns < before_ns)
        with reading(self._engine) as c:
            return self._bodies.read(c, query, _INCIDENT.decode, limit)

    def incident(self, incident_id: str) -> Incident | None:
        """Raises Unreadable where what is stored of it can't be read."""
        with reading(self._engine) as c:
            row = c.execute(sa.select(t.incidents.c.body).where(t.incidents.c.id == incident_id)).first()
        try:
            return _INCIDENT.decode(row.body) if row else None
        except UNREADABLE as error:
            raise Unreadable(f"what is stored of incident {incident_id} can't be read: {error}") from error

    def diagnoses(self, incident_id: str, limit: int = 50, *, until_ns: int = 2**63 - 1) -> Sequence[Diagnosis]:
        """Newest first; those made up to `until_ns`."""
        query = (sa.select(t.diagnoses.c.incident_id, t.diagnoses.c.body)
                 .where(t.diagnoses.c.incident_id == incident_id, t.diagnoses.c.ts_ns <= until_ns)
                 .order_by(t.diagnoses.c.ts_ns.desc()))
        with reading(self._engine) as c:
            return self._bodies.read(c, query, _DIAGNOSIS.decode, limit)

    def changes(self, start_ns: int, end_ns: int) -> Sequence[Change]:
        """Oldest first."""
        query = (sa.select(t.changes.c.id, t.changes.c.body).where(t.changes.c.ts_ns >= start_ns, t.changes.c.ts_ns <= end_ns)
                 .order_by(t.changes.c.ts_ns, t.changes.c.id))
        with reading(self._engine) as c:
            return self._bodies.read(c, query, _CHANGE.decode)

    def dead_letters(self, limit: int = 100) -> Sequence[DeadLetter]:
        query = sa.select(t.dead_letters).order_by(t.dead_letters.c.timestamp_ms.desc()).limit(limit)
        with reading(self._engine) as c:
            return [DeadLetter(**row._mapping) for row in c.execute(query)]

    def totals(self) -> dict[str, int]:
        """What was ingested since the store was made, each record counted once."""
        with reading(self._engine) as c:
            return {row[0]: int(row[1]) for row in c.execute(sa.select(t.ingest_totals))}

    def observations(self, start_ns: int, end_ns: int, keep: Callable[[SeriesKey], bool] | None = None, *,
                     with_forecast: bool = False) -> Observations:
        """Buckets with start_ns <= ts <= end_ns that can be read; only the series that `keep` accepts. What had been
        forecast is read only when asked for: it is as large as the values."""
        of = t.observations.c
        columns = [of.ts_ns, of.seat, of.body, *([of.forecast] if with_forecast else [])]
        query = (sa.select(*columns).where(of.ts_ns >= start_ns, of.ts_ns <= end_ns).order_by(of.ts_ns, of.seat))
        with reading(self._engine) as c:
            found = [(row, self._bodies.one("observations", f"{row.ts_ns}/{row.seat}", row.body, _OBSERVED.decode))
                     for row in c.execute(query)]
            self._learn_keys(c)
        rows, decoded = [row for row, body in found if body is not None], [body for _, body in found if body is not None]
        there = {i for ids, _ in decoded for i in ids}  # `keep` is asked once per series, not once per point
        named = ((i, self._keys[i]) for i in there if i in self._keys)  # but for those whose name can't be read
        wanted = sorted(i for i, key in named if keep is None or keep(key))
        column = {series_id: at for at, series_id in enumerate(wanted)}
        times = sorted({r.ts_ns for r in rows})  # of members that share the store, a bucket has a row each
        row_of = {ts_ns: at for at, ts_ns in enumerate(times)}
        values = np.full((len(times), len(wanted)), np.nan)
        told = np.full((len(times), len(wanted), 3), np.nan, np.float32) if with_forecast else None
        for row, (ids, points) in zip(rows, decoded, strict=True):
            at = row_of[row.ts_ns]
            for series_id, point in zip(ids, points, strict=True):
                if (to := column.get(series_id)) is not None:
                    values[at, to] = point
            if told is not None and len(row.forecast or b"") == _BAND_BYTES * len(ids):
                bands = np.frombuffer(row.forecast, "<f4").reshape(-1, 3)
                for source, series_id in enumerate(ids):
                    if (to := column.get(series_id)) is not None:
                        told[at, to] = bands[source]
        return Observations(np.array(times, dtype=np.int64),
                            tuple(self._keys[i] for i in wanted), values, told)

    def newest_observation_ns(self) -> int:
        """The newest closed bucket, 0 if there is none."""
        with reading(self._engine) as c:
            return c.execute(sa.select(sa.func.max(t.observations.c.ts_ns))).scalar_one() or 0

    def _learn_keys(self, c: sa.Connection) -> None:
        newest = max(self._keys, default=0)
        for row in c.execute(sa.select(t.series).where(t.series.c.id > newest)):
            key = self._bodies.one("series", str(row.id), row.key, partial(msgspec.json.decode, type=SeriesKey))
            if key is not None:
                self._keys[row.id] = key
