"""From settings to the configurations of the stages. The only place that knows both."""

from __future__ import annotations

import re
import uuid
from dataclasses import replace
from typing import TYPE_CHECKING

import sqlalchemy as sa

from detect.stage import DetectionConfig
from ingest.decode import DecoderConfig
from ingest.errors import OpsmendError
from ingest.schema_registry import SchemaRegistryConfig
from ingest.transports.config import TransportConfig
from opsmend.config import ConfigError, Settings, secret
from opsmend.forecasting.background import models_dir
from opsmend.outlet import Receiver
from opsmend.pipeline import PipelineConfig
from opsmend.rootcause_weights import usable_weights, weights_dir
from remediate.actions.base import Endpoints
from remediate.gates import AllowRule, GateConfig
from remediate.planner.planner import PlannerConfig
from remediate.verify import VerifyConfig
from rootcause.graph import GraphConfig
from rootcause.stage import RootCauseConfig

if TYPE_CHECKING:
    from opsmend.runners.quix_settings import QuixConfig


def transport_config(settings: Settings) -> TransportConfig:
    """Where records come from. Raises ConfigError if a secret is named but absent."""
    kafka = settings.ingest.kafka
    security = kafka.security
    return TransportConfig(
        kind=settings.ingest.transport,
        topics=tuple(t.name for t in settings.ingest.topics if t.name),
        patterns=tuple(t.pattern for t in settings.ingest.topics if t.pattern),
        data_dir=str(settings.data_dir / "transport"),
        bootstrap_servers=kafka.bootstrap_servers, group_id=kafka.group_id,
        protocol=security.protocol, mechanism=security.mechanism, username=security.username,
        password=secret("", security.password_env, security.password_file),
        ca=security.ca, cert=security.cert, key=security.key, key_password=secret("", security.key_password_env),
        session_timeout_seconds=kafka.session_timeout_seconds, queue_bytes=kafka.queue_mb << 20,
        hold_bytes=settings.ingest.max_poll_mb << 20,
        # Half of what detection waits for: the other half is for the rows themselves.
        align_seconds=min(2.0, settings.detect.allowed_lateness_seconds / 2),
        span_seconds=settings.detect.bucket_seconds)


def member_id(settings: Settings) -> str:
    """Under which this data directory is known to the consumer group; made at the first start. Empty: not wanted.

    Only where the store has one member: a static member that dies between the two steps of a cooperative rebalance
    comes back without the second one, and the partitions that were to move are nobody's until the next.
    """
    if not settings.ingest.kafka.static_member or not settings.store_url.startswith("sqlite"):
        return ""
    path = settings.data_dir / "member"
    if not path.exists():
        path.write_text(f"opsmend-{uuid.uuid4()}")
    return path.read_text().strip()


def pipeline_config(settings: Settings) -> PipelineConfig:
    """The configuration of every stage of the pipeline."""
    topics, registry = settings.ingest.topics, settings.ingest.schema_registry
    return PipelineConfig(
        decoder=DecoderConfig(
            entity_from=tuple(settings.ingest.entity.from_),
            topic_formats={_topic_key(t.name, t.pattern): t.format for t in topics if t.format != "auto"},
            topic_kinds={_topic_key(t.name, t.pattern): t.kind for t in topics if t.kind},
            schema_registry=SchemaRegistryConfig(
                url=registry.url, username=registry.username,
                password=secret("", registry.password_env, registry.password_file), ca=registry.ca,
                timeout_seconds=registry.timeout_seconds)),
        detection=DetectionConfig(
            tenant=settings.service.tenant, bucket_seconds=settings.detect.bucket_seconds,
            allowed_lateness_seconds=settings.detect.allowed_lateness_seconds,
            detectors=tuple(settings.detect.detectors), limits=dict(settings.limits),
            forecaster_dir=str(models_dir(settings.data_dir))),
        graph=GraphConfig(edges=tuple(settings.topology.edges), external=tuple(settings.topology.external),
                          kinds=dict(settings.topology.kinds), rests_on=tuple(settings.topology.rests_on)),
        rootcause=RootCauseConfig(weights_dir=usable_weights(weights_dir(settings.data_dir))),
        diagnose_every_seconds=max(1.0, settings.detect.bucket_seconds))


def quix_config(settings: Settings) -> QuixConfig:
    """Of the distributed engine. Raises ConfigError without Kafka, OpsmendError without its packages."""
    if settings.ingest.transport != "kafka":
        raise ConfigError("[service] runner = \"quix\" needs [ingest] transport = \"kafka\", not "
                          f"\"{settings.ingest.transport}\"")
    try:
        from opsmend.runners.quix_settings import QuixConfig
    except ModuleNotFoundError as error:
        raise OpsmendError(f"[service] runner = \"quix\" needs the package {error.name}: pip install "
                           "'opsmend[kafka,scale]'", reason="missing_package") from error
    scale, transport = settings.scale, transport_config(settings)
    return QuixConfig(
        transport=replace(transport, session_timeout_seconds=scale.session_timeout_seconds),
        tenant=settings.service.tenant, bucket_seconds=settings.detect.bucket_seconds,
        allowed_lateness_seconds=settings.detect.allowed_lateness_seconds,
        state_dir=(scale.state_dir or settings.data_dir / "quix").expanduser(), shards=scale.shards,
        envelope_rows=scale.envelope_rows, commit_seconds=scale.commit_seconds,
        transaction_timeout_seconds=scale.transaction_timeout_seconds,
        session_timeout_seconds=scale.session_timeout_seconds, idle_seconds=scale.idle_seconds,
        max_rows=settings.ingest.max_rows, max_poll_ms=settings.ingest.max_poll_ms)


def _topic_key(name: str, pattern: str) -> str:
    return name or re.compile(pattern).pattern


def endpoints(settings: Settings) -> Endpoints:
    """Where actions reach the world. Raises ConfigError for a secret that is named but absent."""
    a = settings.actuator
    return Endpoints(
        actuator_url=a.url, actuator_token=secret("", a.token_env), postgres_dsn=secret("", a.postgres_dsn_env),
        redis_url=secret("", a.redis_url_env), protected_prefixes=tuple(a.protected_prefixes), notify_url=a.notify_url)


def gate_config(settings: Settings) -> GateConfig:
    """The limits of repairs."""
    budget = settings.repair.budget
    return GateConfig(
        allow=tuple(AllowRule(a.service, tuple(a.actions), a.mode) for a in settings.repair.allow),
        actions_per_hour=budget.actions_per_hour, services_at_once=budget.services_at_once,
        cooldown_seconds=budget.cooldown_seconds, max_blast_radius=budget.max_blast_radius,
        external=frozenset(settings.topology.external))


def verify_config(settings: Settings) -> VerifyConfig:
    """The windows of verification."""
    v = settings.repair.verify
    return VerifyConfig(v.baseline_seconds, v.settle_seconds, v.watch_seconds)


def planner_config(settings: Settings) -> PlannerConfig:
    """What the planner may assume."""
    return PlannerConfig()


def receivers(settings: Settings, engine: sa.Engine) -> list[Receiver]:
    """Who gets events: the webhooks, and Kafka where that is the transport. Raises ConfigError."""
    from opsmend.outlet_topics import TopicReceiver
    from opsmend.outlet_webhook import WebhookReceiver

    tenant = settings.service.tenant
    found: list[Receiver] = [WebhookReceiver(h.url, secret("", h.secret_env), h.types, tenant) for h in settings.webhooks]
    if settings.outlet.topics and settings.ingest.transport != "embedded":
        found.append(TopicReceiver(transport_config(settings), engine, tenant))
    return found
