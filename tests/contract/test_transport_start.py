"""What can't work is told when a transport is opened, by name and at once."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from ingest.errors import TransportError
from ingest.transports.config import TransportConfig
from ingest.transports.registry import open_consumer, open_producer
from ingest.types import Watermark


@pytest.fixture
def silent_port() -> Iterator[int]:
    """Takes connections and never says a word."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(16)
        yield listening.getsockname()[1]


@pytest.mark.parametrize("what", ["consumer", "producer"])
@pytest.mark.parametrize("where", ["127.0.0.1:1", "nowhere.invalid:9092", "silent", "127.0.0.1"])
@pytest.mark.parametrize("kind", ["kafka", "kafka-python"])
def test_a_wrong_address_is_told_within_ten_seconds(kind: str, where: str, what: str, silent_port: int) -> None:
    """Whichever of both `opsmend run` opens first."""
    address = f"127.0.0.1:{silent_port}" if where == "silent" else where
    config = TransportConfig(kind=kind, topics=("t",), bootstrap_servers=address, connect_timeout_seconds=1)
    begun = time.monotonic()
    if what == "consumer":
        consumer = open_consumer(config)
        with pytest.raises(TransportError, match=rf"{re.escape(address)}.*\[ingest\.kafka\] bootstrap_servers"):
            consumer.start(Watermark())
    else:
        with pytest.raises(TransportError, match=rf"{re.escape(address)}.*\[ingest\.kafka\] bootstrap_servers"):
            open_producer(config)
    assert time.monotonic() - begun < 10


@pytest.mark.parametrize("opens", [lambda c: open_consumer(c).start(Watermark()), open_producer])
@pytest.mark.parametrize("kind", ["kafka", "kafka-python"])
@pytest.mark.parametrize(("changes", "told"), [
    ({"bootstrap_servers": ""}, r"\[ingest\.kafka\] bootstrap_servers is not set"),
    ({"protocol": "SSL", "ca": "/nowhere/ca.pem"}, r"\[ingest\.kafka\]"),
])
def test_settings_that_cannot_work_are_told_at_once(kind: str, changes: dict[str, str], told: str,
                                                    opens: Callable[[TransportConfig], object]) -> None:
    base = TransportConfig(kind=kind, topics=("t",), bootstrap_servers="127.0.0.1:1", connect_timeout_seconds=1)
    with pytest.raises(TransportError, match=told):
        opens(replace(base, **changes))


def test_a_password_is_never_shown() -> None:
    assert "hunter2" not in repr(TransportConfig(password="hunter2"))


def test_an_unknown_transport_names_the_known_ones() -> None:
    with pytest.raises(TransportError, match="embedded, kafka, kafka-python"):
        open_consumer(TransportConfig(kind="pigeon"))
