"""Metrics of service graphs, as Grafana Tempo's metrics generator and the OpenTelemetry Collector's `servicegraph`
connector make them of spans: who calls whom, how often, how often in vain, how long as either side measures it.

`traces_service_graph_request_total`, `_failed_total`, `_server_seconds`, `_client_seconds` (histograms; over OTLP
`_server` and `_client`), labels `client`, `server`, `connection_type`. Such a series is one of the client, with the
server as its peer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

PREFIX: Final = "traces_service_graph_request"
_OUTSIDE: Final = ("user", "")
"""What is given as client where no span of one is known: whoever asks from outside."""


def call_of(name: str, labels: Mapping[str, object]) -> tuple[str, str] | None:
    """(service, peer) of a series; None if it is none of these. Calls from outside belong to the server, without peer.

    >>> call_of("traces_service_graph_request_total", {"client": "web", "server": "cart"})
    ('web', 'cart')
    """
    if not name.startswith(PREFIX):
        return None
    client, server = labels.get("client"), labels.get("server")
    if not isinstance(client, str) or not isinstance(server, str) or not server:
        return None
    return (server, "") if client in _OUTSIDE else (client, server)


def without_ends(labels: Mapping[str, str]) -> dict[str, str]:
    """The labels that remain; who made or scraped the series is one of them, not whom it is about."""
    return {k: v for k, v in labels.items() if k not in ("client", "server")}
