"""The sections of `opsmend.toml`: every key with its unit, its range and its default.

The text under a key is its documentation: in the JSON schema, and in docs/configuration.md.
"""

from __future__ import annotations

import difflib
import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

OUR_TOPICS = ("opsmend.incidents", "opsmend.outcomes", "opsmend.dead-letters")
"""What `[outlet] topics` writes to."""
SCALE_TOPICS = ("opsmend.envelopes", "opsmend.signals")
"""What the distributed engine hands on by."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class ServiceSection(_Section):
    data_dir: Path = Path("~/.local/share/opsmend")
    """Where store, embedded transport and run journal live."""
    listen: str = "127.0.0.1:8420"
    """host:port of API and dashboard; port 0 takes a free one."""
    tenant: str = "default"
    """Name of this installation: in ids, and as the source of events."""
    token_env: str = ""
    """Environment variable with the bearer token that state-changing requests must carry."""
    allowed_hosts: list[str] = []
    """Names under which clients reach us, without port, besides localhost and the address of `listen`; "*": any."""
    retention_seconds: Annotated[int, Field(ge=600)] = 6 * 3600
    """How long observations (the series behind charts and verification) are kept."""
    runner: Literal["local", "quix"] = "local"
    """`local`: one process does all. `quix`: the distributed engine (extra `scale`, transport `kafka`; scaling.md)."""


class KafkaSecurity(_Section):
    protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    """How the brokers are spoken to."""
    mechanism: Literal["", "PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = ""
    """With SASL: how we prove who we are."""
    username: str = ""
    """With SASL."""
    password_env: str = ""
    """Environment variable with the password."""
    password_file: str = ""
    """File with the password, instead of a variable."""
    ca: str = ""
    """PEM file of the authority that signed the brokers' certificates; empty: the system's."""
    cert: str = ""
    """PEM file of our certificate, for mutual TLS."""
    key: str = ""
    """PEM file of its key."""
    key_password_env: str = ""
    """Environment variable with the password of an encrypted key."""


class KafkaSection(_Section):
    bootstrap_servers: str = ""
    """`host:port`, comma-separated."""
    group_id: str = "opsmend"
    """The consumer group; `doctor` and `wire` use it with `-doctor` and `-wire`."""
    session_timeout_seconds: Annotated[float, Field(ge=1, le=1800)] = 10.0
    """How long the group waits for a member that fell silent before others take its partitions over."""
    static_member: bool = True
    """With a SQLite store: keep the id of this member in the data directory. After a restart, also of kill -9, it has its \
partitions at once instead of after the session time-out."""
    queue_mb: Annotated[int, Field(ge=1)] = 32
    """Megabytes fetched ahead; with `ingest.max_poll_mb` twice, the bound of what ingest keeps in memory."""
    security: KafkaSecurity = KafkaSecurity()


class TopicSection(_Section):
    name: str = ""
    """The topic."""
    pattern: str = ""
    """A regular expression instead of a name; must match the whole name."""
    format: str = "auto"
    """`auto`, or one name of `opsmend wire --formats`."""
    kind: Literal["", "changes"] = ""
    """`changes`: roll-outs, configuration changes, scaling."""

    @field_validator("format")
    @classmethod
    def _is_known(cls, name: str) -> str:
        from ingest.wire.registry import FORMATS

        if name != "auto" and name not in FORMATS:
            near = difflib.get_close_matches(name, ["auto", *FORMATS], n=1, cutoff=0.0)
            raise ValueError(f"no format '{name}'; did you mean '{near[0]}'?")
        return name

    @model_validator(mode="after")
    def _is_not_ours(self) -> TopicSection:
        if bool(self.name) == bool(self.pattern):
            raise ValueError("a topic has a name or a pattern, one of them")
        try:
            ours = [t for t in (*OUR_TOPICS, *SCALE_TOPICS) if t == self.name or re.fullmatch(self.pattern or "(?!)", t)]
        except re.error as error:
            raise ValueError(f"'{self.pattern}' is no regular expression: {error}") from error
        if ours:
            raise ValueError(f"this would read what opsmend itself writes to {ours[0]}, again and again; choose a "
                             "narrower pattern")
        return self


class EntitySection(_Section):
    from_: list[str] = Field(
        default=["service.name", "service", "k8s.deployment.name", "app", "job", "program"], alias="from")
    """Which field names the service; the first that is there wins."""


class SchemaRegistrySection(_Section):
    url: str = ""
    """Base URL of the registry for values framed with a schema id (extra `registry`); empty: they are refused."""
    username: str = ""
    """For basic authentication."""
    password_env: str = ""
    """Environment variable with its password."""
    password_file: str = ""
    """File with the password, instead of a variable."""
    ca: str = ""
    """PEM file of the authority that signed the registry's certificate; empty: the usual ones."""
    timeout_seconds: Annotated[float, Field(gt=0, le=30)] = 2.0
    """For one answer; a registry that does not answer is left alone for 10 s, its records are dead letters meanwhile."""


class IngestSection(_Section):
    transport: Literal["embedded", "kafka", "kafka-python"] = "embedded"
    """`embedded` needs no broker; `kafka` uses confluent-kafka, `kafka-python` no compiled code."""
    kafka: KafkaSection = KafkaSection()
    topics: list[TopicSection] = [*(TopicSection(name=n) for n in ("logs", "metrics", "traces", "alerts")),
                                  TopicSection(name="changes", kind="changes")]
    entity: EntitySection = EntitySection()
    schema_registry: SchemaRegistrySection = SchemaRegistrySection()
    max_rows: Annotated[int, Field(ge=1)] = 20_000
    """Records per poll."""
    max_poll_mb: Annotated[int, Field(ge=1)] = 32
    """Megabytes per poll; a larger record comes alone."""
    max_poll_ms: Annotated[int, Field(ge=1)] = 250
    """Longest wait for the first record of a poll, milliseconds."""
    max_waiting_records: Annotated[int, Field(ge=1)] = 50_000
    """embedded: with more records unread than this, the HTTP intake answers 503 with Retry-After."""


class DetectSection(_Section):
    bucket_seconds: Annotated[float, Field(gt=0)] = 10.0
    """The clock of detection. Metrics are aggregated to one point per bucket."""
    allowed_lateness_seconds: Annotated[float, Field(ge=0)] = 5.0
    """How long a bucket waits for late rows. What comes later is counted, not used."""
    detectors: list[str] = []
    """Names of the detectors to run; empty: all registered ones."""


class TopologySection(_Section):
    edges: list[tuple[str, str]] = []
    """`[caller, callee]` pairs, added to what spans and metrics show."""
    external: list[str] = []
    """Services that are not yours to repair; opsmend never acts on them, it tells people."""
    kinds: dict[str, Literal["service", "database", "cache", "queue", "host", "volume"]] = {}
    """What a name is, whatever telemetry says: `"pg-1" = "database"`."""
    rests_on: list[tuple[str, str]] = []
    """`[service, host or volume]` pairs, added to what telemetry says; a host unless `kinds` says that it is a volume."""

    @model_validator(mode="after")
    def _is_one_graph(self) -> TopologySection:
        if loop := next((a for a, b in self.edges if a == b), ""):
            raise ValueError(f"an edge from '{loop}' to itself")
        below = {thing for _, thing in self.rests_on} | {n for n, kind in self.kinds.items() if kind in ("host", "volume")}
        if both := below & ({name for edge in self.edges for name in edge} | {service for service, _ in self.rests_on}):
            raise ValueError(f"'{min(both)}' is a host or volume, which is rested on and neither calls nor is called")
        if odd := next((t for _, t in self.rests_on if self.kinds.get(t, "host") not in ("host", "volume")), ""):
            raise ValueError(f"'{odd}' is rested on, so it is a host or a volume, not a {self.kinds[odd]}")
        return self


class ActuatorSection(_Section):
    url: str = ""
    """Base URL of the process and release actuator: `unix:///run/actuator.sock` or `http://host:port`."""
    token_env: str = ""
    """Environment variable with the actuator's bearer token."""
    postgres_dsn_env: str = ""
    """Environment variable with the DSN that `postgres.terminate_blocker` connects with."""
    redis_url_env: str = ""
    """Environment variable with the URL that `cache.purge_prefix` connects with."""
    protected_prefixes: list[str] = []
    """Key prefixes that `cache.purge_prefix` never touches."""
    notify_url: str = ""
    """Where `notify` posts to; empty: the log alone."""


class BudgetSection(_Section):
    actions_per_hour: Annotated[int, Field(ge=0)] = 10
    """Repairs in any hour, of all services together."""
    services_at_once: Annotated[int, Field(ge=0)] = 1
    """Services that may be under repair at the same time."""
    cooldown_seconds: Annotated[float, Field(ge=0)] = 300.0
    """Rest after a repair of a service before the next one of it."""
    max_blast_radius: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Share of the services an unattended action may disturb: its target and all that call it."""


class AllowSection(_Section):
    service: str
    """The service, or `*` for all."""
    actions: list[str]
    """Names of actions (`opsmend actions list`)."""
    mode: Literal["observe", "suggest", "auto"] = "suggest"
    """The most that is allowed here; `[repair] mode` may allow less."""


class VerifySection(_Section):
    baseline_seconds: Annotated[float, Field(gt=0)] = 60.0
    """What was usual: this long before the first sign."""
    settle_seconds: Annotated[float, Field(ge=0)] = 20.0
    """After the action, not looked at: the restart itself, and the way of the telemetry."""
    watch_seconds: Annotated[float, Field(gt=0)] = 60.0
    """After settling: what is judged."""


class RepairSection(_Section):
    mode: Literal["observe", "suggest", "auto"] = "observe"
    """`observe` proposes nothing that could run, `suggest` asks a person, `auto` acts where the allow-list says so."""
    executor: Literal["dbos", "memory"] = "dbos"
    """`dbos`: runs survive kill -9. `memory`: for tests."""
    actions_dir: Path | None = None
    """Your own actions, one YAML file each (actions.md)."""
    runbooks_dir: Path | None = None
    """Your own runbooks, one YAML file each."""
    approval_expires_seconds: Annotated[float, Field(gt=0)] = 900.0
    """How long a proposal can be approved."""
    diagnose_after_seconds: Annotated[float, Field(ge=0)] = 2.0
    """How long an incident ripens before it is planned for: callers shout first."""
    budget: BudgetSection = BudgetSection()
    verify: VerifySection = VerifySection()
    allow: list[AllowSection] = []


class LlmSection(_Section):
    base_url: str = ""
    """An OpenAI-compatible endpoint, such as `http://localhost:11434/v1`."""
    model: str = ""
    """The model's name there."""
    api_key_env: str = ""
    """Environment variable with the key; empty: none is sent."""
    gguf: Path | None = None
    """A GGUF file to run locally instead of `base_url` (extra `llm-local`)."""
    max_usd_per_day: Annotated[float, Field(ge=0)] = 2.0
    """Beyond it no model is asked; rules and memory decide."""
    max_tokens_per_day: Annotated[int, Field(ge=0)] = 500_000
    """Likewise."""
    usd_per_million_input: Annotated[float, Field(ge=0)] = 0.0
    """Price of a million tokens of input."""
    usd_per_million_output: Annotated[float, Field(ge=0)] = 0.0
    """Price of a million tokens of output."""
    timeout_seconds: Annotated[float, Field(gt=0)] = 20.0
    """For one answer."""


class StoreSection(_Section):
    url: str = ""
    """SQLAlchemy URL; empty: `opsmend.db` in the data directory."""


class HookSection(_Section):
    url: str
    """Where to post events to, `http://` or `https://`."""
    secret_env: str = ""
    """Environment variable with the Standard Webhooks secret (`whsec_...`); empty: not signed."""
    types: list[str] = []
    """CloudEvents types to send; empty: all but `io.opsmend.outcome.recorded`."""

    @field_validator("url")
    @classmethod
    def _is_http(cls, url: str) -> str:
        if not url.startswith(("http://", "https://")):
            raise ValueError("must begin with http:// or https://")
        return url

    @field_validator("types")
    @classmethod
    def _are_known(cls, types: list[str]) -> list[str]:
        from opsmend.cloudevents import OUTCOME_TYPE, PUBLIC_TYPES

        known = (*PUBLIC_TYPES, OUTCOME_TYPE)
        for name in types:
            if name not in known:
                near = difflib.get_close_matches(name, known, n=1, cutoff=0.0)
                raise ValueError(f"no event type '{name}'; did you mean '{near[0]}'?")
        return types


class OutletSection(_Section):
    topics: bool = True
    """Where the transport is Kafka: also write to opsmend.incidents, opsmend.outcomes and opsmend.dead-letters."""


class ScaleSection(_Section):
    role: Literal["all", "worker", "packer", "detect", "conclude"] = "all"
    """runner `quix`: what this process does. `worker` packs and detects; `conclude` serves API, dashboard and repairs."""
    shards: Annotated[int, Field(ge=1, le=1024)] = 8
    """Parts that services are spread over: the most workers that have something to do. Equal everywhere, for good."""
    state_dir: Path | None = None
    """Where the shards' state is kept between commits; empty: `quix` in the data directory. May be lost."""
    envelope_rows: Annotated[int, Field(ge=1, le=100_000)] = 1000
    """Rows in one record of `opsmend.envelopes`."""
    commit_seconds: Annotated[float, Field(gt=0, le=60)] = 1.0
    """How long a transaction of a worker lasts; its results are seen after it."""
    transaction_timeout_seconds: Annotated[float, Field(ge=2, le=900)] = 8.0
    """When the broker gives up the transaction of a worker that died; its shards stand still until then."""
    session_timeout_seconds: Annotated[float, Field(ge=1, le=300)] = 6.0
    """When the group gives up a worker that fell silent."""
    idle_seconds: Annotated[float, Field(ge=1)] = 60.0
    """A partition this far behind the others, in event time, is no longer waited for."""


class ForecasterSection(_Section):
    tune: bool = True
    """Check the forecaster against the service's own series, tune it, and promote what wins on data held back."""
    every_hours: Annotated[float, Field(gt=0)] = 24.0
    """Between two checks."""
    cpu_seconds: Annotated[int, Field(ge=10)] = 240
    """A check ends after so much CPU time; it runs in a process of its own, at the lowest priority."""
