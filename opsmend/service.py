"""The service's life: open everything, run, stop in the reverse order.

    store ─ transport ─ runner (thread: ingest, detect, diagnose, commit)
                          └─ healer (thread: plan, gates, runs) ─ executor
    API + dashboard (the main thread's event loop)
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import IO, TYPE_CHECKING

import structlog

from detect.forecaster.versions import ModelVersions
from ingest.errors import OpsmendError
from ingest.transport import Consumer
from ingest.transports.config import TransportConfig
from ingest.transports.registry import open_consumer, open_producer
from opsmend.compose import (
    endpoints,
    gate_config,
    member_id,
    pipeline_config,
    planner_config,
    quix_config,
    receivers,
    transport_config,
    verify_config,
)
from opsmend.config import Settings, secret
from opsmend.forecasting.background import ForecasterLife, LifeConfig, models_dir
from opsmend.forecasting.check import Order
from opsmend.healing import Healer
from opsmend.intake import Intake
from opsmend.journal import JournalWriter
from opsmend.lock import lock_data_dir
from opsmend.metrics import ServiceMetrics, StateCollector
from opsmend.models import planner_models
from opsmend.observer import LiveObserver
from opsmend.outlet import Outlet
from opsmend.pipeline import Pipeline, PipelineConfig
from opsmend.runners.local import LocalRunner, LocalRunnerConfig
from opsmend.store.bodies import Bodies
from opsmend.store.corrections import CorrectionLog
from opsmend.store.deaths import Deaths, RoleDied
from opsmend.store.engine import open_engine
from opsmend.store.ledger import SqlLedger
from opsmend.store.queries import Queries
from opsmend.store.records import Records, StepResult
from opsmend.store.seat import Seat
from remediate.catalogue import Catalogue
from remediate.executors.base import Executor
from remediate.executors.work import Workshop
from remediate.gates import Gates, allowed_mode
from remediate.planner.planner import Planner
from remediate.repair import Repair, RepairConfig
from remediate.runbook import load_runbooks
from remediate.types import Outcome

if TYPE_CHECKING:
    from opsmend.runners.quix import QuixWorkers

log = structlog.get_logger()


class Service:
    """Everything that `opsmend run` runs, but for the HTTP server. Raises OpsmendError from `start`."""

    def __init__(self, settings: Settings, *, journal: Path | None = None) -> None:
        self.settings = settings
        self._journal_path = journal
        self._lock: IO[str] | None = None
        self._thread: threading.Thread | None = None
        self.failed: RoleDied | None = None
        self.on_failure: Callable[[], None] = lambda: None
        self._workers: QuixWorkers | None = None

    def start(self) -> None:
        """Store, transport, pipeline, repairs; in an order in which a failure leaves nothing half-open."""
        s = self.settings
        s.data_dir.mkdir(parents=True, exist_ok=True)
        self._lock = lock_data_dir(s.data_dir)
        self.engine = open_engine(s.store_url)
        self.metrics = ServiceMetrics()
        self.bodies = bodies = Bodies(self.metrics.unreadable)
        self.ledger = SqlLedger(self.engine, default_mode=s.repair.mode, bodies=bodies)
        self._adopt_mode()
        self.shown = SqlLedger(self.engine, bodies=bodies, is_shown=True)
        self.queries = Queries(self.engine, bodies)
        self.deaths = Deaths(self.engine)
        self.corrections = CorrectionLog(self.engine, bodies)
        self.seat = Seat(self.engine)
        self.records = Records(self.engine, retention_seconds=s.service.retention_seconds, seat=self.seat.number,
                               bodies=bodies)
        self.outlet = Outlet(self.engine, receivers(s, self.engine), on_result=self.metrics.delivery)
        transport = transport_config(s)
        self.consumer = self._from_shards(transport) if s.service.runner == "quix" else open_consumer(
            replace(transport, instance_id=member_id(s)))
        self.producer = open_producer(transport)
        self.intake = Intake(self.producer, s.ingest.topics, self._waiting, max_waiting=s.ingest.max_waiting_records)
        config = pipeline_config(s)
        journal = JournalWriter(self._journal_path) if self._journal_path else None
        self.runner = LocalRunner(
            LocalRunnerConfig(s.ingest.max_rows, s.ingest.max_poll_ms, s.ingest.max_poll_mb << 20, config.history_seconds),
            self.consumer, lambda: self._pipeline(config), self.records, self.queries,
            journal=journal, on_step=self._stepped, corrections=self.corrections)
        self.observer = LiveObserver(self.runner, self.queries)
        self.catalogue = self._catalogue()
        self.runbooks = load_runbooks(self.catalogue, s.repair.runbooks_dir)
        self.gates = Gates(gate_config(s), self.ledger, self.observer, self.catalogue)
        self.work = Workshop(self.ledger, self.observer, self.catalogue, self.gates, endpoints(s), verify_config(s),
                             on_outcome=self._ended)
        # Before the executor: it goes on at once with the runs of before, whose gates ask for the graph and the time.
        self.runner.recover()
        self.executor = self._executor()
        self.repair = Repair(RepairConfig(s.repair.approval_expires_seconds), self.ledger, self.observer, self.gates,
                             self.executor, self.runbooks, on_plan=self.metrics.plan)
        models = planner_models(s, self.shown, self.metrics)
        allow = gate_config(s)
        self.planner = Planner(planner_config(s), self.catalogue, self.runbooks, self.ledger, models.llm, models.memory,
                               is_allowed=lambda service, action: allowed_mode(allow, service, action) is not None)
        self.healer = Healer(self.planner, self.repair, self.ledger, self.observer, self.queries,
                             ripen_seconds=s.repair.diagnose_after_seconds, on_bug=self.metrics.bug,
                             on_put_off=self.metrics.put_off)
        self.metrics.registry.register(StateCollector(
            lag=lambda: dict(self.consumer.lag()), incidents=lambda: self.queries.incidents(state="open", limit=1000),
            state_entries=lambda: self.runner.pipeline.detection.state_entries(),
            evictions=lambda: self.runner.pipeline.detection.evictions(), now_ns=self.observer.now_ns,
            deaths=self.deaths.all))
        if self._repairs:
            self.outlet.start()
        self.forecasting = self._forecasting()
        self._thread = threading.Thread(target=self._run, name="runner", daemon=True)
        self._thread.start()
        if self._workers is not None:
            self._workers.start_threads()
        self.forecasting.start()
        recovered = self.repair.recover() if self._repairs else 0
        if self._repairs:
            self.healer.start()
        log.info("service.started", transport=s.ingest.transport, mode=self.ledger.control().mode, recovered=recovered,
                 seat=self.seat.number)

    def _pipeline(self, config: PipelineConfig) -> Pipeline:
        if self.settings.service.runner == "local":
            return Pipeline(config, on_diagnosed=self.metrics.diagnosed)
        from opsmend.runners.quix_conclude import TenantPipeline

        return TenantPipeline(config, self.settings.scale.shards, on_diagnosed=self.metrics.diagnosed)

    def _from_shards(self, transport: TransportConfig) -> Consumer:
        """With the distributed engine records reach us as what its shards have made of them."""
        from opsmend.runners.quix import QuixWorkers
        from opsmend.runners.quix_settings import SIGNALS, make_topics

        config, stages = quix_config(self.settings), pipeline_config(self.settings)
        make_topics(config)
        self._workers = QuixWorkers(config, stages.decoder, stages.detection, self.settings.scale.role,
                                    on_failure=self._died)
        return open_consumer(replace(transport, topics=(SIGNALS,), patterns=(), group_id=f"{transport.group_id}-conclude"))

    def _forecasting(self) -> ForecasterLife:
        """Of members that share a store, the first one tunes; shards of the distributed engine take a new champion at
        their next start."""
        s, directory = self.settings, models_dir(self.settings.data_dir)
        config = LifeConfig(s.forecaster.tune and self._repairs, s.forecaster.every_hours * 3600.0, s.forecaster.cpu_seconds)
        order = Order(s.store_url, str(directory), s.detect.bucket_seconds, s.forecaster.cpu_seconds)
        return ForecasterLife(config, ModelVersions(directory), order,
                              lambda weights: self.runner.ask(lambda pipeline: pipeline.use_forecaster(weights)))

    @property
    def _repairs(self) -> bool:
        """Of members that share a store, the first one repairs and sends events; nobody acts twice."""
        return self.seat.number == 0

    def _adopt_mode(self) -> None:
        """A mode that the configuration changed since the last start counts; one that a person set stays."""
        control = self.ledger.control()
        if control.changed_by == "configuration" and control.mode != self.settings.repair.mode:
            self.ledger.set_control(mode=self.settings.repair.mode, by="configuration")

    def _catalogue(self) -> Catalogue:
        directory = self.settings.repair.actions_dir
        if directory is None:
            return Catalogue()
        from remediate.actions.user import load_user_actions

        return Catalogue(load_user_actions(directory, Catalogue()))

    def _executor(self) -> Executor:
        if self.settings.repair.executor == "memory":
            from remediate.executors.memory import MemoryExecutor

            return MemoryExecutor(self.work)
        from remediate.executors.durable import DbosExecutor

        return DbosExecutor(self.work, self.settings.data_dir / "runs.db")

    def _run(self) -> None:
        try:
            self.runner.run()
        except BaseException as error:
            died = RoleDied("conclude" if self._workers is not None else "runner", error)
            log.critical("runner.died", reason=died.reason, error=repr(error), exc_info=True)
            self._died(died)

    def _died(self, died: RoleDied) -> None:
        """A thread that dies silently would look like a quiet system: the whole service ends instead. What dies after the
        first one does so of that."""
        if self.failed is None:
            self.failed = died
            self.deaths.note(died)
        self.on_failure()

    def _stepped(self, result: StepResult) -> None:
        self.metrics.step(result)
        self.healer.wake()

    def _ended(self, outcome: Outcome) -> None:
        self.metrics.outcome(outcome, self.queries.incident(outcome.incident_id))

    def _waiting(self) -> int:
        """Records that we keep ourselves and have not read; with Kafka the broker keeps them, and that is its job."""
        return sum(self.consumer.lag().values()) if self.settings.ingest.transport == "embedded" else 0

    def readiness(self) -> dict[str, str]:
        """Component -> "" or what is missing."""
        alive = self._thread is not None and self._thread.is_alive()
        stopped = "does not run" if self.failed is None else f"stopped: {self.failed}"
        return {"runner": "" if alive and self.failed is None else stopped, "store": ""}

    def tell_address(self, url: str) -> None:
        """For those who start us with port 0; whoever sees the file sees all of it."""
        told = self.settings.data_dir / "service.json"
        unfinished = told.with_suffix(".tmp")
        unfinished.write_text(json.dumps({"url": url}))
        unfinished.replace(told)

    def stop(self) -> None:
        """Finish the batch at hand, then close. Runs that are under way go on at the next start."""
        self.forecasting.stop()
        if self._repairs:
            self.healer.stop()
        if self._workers is not None:
            self._workers.stop()
        self.runner.stop()
        if self._thread is not None:
            self._thread.join(10)
        self.executor.close()
        self.outlet.stop()
        self.producer.close()
        self.seat.close()
        self.engine.dispose()
        if self._lock is not None:
            self._lock.close()


def api_token(settings: Settings) -> str:
    """The bearer token of state-changing requests. Refuses to listen to the world without one."""
    token = secret("", settings.service.token_env)
    host = settings.service.listen.rpartition(":")[0]
    if not token and host not in ("127.0.0.1", "localhost", "[::1]"):
        raise OpsmendError(f"[service] listen = {settings.service.listen}: beyond localhost a token is needed: set "
                           "token_env", reason="configuration")
    return token
