"""`opsmend kubernetes`: what runs where and belongs to what, from the Kubernetes API to a running service."""

from __future__ import annotations

import time
from pathlib import Path

from ingest.errors import OpsmendError
from opsmend.commands import output
from opsmend.commands.client import call
from opsmend.kubernetes import IN_CLUSTER, ApiServer, otlp_body, read_facts

_MOST: int = 4000
"""Facts of one request: below a megabyte, which is what Kafka takes in one record."""


def run_kubernetes(url: str, token: str, server: str, token_file: Path | None, ca_file: Path | None, every: float) -> int:
    """Once, and then every so many seconds (0: that was all). The first round must work; a later one that does not is told,
    and tried again."""
    api = ApiServer(server or IN_CLUSTER, token_file, ca_file)
    output.note(f"{_round(api, url, token)} facts from {api.url}")
    while every > 0:
        time.sleep(every)
        try:
            _round(api, url, token)
        except OpsmendError as error:
            output.note(f"opsmend: {error}")
    return 0


def _round(api: ApiServer, url: str, token: str) -> int:
    facts = read_facts(api)
    now_ns = time.time_ns()
    for at in range(0, len(facts), _MOST):
        call("POST", url, "/v1/metrics", token, otlp_body(facts[at:at + _MOST], now_ns))
    return len(facts)
