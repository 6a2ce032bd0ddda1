"""What the planner may have besides: incident memory and a language model. Without them everything works."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass

import structlog

from llm.budget import Budget, BudgetConfig, FileBudgetStore
from llm.client import ChoosingClient, ClientConfig
from llm.providers.registry import ProviderConfig, build_provider
from llm.types import LlmClient, LlmError
from opsmend.config import Settings
from opsmend.config_sections import LlmSection
from opsmend.metrics import ServiceMetrics
from remediate.memory import IncidentMemory, best_embedder
from remediate.ports import Ledger

log = structlog.get_logger()


@dataclass(frozen=True)
class PlannerModels:
    """What the planner may ask besides its rules."""

    memory: IncidentMemory
    llm: LlmClient | None


def planner_models(settings: Settings, ledger: Ledger, metrics: ServiceMetrics) -> PlannerModels:
    """Incident memory, filled from the ledger; a language model where `[llm]` names one."""
    memory = IncidentMemory(best_embedder())
    memory.learn(ledger.outcomes(limit=5000))
    log.info("planner.memory", embedder=memory.embedder.name, outcomes=len(memory))
    return PlannerModels(memory, None if settings.llm is None else _client(settings.llm, settings, metrics))


def _client(section: LlmSection, settings: Settings, metrics: ServiceMetrics) -> LlmClient | None:
    try:
        provider = build_provider("local" if section.gguf else "openai_compatible", _provider_config(section))
    except LlmError as error:
        # A model is help, not a part: without it plans come from rules and memory, and say so.
        log.warning("llm.unavailable", reason=error.reason, error=str(error))
        return None
    # A model's bill runs by the calendar, so this is the one clock of the wall.
    budget = Budget(BudgetConfig(section.max_usd_per_day, section.max_tokens_per_day),
                    FileBudgetStore(settings.data_dir / "llm-budget.json"), time.time_ns)

    def used(tokens_in: int, tokens_out: int, usd: float) -> None:
        metrics.llm(tokens_in=tokens_in, tokens_out=tokens_out, usd=usd)

    return ChoosingClient(provider, budget, ClientConfig(section.timeout_seconds), on_usage=used)


def _provider_config(section: LlmSection) -> ProviderConfig:
    return ProviderConfig(
        base_url=section.base_url, model=section.model, timeout_seconds=section.timeout_seconds,
        api_key=os.environ.get(section.api_key_env, "") if section.api_key_env else "",
        gguf=str(section.gguf or ""))
