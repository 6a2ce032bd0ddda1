"""A worker that died in the middle of a transaction: its peers end that transaction, instead of waiting for the broker.

Until the transaction of a dead worker is over, nobody sees what comes after it in the topics it wrote to: neither the
successor, which needs the changelog, nor the tenant stage. The broker gives it up after `transaction.timeout.ms`, and
looks only every ten seconds. Whoever begins under the same transactional id ends it at once, and that is done here:
consumers are listed under their transactional id, so that the one that is missing from its group is known by name.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Sequence

import structlog
from confluent_kafka import KafkaException, Producer
from confluent_kafka.admin import AdminClient

from ingest.transports.kafka_confluent import client_settings
from opsmend.runners.quix_settings import QuixConfig

log = structlog.get_logger()
_EVERY_SECONDS = 1.0
_MARK = ".tx-"


def new_name(group: str) -> str:
    """A transactional id, and the client id of the consumer beside it."""
    return f"{group}{_MARK}{uuid.uuid4()}"


class Fence:
    """Watches the groups that we are in ourselves. A live worker that was silent for longer than its session lost its
    shards anyhow; its transaction can't be committed, so ending it takes nothing from it."""

    def __init__(self, config: QuixConfig, groups: Sequence[str]) -> None:
        self._settings = client_settings(config.transport)
        self._groups = list(groups)
        self._members: dict[str, set[str]] = {group: set() for group in groups}
        self._admin = AdminClient(self._settings)
        self.fenced = 0

    def run(self, stop: threading.Event) -> None:
        """Until `stop`. A broker that is away is asked again."""
        while not stop.wait(_EVERY_SECONDS):
            try:
                self.look()
            except KafkaException as error:
                log.debug("fence.no_answer", error=str(error))

    def look(self) -> None:
        """Compare the members with those of the last look, and end the transactions of those who are gone."""
        for group, future in self._admin.describe_consumer_groups(self._groups, request_timeout=5).items():
            found = future.result(6)
            now = {m.client_id for m in found.members if _MARK in (m.client_id or "")}
            if not now:  # a group without members tells nothing of who has died
                continue
            for name in sorted(self._members[group] - now):
                self._end(name)
            self._members[group] = now

    def _end(self, name: str) -> None:
        Producer({**self._settings, "transactional.id": name}).init_transactions(10)
        self.fenced += 1
        log.info("fence.ended", transaction=name)
