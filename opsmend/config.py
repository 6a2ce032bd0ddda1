"""`opsmend.toml`: every key, its unit and its default. See docs/configuration.md.

Order of precedence: environment (`OPSMEND_REPAIR__MODE=observe`) over file over default. A key that
is not known is refused with its path, its line and the nearest valid name.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import field_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from ingest.errors import OpsmendError
from opsmend.config_sections import (
    ActuatorSection,
    DetectSection,
    ForecasterSection,
    HookSection,
    IngestSection,
    LlmSection,
    OutletSection,
    RepairSection,
    ScaleSection,
    ServiceSection,
    StoreSection,
    TopologySection,
)


class ConfigError(OpsmendError):
    """The configuration can't be used. The message names file, line, key and the nearest valid name."""

    reason = "configuration"


class Settings(BaseSettings):
    """All of `opsmend.toml`. Every section is optional: no file means embedded transport, observe."""

    model_config = SettingsConfigDict(
        extra="forbid", frozen=True, env_prefix="OPSMEND_", env_nested_delimiter="__", populate_by_name=True,
        use_attribute_docstrings=True)

    service: ServiceSection = ServiceSection()
    ingest: IngestSection = IngestSection()
    detect: DetectSection = DetectSection()
    forecaster: ForecasterSection = ForecasterSection()
    topology: TopologySection = TopologySection()
    limits: dict[str, str | float] = {}
    """`usage metric = limit metric or number`; `"service/usage metric"` for one service, which comes before."""
    actuator: ActuatorSection = ActuatorSection()
    repair: RepairSection = RepairSection()
    llm: LlmSection | None = None
    store: StoreSection = StoreSection()
    webhooks: list[HookSection] = []
    outlet: OutletSection = OutletSection()
    scale: ScaleSection = ScaleSection()

    @field_validator("limits")
    @classmethod
    def _are_limits(cls, given: dict[str, str | float]) -> dict[str, str | float]:
        for name, limit in given.items():
            if not all(part.strip() for part in name.split("/", 1)):
                raise ValueError(f"'{name}': a metric, or \"service/metric\"")
            if not (limit.strip() if isinstance(limit, str) else math.isfinite(limit)):
                raise ValueError(f"'{name}': its limit is a metric or a finite number, not {limit!r}")
        return given

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
    ("service", "data_dir"), ("scale", "state_dir"), ("repair", "actions_dir"), ("repair", "runbooks_dir"), ("llm", "gguf"),
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
