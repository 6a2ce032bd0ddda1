"""The schema, as SQLAlchemy Core. Migrations in `opsmend/store/migrations` follow it.

Bodies are msgspec JSON of the stage types; what is searched for has a column of its own.
"""

from __future__ import annotations

import sqlalchemy as sa

metadata = sa.MetaData()

watermarks = sa.Table(
    "watermarks", metadata,
    sa.Column("topic", sa.Text, primary_key=True),
    sa.Column("partition", sa.Integer, primary_key=True),
    sa.Column("next_offset", sa.BigInteger, nullable=False),
)
requests = sa.Table(  # what came over HTTP, to know it when it is sent again; bounded by age (opsmend/retries.py)
    "requests", metadata,
    sa.Column("seq", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
    sa.Column("digest", sa.LargeBinary, nullable=False),
    sa.Column("seen_ms", sa.BigInteger, nullable=False, index=True),
)
stage_state = sa.Table(
    "stage_state", metadata,
    sa.Column("stage", sa.Text, primary_key=True),
    sa.Column("body", sa.LargeBinary, nullable=False),
)
quarantine = sa.Table(  # rows that could not be read and had to give way; bounded (opsmend/store/records.py)
    "quarantine", metadata,
    sa.Column("seq", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
    sa.Column("table", sa.Text, nullable=False),
    sa.Column("row", sa.Text, nullable=False),  # its key
    sa.Column("at_ns", sa.BigInteger, nullable=False),  # wall clock
    sa.Column("detail", sa.Text, nullable=False),
    sa.Column("body", sa.LargeBinary, nullable=False),
)
ingest_totals = sa.Table(  # written with the watermark, so they count each record once
    "ingest_totals", metadata,
    sa.Column("what", sa.Text, primary_key=True),  # records, duplicates, logs, points, spans, alerts, changes, dead, late
    sa.Column("count", sa.BigInteger, nullable=False),
)
dead_letters = sa.Table(
    "dead_letters", metadata,
    sa.Column("topic", sa.Text, primary_key=True),
    sa.Column("partition", sa.Integer, primary_key=True),
    sa.Column("offset", sa.BigInteger, primary_key=True),
    sa.Column("timestamp_ms", sa.BigInteger, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("detail", sa.Text, nullable=False),
    sa.Column("value", sa.LargeBinary, nullable=False),
)
incidents = sa.Table(
    "incidents", metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("tenant", sa.Text, nullable=False),
    sa.Column("state", sa.Text, nullable=False, index=True),
    sa.Column("severity", sa.Text, nullable=False),
    sa.Column("opened_ns", sa.BigInteger, nullable=False, index=True),
    sa.Column("updated_ns", sa.BigInteger, nullable=False),
    sa.Column("body", sa.LargeBinary, nullable=False),
)
corrections = sa.Table(  # what people changed about incidents, in the order in which it counts
    "corrections", metadata,
    sa.Column("seq", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
    sa.Column("id", sa.Text, nullable=False, unique=True),
    sa.Column("at_ns", sa.BigInteger, nullable=False),
    sa.Column("body", sa.LargeBinary, nullable=False),
)
confirmed_causes = sa.Table(  # what people say the cause was, with the window that it can be seen in
    "confirmed_causes", metadata,
    sa.Column("incident_id", sa.Text, primary_key=True),
    sa.Column("at_ns", sa.BigInteger, nullable=False, index=True),
    sa.Column("body", sa.LargeBinary, nullable=False),
    sa.Column("window", sa.LargeBinary, nullable=False),  # opsmend.causes.packed
)
diagnoses = sa.Table(
    "diagnoses", metadata,
    sa.Column("incident_id", sa.Text, primary_key=True),
    sa.Column("ts_ns", sa.BigInteger, primary_key=True),
    sa.Column("body", sa.LargeBinary, nullable=False),
)
changes = sa.Table(
    "changes", metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("ts_ns", sa.BigInteger, nullable=False, index=True),
    sa.Column("service", sa.Text, nullable=False),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("body", sa.LargeBinary, nullable=False),
)
observations = sa.Table(  # a row per closed bucket and seat: msgpack {series index: value}; bounded by retention
    "observations", metadata,
    sa.Column("ts_ns", sa.BigInteger, primary_key=True),
    sa.Column("seat", sa.Integer, primary_key=True, server_default="0"),
    sa.Column("body", sa.LargeBinary, nullable=False),
    sa.Column("forecast", sa.LargeBinary),  # float32 [series of body, 3]: what had been forecast
)
series = sa.Table(
    "series", metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("key", sa.LargeBinary, nullable=False, unique=True),
)
plans = sa.Table(
    "plans", metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("incident_id", sa.Text, nullable=False, index=True),
    sa.Column("state", sa.Text, nullable=False, index=True),
    sa.Column("created_ns", sa.BigInteger, nullable=False),
    sa.Column("body", sa.LargeBinary, nullable=False),
)
runs = sa.Table(
    "runs", metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("plan_id", sa.Text, nullable=False),
    sa.Column("incident_id", sa.Text, nullable=False, index=True),
    sa.Column("service", sa.Text, nullable=False, index=True),
    sa.Column("action", sa.Text, nullable=False),
    sa.Column("state", sa.Text, nullable=False, index=True),
    sa.Column("started_ns", sa.BigInteger, nullable=False),
    sa.Column("body", sa.LargeBinary, nullable=False),
)
steps = sa.Table(
    "steps", metadata,
    sa.Column("run_id", sa.Text, primary_key=True),
    sa.Column("step_id", sa.Text, primary_key=True),
    sa.Column("position", sa.Integer, nullable=False, default=0),
    sa.Column("body", sa.LargeBinary, nullable=False),
)
outcomes = sa.Table(
    "outcomes", metadata,
    sa.Column("run_id", sa.Text, primary_key=True),
    sa.Column("fault_signature", sa.Text, nullable=False, index=True),
    sa.Column("action", sa.Text, nullable=False, index=True),
    sa.Column("verdict", sa.Text, nullable=False),
    sa.Column("ts_ns", sa.BigInteger, nullable=False),
    sa.Column("incident_id", sa.Text, nullable=False, index=True, server_default=""),
    sa.Column("service", sa.Text, nullable=False, server_default=""),
    sa.Column("body", sa.LargeBinary, nullable=False),
)
repairs_control = sa.Table(  # one row: the kill switch survives every restart
    "repairs_control", metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("mode", sa.Text, nullable=False),
    sa.Column("stopped", sa.Boolean, nullable=False),
    sa.Column("changed_by", sa.Text, nullable=False),
    sa.Column("changed_ns", sa.BigInteger, nullable=False),
)
service_leases = sa.Table(  # one run per service
    "service_leases", metadata,
    sa.Column("service", sa.Text, primary_key=True),
    sa.Column("run_id", sa.Text, nullable=False),
)
events = sa.Table(  # outbox: server-sent events, webhooks and topics read from here
    "events", metadata,
    sa.Column("seq", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
    sa.Column("type", sa.Text, nullable=False),
    sa.Column("subject", sa.Text, nullable=False),
    sa.Column("ts_ns", sa.BigInteger, nullable=False),
    sa.Column("body", sa.LargeBinary, nullable=False),
    sqlite_autoincrement=True,
)
role_deaths = sa.Table(  # what our own roles died of
    "role_deaths", metadata,
    sa.Column("role", sa.Text, primary_key=True),
    sa.Column("reason", sa.Text, primary_key=True),
    sa.Column("times", sa.BigInteger, nullable=False),
    sa.Column("last_ns", sa.BigInteger, nullable=False),  # wall clock
    sa.Column("detail", sa.Text, nullable=False),
)
outlet_cursors = sa.Table(  # how far each receiver of events has got
    "outlet_cursors", metadata,
    sa.Column("sink", sa.Text, primary_key=True),
    sa.Column("seq", sa.BigInteger, nullable=False),
)
