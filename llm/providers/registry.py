"""Provider names and how each is built. Modules are imported when they are asked for."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from llm.types import LlmError, Provider


@dataclass(frozen=True)
class ProviderConfig:
    """Which model, and where."""

    model: str = ""
    """Model name as the endpoint calls it; for `local` a label, default the file's name."""
    base_url: str = ""
    """OpenAI-compatible endpoint, up to and with `/v1`."""
    api_key: str = ""
    """Empty for endpoints that ask for none. Never logged."""
    gguf: str = ""
    """Path of the model file of the `local` provider."""
    timeout_seconds: float = 20.0
    """Time-out of the HTTP call itself."""
    threads: int = 1
    """Threads of the `local` provider."""
    context_tokens: int = 2048
    """Context of the `local` provider."""


def _openai_compatible(config: ProviderConfig) -> Provider:
    from llm.providers.openai_compatible import OpenAiCompatibleProvider

    return OpenAiCompatibleProvider(config)


def _local(config: ProviderConfig) -> Provider:
    from llm.providers.local import LocalProvider

    return LocalProvider(config)


PROVIDERS: Final[dict[str, Callable[[ProviderConfig], Provider]]] = {
    "openai_compatible": _openai_compatible,
    "local": _local,
}


def build_provider(name: str, config: ProviderConfig) -> Provider:
    """The provider called `name`. Raises LlmError: `refused` for an unknown name or a missing setting,
    `not_installed` if its extra is missing."""
    build = PROVIDERS.get(name)
    if build is None:
        near = difflib.get_close_matches(name, PROVIDERS, n=1)
        raise LlmError("refused", f"no provider {name!r}" + (f"; did you mean {near[0]!r}?" if near else ""))
    return build(config)
