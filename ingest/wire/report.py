"""What `opsmend wire` tells: which formats a stream of records holds, what came out, whose it is, what was refused."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from ingest.decode import Decoder
from ingest.types import Attributes, Batch, DeadLetter, Level, Record

_TEXT_CHARS = 120


@dataclass(frozen=True)
class Row:
    """One row that came out: `kind` is log, point, span, alert or change; `mark` its level, kind or state."""

    kind: str
    time: str
    service: str
    mark: str
    text: str


@dataclass(frozen=True)
class Report:
    """`counts` has records, formats, logs, points, spans, alerts, changes, dead and reasons."""

    counts: dict[str, Any]
    services: dict[str, int]
    """Service -> rows, most first."""
    dead: Sequence[DeadLetter] = ()
    sample: Sequence[Row] = field(default=())

    def disagreements(self, truth: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
        """What -> (found, wanted) for each count that `truth` names and that is another here. Other kinds of rows than
        those it names must not be there."""
        wanted = {**dict.fromkeys(("logs", "points", "spans", "alerts"), 0), "dead": 0, **truth}
        return {what: (self.counts[what], wanted[what]) for what in wanted
                if what in self.counts and self.counts[what] != wanted[what]}


def describe(records: Sequence[Record], decoder: Decoder | None = None, *, sample: int = 0) -> Report:
    """Reads the records as the service would; `sample` rows of each kind are shown. Costs one decoding."""
    batch = (decoder or Decoder()).decode(records)
    reasons = Counter(letter.reason for letter in batch.dead_letters)
    counts = {
        "records": batch.records_in, "formats": dict(sorted(batch.formats.items())), "logs": len(batch.logs),
        "points": batch.points_in, "spans": len(batch.traces), "alerts": len(batch.alerts),
        "changes": len(batch.changes), "dead": len(batch.dead_letters), "reasons": dict(sorted(reasons.items()))}
    return Report(counts, _services(batch), batch.dead_letters, _sample(batch, sample))


def _services(batch: Batch) -> dict[str, int]:
    found: Counter[str] = Counter(batch.logs.vocab[i] for i in batch.logs.service.tolist() if i >= 0)
    found.update(batch.metrics.series_table[i].service for i in batch.metrics.series.tolist())
    found.update(batch.traces.vocab[i] for i in batch.traces.service.tolist() if i >= 0)
    found.update(change.service for change in batch.changes)
    found.update(alert.service for alert in batch.alerts)
    return dict(sorted(found.items(), key=lambda item: (-item[1], item[0])))


def _envelope(said: Attributes) -> str:
    return f"  (its envelope said {', '.join(f'{name} {value}' for name, value in said)})" if said else ""


def _sample(batch: Batch, count: int) -> list[Row]:
    logs, metrics, traces = batch.logs, batch.metrics, batch.traces
    rows = [_row("log", logs.ts_ns[i], _name(logs.vocab, logs.service[i]), Level(int(logs.level[i])).name,
                 logs.text[i] + _envelope(logs.envelope.get(i, ())))
            for i in range(min(count, len(logs)))]
    for i in range(min(count, len(metrics))):
        key = metrics.series_table[int(metrics.series[i])]
        labels = ",".join(f"{k}={v}" for k, v in key.labels)
        name = f"{key.name}{{{labels}}}" if labels else key.name
        rows.append(_row("point", metrics.ts_ns[i], key.service, key.kind, f"{name} = {metrics.value[i]:.6g}"))
    for i in range(min(count, len(traces))):
        peer = _name(traces.vocab, traces.peer[i])
        rows.append(_row("span", traces.ts_ns[i], _name(traces.vocab, traces.service[i]),
                         "error" if traces.is_error[i] else "ok",
                         f"{int(traces.duration_us[i]) / 1000:.3g} ms" + (f", calls {peer}" if peer else "")))
    rows += [_row("alert", alert.starts_ns, alert.service, alert.status, f"{alert.name}: {alert.summary}")
             for alert in batch.alerts[:count]]
    rows += [_row("change", change.ts_ns, change.service, change.kind, f"{change.old} -> {change.ref}")
             for change in batch.changes[:count]]
    return rows


def _row(kind: str, ts_ns: Any, service: str, mark: str, text: str) -> Row:
    time = datetime.fromtimestamp(int(ts_ns) / 1e9, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return Row(kind, time, service, mark, text if len(text) <= _TEXT_CHARS else text[:_TEXT_CHARS] + "…")


def _name(vocab: Sequence[str], at: Any) -> str:
    return vocab[int(at)] if at >= 0 else ""
