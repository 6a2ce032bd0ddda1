"""A receiver over HTTP: one CloudEvent per POST, signed as Standard Webhooks say."""

from __future__ import annotations

import binascii
import contextlib
import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final
from urllib.parse import urlsplit, urlunsplit

import httpx

from opsmend.cloudevents import CONTENT_TYPE, PUBLIC_TYPES, cloud_event, event_id
from opsmend.config import ConfigError
from opsmend.outlet import DeliveryError
from opsmend.store.outbox import Event

_OF_CONTENT: Final = frozenset({400, 413, 422})
"""Answers that speak about this very event; all others are about the receiver, and the event waits."""
TIMEOUT_SECONDS: Final = 10.0


class WebhookReceiver:
    """See `opsmend.outlet.Receiver`. Redirects are not followed. Raises ConfigError if the secret is not base64."""

    kind: Final = "webhook"
    batch_size = 1

    def __init__(self, url: str, secret: str, types: Sequence[str], tenant: str) -> None:
        from standardwebhooks.webhooks import EmptyWebhookSecretError, Webhook

        self._url, self._tenant = url, tenant
        self._types = frozenset(types or PUBLIC_TYPES)
        try:
            self._signer = Webhook(secret) if secret else None
        except (binascii.Error, ValueError, EmptyWebhookSecretError) as error:
            raise ConfigError(f"[[webhooks]] {_public(url)}: the secret is not base64 (whsec_...)") from error
        which = hashlib.sha256("\x1f".join([url, *sorted(self._types)]).encode()).hexdigest()[:12]
        self.name = f"webhook:{_public(url)}:{which}"
        self._client = httpx.Client(timeout=TIMEOUT_SECONDS, follow_redirects=False, trust_env=False)

    def wants(self, event_type: str) -> bool:
        return event_type in self._types

    def deliver(self, events: Sequence[Event]) -> None:
        for event in events:
            self._post(event)

    def _post(self, event: Event) -> None:
        body, now, key = cloud_event(event, self._tenant), datetime.now(UTC), event_id(event)
        headers = {"content-type": CONTENT_TYPE, "webhook-id": key, "webhook-timestamp": str(int(now.timestamp()))}
        if self._signer is not None:
            headers["webhook-signature"] = self._signer.sign(key, now, body.decode())
        try:
            answer = self._client.post(self._url, content=body, headers=headers)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise DeliveryError(f"{type(error).__name__}: {error}") from error
        if not answer.is_success:
            raise DeliveryError(f"answered {answer.status_code}", is_content=answer.status_code in _OF_CONTENT,
                                retry_after_seconds=_retry_after(answer.headers.get("retry-after", "")))

    def close(self) -> None:
        self._client.close()


def _public(url: str) -> str:
    """The address without what may be secret in it: user, password, query."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def _retry_after(value: str) -> float:
    """Seconds out of a Retry-After header (a number or a date); 0 if it is neither."""
    if value.strip().isdecimal():
        return float(value)
    with contextlib.suppress(ValueError, TypeError):
        return max(0.0, (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds())
    return 0.0
