"""opsmend's own Prometheus metrics, in a registry of its own (docs/metrics.md lists them).

Counters move when a step is committed; everything that is a state is read from the store at scrape
time, so that hot loops count nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from detect.types import Incident
from opsmend.store.deaths import Death
from opsmend.store.records import StepResult
from remediate.types import Outcome, Plan

_SHOWN_BREACHES = 100
"""Names of series come with the telemetry: whoever sends it may not make labels without end."""
_SECONDS = (1, 2, 5, 10, 20, 30, 60, 120, 300, 900, 3600)


class ServiceMetrics:
    """All metrics of one service process. Labels are bounded words."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry or CollectorRegistry()
        r = self.registry
        self._records = Counter("opsmend_ingest_records", "Records by outcome", ["format", "outcome"], registry=r)
        self._rows = Counter("opsmend_ingest_rows", "Rows decoded by kind", ["kind"], registry=r)
        self._dead = Counter("opsmend_ingest_dead_letters", "Dead letters", ["reason"], registry=r)
        self._duplicates = Counter("opsmend_ingest_duplicates", "Requests that were sent again", registry=r)
        self._signals = Counter("opsmend_detect_signals", "New signals", ["detector"], registry=r)
        self._cannot_tell = Counter("opsmend_rootcause_cannot_tell", "Diagnoses without an answer", registry=r)
        self._rootcause_seconds = Histogram("opsmend_rootcause_duration_seconds", "Wall time per diagnosis", registry=r)
        self._plans = Counter("opsmend_remediate_plans", "Plans", ["source", "decision"], registry=r)
        self._gate_blocks = Counter("opsmend_remediate_gate_blocks", "Plans a gate stopped", ["gate"], registry=r)
        self._runs = Counter("opsmend_remediate_runs", "Runs ended", ["action", "verdict"], registry=r)
        self._detect_seconds = Histogram(
            "opsmend_time_to_detect_seconds", "First sign to incident", buckets=_SECONDS, registry=r)
        self._mend_seconds = Histogram(
            "opsmend_time_to_mend_seconds", "First sign to verified repair", buckets=_SECONDS, registry=r)
        self._llm_tokens = Counter("opsmend_llm_tokens", "Tokens", ["direction"], registry=r)
        self._llm_usd = Counter("opsmend_llm_cost_usd", "Money spent on models", registry=r)
        self._deliveries = Counter("opsmend_outlet_events", "Events out", ["receiver", "outcome"], registry=r)
        self._bugs = Counter("opsmend_remediate_bugs", "Parts of repairing that failed unforeseen", ["place"], registry=r)
        self._put_off = Counter(
            "opsmend_remediate_put_off", "Parts of repairing put off for a known reason", ["place", "reason"], registry=r)
        self._unreadable = Counter("opsmend_store_unreadable_rows", "Rows that can't be read", ["table"], registry=r)
        self._seen_signals: set[str] = set()
        self._seen_incidents: set[str] = set()

    def step(self, result: StepResult) -> None:
        """Count one committed step."""
        totals = result.totals
        for name, count in totals.items():
            if name.startswith("format."):
                self._records.labels(name.removeprefix("format."), "decoded").inc(count)
        if dead := totals.get("dead", 0):
            self._records.labels("none", "dead").inc(dead)
        if duplicates := totals.get("duplicates", 0):
            self._duplicates.inc(duplicates)
        for kind in ("logs", "points", "spans", "alerts", "changes", "late"):
            if totals.get(kind):
                self._rows.labels(kind).inc(totals[kind])
        for letter in result.dead_letters:
            self._dead.labels(letter.reason).inc()
        for incident in result.incidents:
            self._incident(incident)
        for diagnosis in result.diagnoses:
            if diagnosis.cannot_tell:
                self._cannot_tell.inc()

    def _incident(self, incident: Incident) -> None:
        for signal in incident.signals:
            if signal.id not in self._seen_signals:
                self._seen_signals.add(signal.id)
                self._signals.labels(signal.detector).inc()
        if incident.id not in self._seen_incidents:
            self._seen_incidents.add(incident.id)
            self._detect_seconds.observe(max(0, incident.opened_ns - incident.first_signal_ns) / 1e9)
        if incident.state != "open":
            self._seen_incidents.discard(incident.id)
            self._seen_signals.difference_update(s.id for s in incident.signals)

    def diagnosed(self, seconds: float) -> None:
        """One diagnosis took this long."""
        self._rootcause_seconds.observe(seconds)

    def decided(self, plan: Plan, decision: str) -> None:
        """A person said `approved` or `rejected`."""
        self._plans.labels(plan.source, decision).inc()

    def plan(self, plan: Plan) -> None:
        """Count a plan that was proposed, started or blocked."""
        self._plans.labels(plan.source, plan.state).inc()
        for gate in plan.gates:
            if not gate.passed:
                self._gate_blocks.labels(gate.gate).inc()

    def put_off(self, place: str, reason: str) -> None:
        """Count a part of repairing that is tried again later: the store is away or busy, or a row of its incident can't
        be read."""
        self._put_off.labels(place, reason).inc()

    def bug(self, place: str) -> None:
        """Repairing failed there in a way nobody foresaw; it goes on, and what failed is tried again."""
        self._bugs.labels(place).inc()

    def unreadable(self, table: str) -> None:
        """A row of it can't be read; lists leave it out."""
        self._unreadable.labels(table).inc()

    def outcome(self, outcome: Outcome, incident: Incident | None) -> None:
        """Count a run that ended."""
        self._runs.labels(outcome.action, outcome.verdict).inc()
        if outcome.verdict == "fixed" and incident is not None:
            self._mend_seconds.observe(max(0, outcome.ts_ns - incident.first_signal_ns) / 1e9)

    def llm(self, *, tokens_in: int, tokens_out: int, usd: float) -> None:
        """Count one call of a model."""
        self._llm_tokens.labels("input").inc(tokens_in)
        self._llm_tokens.labels("output").inc(tokens_out)
        self._llm_usd.inc(usd)

    def delivery(self, receiver: str, outcome: str) -> None:
        """Count an event that a webhook or the topics took, are asked again to take, or refused, or that a bug of ours kept
        from them."""
        self._deliveries.labels(receiver, outcome).inc()


class StateCollector(Collector):
    """Gauges that are read when somebody scrapes."""

    def __init__(self, *, lag: Callable[[], dict[str, int]], incidents: Callable[[], Iterable[Incident]],
                 state_entries: Callable[[], dict[str, int]], evictions: Callable[[], dict[str, int]],
                 now_ns: Callable[[], int], deaths: Callable[[], Iterable[Death]]) -> None:
        self._lag = lag
        self._incidents = incidents
        self._state_entries = state_entries
        self._evictions = evictions
        self._now_ns = now_ns
        self._deaths = deaths

    def describe(self) -> Iterable[Metric]:
        return ()  # nothing is read at registration

    def collect(self) -> Iterable[Metric]:
        lag = GaugeMetricFamily("opsmend_ingest_lag_records", "Records not yet read", labels=["topic"])
        for topic, count in self._lag().items():
            lag.add_metric([topic], count)
        entries = GaugeMetricFamily("opsmend_detect_state_entries", "Entries of bounded state", labels=["kind"])
        for kind, count in self._state_entries().items():
            entries.add_metric([kind], count)
        evictions = CounterMetricFamily("opsmend_detect_evictions", "Entries evicted", labels=["kind"])
        for kind, count in self._evictions().items():
            evictions.add_metric([kind], count)
        is_open = GaugeMetricFamily("opsmend_incidents_open", "Open incidents", labels=["severity"])
        eta = GaugeMetricFamily("opsmend_breach_eta_seconds", "Median time to a predicted breach",
                                labels=["service", "series"])
        counts = dict.fromkeys(("critical", "warning", "info"), 0)
        soonest: dict[tuple[str, str], float] = {}
        for incident in self._incidents():
            counts[incident.severity] += 1
            for signal in incident.signals:
                if signal.breach is not None and signal.is_open:
                    at = (signal.service, signal.breach.series)
                    left = max(0.0, (signal.breach.eta_ns - self._now_ns()) / 1e9)
                    soonest[at] = min(soonest.get(at, left), left)
        for severity, count in counts.items():
            is_open.add_metric([severity], count)
        for (service, series), left in sorted(soonest.items(), key=lambda item: item[1])[:_SHOWN_BREACHES]:
            eta.add_metric([service, series], left)
        return (lag, entries, evictions, is_open, eta, *self._of_deaths())

    def _of_deaths(self) -> Iterable[Metric]:
        """Of processes before this one, and of others that share the store."""
        died = CounterMetricFamily("opsmend_role_deaths", "Roles of ours that died", labels=["role", "reason"])
        last = GaugeMetricFamily("opsmend_role_death_timestamp_seconds", "When a role last died", labels=["role", "reason"])
        for death in self._deaths():
            died.add_metric([death.role, death.reason], death.times)
            last.add_metric([death.role, death.reason], death.last_ns / 1e9)
        return died, last
