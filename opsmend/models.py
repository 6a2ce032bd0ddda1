"""Optional helpers of the planner: incident memory and a language model. Without them everything works."""

from __future__ import annotations

from typing import Any

import structlog

from opsmend.config import Settings
from opsmend.metrics import ServiceMetrics
from remediate.ports import Ledger

log = structlog.get_logger()


def planner_models(settings: Settings, ledger: Ledger, metrics: ServiceMetrics) -> dict[str, Any]:
    """Keyword arguments for the Planner: what is configured and installed."""
    return {}
