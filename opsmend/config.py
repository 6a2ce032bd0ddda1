"""`opsmend.toml`: every key, its unit and its default. See docs/configuration.md.

Order of precedence: environment (`OPSMEND_REPAIR__MODE=observe`) over file over default. A key that
is not known is refused with its path, its line and the nearest valid name.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from ingest.errors import OpsmendError

OUR_TOPICS = ("opsmend.incidents", "opsmend.outcomes", "opsmend.dead-letters")
"""What `[outlet] topics` writes to."""


class ConfigError(OpsmendError):
    """The configuration can't be used. The message names file, line, key and the nearest valid name."""

    reason = "configuration"


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ServiceSection(_Section):
    data_dir: Path = Path("~/.local/share/opsmend")
    """Where store, embedded transport and run journal live."""
    listen: str = "127.0.0.1:8420"
    """host:port of API and dashboard; port 0 takes a free one."""
    tenant: str = "default"
    token_env: str = ""
    """Environment variable with the bearer token that state-changing requests must carry."""
    allowed_hosts: list[str] = []
    """Names under which clients reach us, without port, besides localhost and the address of `listen`; "*": any."""
    retention_seconds: Annotated[int, Field(ge=600)] = 6 * 3600
    """How long observations (the series behind charts and verification) are kept."""


class KafkaSecurity(_Section):
    protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    mechanism: Literal["", "PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = ""
    username: str = ""
    password_env: str = ""
    password_file: str = ""
    ca: str = ""
    cert: str = ""
    key: str = ""


class KafkaSection(_Section):
    bootstrap_servers: str = ""
    group_id: str = "opsmend"
    security: KafkaSecurity = KafkaSecurity()


class TopicSection(_Section):
    name: str = ""
    pattern: str = ""
    """A regular expression instead of a name; must match the whole name."""
    format: str = "auto"
    """`auto`, or one name of `opsmend wire --formats`."""
    kind: Literal["", "changes"] = ""

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
            ours = [t for t in OUR_TOPICS if t == self.name or re.fullmatch(self.pattern or "(?!)", t)]
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


class IngestSection(_Section):
    transport: Literal["embedded", "kafka", "kafka-python"] = "embedded"
    kafka: KafkaSection = KafkaSection()
    topics: list[TopicSection] = [*(TopicSection(name=n) for n in ("logs", "metrics", "traces", "alerts")),
                                  TopicSection(name="changes", kind="changes")]
    entity: EntitySection = EntitySection()
    max_rows: Annotated[int, Field(ge=1)] = 20_000
    """Records per poll."""
    max_poll_ms: Annotated[int, Field(ge=1)] = 250
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
    external: list[str] = []
    """Services that are not yours to repair; opsmend never acts on them, it tells people."""


class ActuatorSection(_Section):
    url: str = ""
    """Base URL of the process and release actuator: `unix:///run/actuator.sock` or `http://host:port`."""
    token_env: str = ""
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
    services_at_once: Annotated[int, Field(ge=0)] = 1
    cooldown_seconds: Annotated[float, Field(ge=0)] = 300.0
    max_blast_radius: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Share of the services an unattended action may disturb: its target and all that call it."""


class AllowSection(_Section):
    service: str
    actions: list[str]
    mode: Literal["observe", "suggest", "auto"] = "suggest"


class VerifySection(_Section):
    baseline_seconds: Annotated[float, Field(gt=0)] = 60.0
    settle_seconds: Annotated[float, Field(ge=0)] = 20.0
    watch_seconds: Annotated[float, Field(gt=0)] = 60.0


class RepairSection(_Section):
    mode: Literal["observe", "suggest", "auto"] = "observe"
    executor: Literal["dbos", "memory"] = "dbos"
    actions_dir: Path | None = None
    runbooks_dir: Path | None = None
    approval_expires_seconds: Annotated[float, Field(gt=0)] = 900.0
    diagnose_after_seconds: Annotated[float, Field(ge=0)] = 2.0
    """How long an incident ripens before it is planned for: callers shout first."""
    budget: BudgetSection = BudgetSection()
    verify: VerifySection = VerifySection()
    allow: list[AllowSection] = []


class LlmSection(_Section):
    base_url: str = ""
    model: str = ""
    api_key_env: str = ""
    gguf: Path | None = None
    """A GGUF file to run locally instead of `base_url` (extra `llm-local`)."""
    max_usd_per_day: Annotated[float, Field(ge=0)] = 2.0
    max_tokens_per_day: Annotated[int, Field(ge=0)] = 500_000
    usd_per_million_input: Annotated[float, Field(ge=0)] = 0.0
    usd_per_million_output: Annotated[float, Field(ge=0)] = 0.0
    timeout_seconds: Annotated[float, Field(gt=0)] = 20.0


class StoreSection(_Section):
    url: str = ""
    """SQLAlchemy URL; empty: `opsmend.db` in the data directory."""


class HookSection(_Section):
    url: str
    """Where to post events to, `http://` or `https://`."""
    secret_env: str = ""
    """Environment variable with the Standard Webhooks secret (`whsec_...`); empty: not signed."""
    types: list[str] = []
    """CloudEvents types to send; empty: all of `opsmend config schema`'s."""

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


class Settings(BaseSettings):
    """All of `opsmend.toml`. Every section is optional: no file means embedded transport, observe."""

    model_config = SettingsConfigDict(
        extra="forbid", frozen=True, env_prefix="OPSMEND_", env_nested_delimiter="__", populate_by_name=True)

    service: ServiceSection = ServiceSection()
    ingest: IngestSection = IngestSection()
    detect: DetectSection = DetectSection()
    topology: TopologySection = TopologySection()
    limits: dict[str, str | float] = {}
    """`usage metric = limit metric or number`."""
    actuator: ActuatorSection = ActuatorSection()
    repair: RepairSection = RepairSection()
    llm: LlmSection | None = None
    store: StoreSection = StoreSection()
    webhooks: list[HookSection] = []
    outlet: OutletSection = OutletSection()

    @classmethod
    def settings_customise_sources(
        cls, settings_cls: type[BaseSettings], init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource, dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        # `init_settings` carries the parsed file, so the environment comes before it.
        return env_settings, init_settings

    @property
    def data_dir(self) -> Path:
        """The data directory, `~` expanded."""
        return self.service.data_dir.expanduser()

    @property
    def store_url(self) -> str:
        return self.store.url or f"sqlite:///{self.data_dir / 'opsmend.db'}"


def secret(value: str, env: str, file: str = "") -> str:
    """A secret given directly, by the name of an environment variable, or by a file.

    Raises ConfigError if the variable or the file named is not there.
    """
    if env:
        if env not in os.environ:
            raise ConfigError(f"the environment variable {env} is named in the configuration but not set")
        return os.environ[env]
    if file:
        try:
            return Path(file).expanduser().read_text().strip()
        except OSError as error:
            raise ConfigError(f"secret file {file}: {error.strerror}") from error
    return value


def load(path: Path | None = None) -> Settings:
    """Settings from `path` (or none), the environment on top. Raises ConfigError."""
    from opsmend.config_environment import unknown
    from opsmend.config_errors import explain, parse_toml

    document, text = ({}, "") if path is None else parse_toml(path)
    if problems := unknown(os.environ, document, Settings):
        raise ConfigError("\n".join(problems))
    from pydantic import ValidationError

    try:
        return Settings(**(document if path is None else anchored(document, path.absolute().parent)))
    except ValidationError as error:
        raise ConfigError(explain(error, path, text, Settings)) from error


_PATHS: frozenset[tuple[str, ...]] = frozenset({
    ("service", "data_dir"), ("repair", "actions_dir"), ("repair", "runbooks_dir"), ("llm", "gguf"),
    ("ingest", "kafka", "security", "ca"), ("ingest", "kafka", "security", "cert"),
    ("ingest", "kafka", "security", "key"), ("ingest", "kafka", "security", "password_file")})


def anchored(document: Mapping[str, Any], directory: Path, at: tuple[str, ...] = ()) -> dict[str, Any]:
    """`document` with its relative paths taken from where the file is, not from where somebody stands."""
    found: dict[str, Any] = {}
    for key, value in document.items():
        here = (*at, key)
        if isinstance(value, Mapping):
            found[key] = anchored(value, directory, here)
        elif here in _PATHS and isinstance(value, str) and value:
            found[key] = str(directory / Path(value).expanduser())
        else:
            found[key] = value
    return found


def schema() -> dict[str, Any]:
    """The JSON schema of `opsmend.toml`, for editors."""
    return Settings.model_json_schema()
