"""The detectors. A new one is a file and a line here."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from detect.detectors.base import Detector
from detect.detectors.breach import BreachConfig, BreachForecast
from detect.detectors.external_alert import ExternalAlertConfig, ExternalAlerts
from detect.detectors.logs import Logs, LogsConfig
from detect.detectors.metric_forecast import MetricForecast, MetricForecastConfig
from detect.detectors.process_state import ProcessState, ProcessStateConfig
from detect.detectors.resource import Resource, ResourceConfig
from detect.detectors.service_level import ServiceLevel, ServiceLevelConfig
from ingest.errors import OpsmendError

Limits = tuple[tuple[str, str | float], ...]

DETECTORS: dict[str, Callable[[str, Limits], Detector]] = {
    "process_state": lambda tenant, limits: ProcessState(ProcessStateConfig(tenant=tenant)),
    "service_level": lambda tenant, limits: ServiceLevel(ServiceLevelConfig(tenant=tenant)),
    "resource": lambda tenant, limits: Resource(ResourceConfig(tenant=tenant)),
    "logs": lambda tenant, limits: Logs(LogsConfig(tenant=tenant)),
    "metric_forecast": lambda tenant, limits: MetricForecast(MetricForecastConfig(tenant=tenant)),
    "breach": lambda tenant, limits: BreachForecast(BreachConfig(tenant=tenant, limits=limits)),
    "external_alert": lambda tenant, limits: ExternalAlerts(ExternalAlertConfig(tenant=tenant)),
}


def make_detectors(names: Sequence[str], tenant: str, limits: Limits) -> list[Detector]:
    """The named detectors; all of them for an empty list. Raises OpsmendError for an unknown name."""
    for name in names:
        if name not in DETECTORS:
            raise OpsmendError(f"[detect] detectors: unknown detector '{name}'; known: {', '.join(DETECTORS)}",
                               reason="configuration")
    return [make(tenant, limits) for name, make in DETECTORS.items() if not names or name in names]
