"""Both clients, as consumer and as producer, with every way to enter a real Kafka; and what they say if it is wrong."""

from __future__ import annotations

import json
import logging
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from ingest.errors import TransportError
from ingest.transports.config import TransportConfig
from ingest.transports.registry import open_consumer, open_producer
from ingest.types import Watermark
from opsmend.lab.kafka import SECURITY, USERS, KafkaCluster, Security, why_not
from opsmend.lab.kafka_tls import KEY_PASSWORD

pytestmark = pytest.mark.kafka
CLIENTS = ("kafka", "kafka-python")
CANARY = "c4nary-hunter2"
OPSMEND = [sys.executable, "-c", "from opsmend.cli import main; main()"]


class Clusters:
    """One broker at a time: the tests come sorted by what they need."""

    def __init__(self) -> None:
        self._now: KafkaCluster | None = None

    def __getitem__(self, security: Security) -> KafkaCluster:
        if self._now is None or self._now.security != security:
            self.stop()
            self._now = KafkaCluster(1, security, heap_mb=256).start()
        return self._now

    def stop(self) -> None:
        if self._now is not None:
            self._now.stop()


@pytest.fixture(scope="module")
def clusters() -> Iterator[Clusters]:
    if reason := why_not():
        pytest.skip(f"NOT TESTED against Kafka: {reason}")
    made = Clusters()
    yield made
    made.stop()


def config(cluster: KafkaCluster, kind: str, changes: dict[str, str] | None = None) -> TransportConfig:
    changes = {name: cluster.pem(value) if value.endswith((".pem", ".key")) else value
               for name, value in (changes or {}).items()}
    base = TransportConfig(kind=kind, topics=(f"t-{kind}",), group_id=f"g-{kind}", session_timeout_seconds=6,
                           connect_timeout_seconds=3,
                           **cluster.client())  # type: ignore[arg-type]
    return replace(base, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(("security", "kind"), [(s, kind) for s in SECURITY for kind in CLIENTS])
def test_records_go_in_and_come_out(clusters: Clusters, security: Security, kind: str) -> None:
    changes = {"key": "client-locked.key", "key_password": KEY_PASSWORD} if security == "mtls" else {}
    for settings in [config(clusters[security], kind), config(clusters[security], kind, changes)][: 1 + bool(changes)]:
        producer = open_producer(settings)
        producer.send(settings.topics[0], b"hello", key=b"k")
        producer.flush()
        producer.close()
    consumer = open_consumer(settings)
    consumer.start(Watermark())
    deadline = time.monotonic() + 30
    found = []
    while len(found) < 1 + bool(changes) and time.monotonic() < deadline:
        found += consumer.poll(10, 500)
    consumer.close()
    assert [r.value for r in found] == [b"hello"] * (1 + bool(changes))


WRONG: list[tuple[Security, dict[str, str], str]] = [
    ("none", {"protocol": "SSL"}, r"bootstrap_servers and security"),
    ("tls", {"ca": "other-ca.pem"}, r"security: ca\b"),
    ("tls", {"ca": ""}, r"security: ca\b"),
    ("tls", {"protocol": "PLAINTEXT"}, r"protocol|bootstrap_servers and security"),
    ("mtls", {"cert": "", "key": ""}, r"security: cert and key"),
    ("mtls", {"key": "client-locked.key"}, r"key_password_env"),
    ("mtls", {"key": "client-locked.key", "key_password": CANARY}, r"security: "),
    ("scram", {"password": CANARY}, r"security: username, password_env"),
    ("scram", {"username": "nobody"}, r"security: username, password_env"),
    ("scram", {"mechanism": "SCRAM-SHA-256"}, r"\bmechanism\b"),
    ("scram-tls", {"password": CANARY}, r"security: username, password_env"),
    ("scram-tls", {"ca": "other-ca.pem"}, r"security: ca\b"),
]


@pytest.mark.parametrize(("security", "changes", "told", "kind"), [(*wrong, kind) for wrong in WRONG for kind in CLIENTS],
                         ids=[f"{s}-{'-'.join(c)}-{kind}" for s, c, _ in WRONG for kind in CLIENTS])
def test_what_is_wrong_is_told_by_the_name_of_its_setting(
        clusters: Clusters, kind: str, security: Security, changes: dict[str, str], told: str,
        caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> None:
    settings = config(clusters[security], kind, changes)
    caplog.set_level(logging.DEBUG)
    for opens in (lambda c: open_consumer(c).start(Watermark()), open_producer):
        begun = time.monotonic()
        with pytest.raises(TransportError, match=rf"(?s)\[ingest\.kafka\].*({told})") as error:
            opens(settings)
        assert time.monotonic() - begun < 10
        assert not error.value.is_transient
        assert "\n" not in str(error.value)
        assert CANARY not in f"{error.value} {error.value.__cause__!r} {settings!r}"
    assert CANARY not in caplog.text + "".join(capfd.readouterr())


@pytest.mark.parametrize("kind", CLIENTS)
def test_a_user_without_rights_is_told_which_one_is_missing(clusters: Clusters, kind: str) -> None:
    cluster = clusters["scram"]
    able = open_producer(config(cluster, kind))
    able.send(f"t-{kind}", b"x")
    able.flush()
    able.close()
    stranger = config(cluster, kind, {"username": "stranger", "password": USERS["stranger"]})
    begun = time.monotonic()
    producer = open_producer(stranger)
    with pytest.raises(TransportError, match=r"'t-kafka.*username \('stranger'\).*WRITE on the topic") as error:
        producer.send(stranger.topics[0], b"x")
        producer.flush()
    assert not error.value.is_transient
    producer.close()
    consumer = open_consumer(stranger)
    with pytest.raises(TransportError, match=r"username.*needs READ"):
        consumer.start(Watermark())
        while time.monotonic() < begun + 20:
            consumer.poll(10, 200)
    consumer.close()
    assert time.monotonic() - begun < 20


def write(directory: Path, transport: str, settings: TransportConfig) -> Path:
    security = {"protocol": settings.protocol, "mechanism": settings.mechanism, "username": settings.username,
                "password_env": "KAFKA_PW" if settings.username else "", "ca": settings.ca, "cert": settings.cert,
                "key": settings.key, "key_password_env": "KEY_PW" if settings.key_password else ""}
    inner = ", ".join(f"{name} = {json.dumps(value)}" for name, value in security.items() if value)
    directory.mkdir()
    toml = directory / "opsmend.toml"
    toml.write_text(f'[service]\ndata_dir = "{directory}"\nlisten = "127.0.0.1:0"\n[ingest]\ntransport = "{transport}"\n'
                    f'[ingest.kafka]\nbootstrap_servers = "{settings.bootstrap_servers}"\nsecurity = {{ {inner} }}\n'
                    '[repair]\nexecutor = "memory"\n')
    return toml


def test_the_service_ends_with_one_line_and_no_secret(clusters: Clusters, tmp_path: Path) -> None:
    """A process each: `opsmend run` with a wrong password, a wrong authority and no client certificate; `doctor` and
    `config show` with the wrong password."""
    wrong: list[tuple[Security, dict[str, str], str, str]] = [
        ("tls", {"ca": "other-ca.pem"}, "security: ca", "kafka"),
        ("mtls", {"cert": "", "key": ""}, "cert and key", "kafka-python"),
        ("scram", {"password": CANARY}, "password_env", "kafka"),
        ("scram", {"password": CANARY}, "password_env", "kafka-python")]
    for security, changes, told, kind in wrong:
        toml = write(tmp_path / f"{security}-{kind}", kind, config(clusters[security], kind, changes))
        done = subprocess.run([*OPSMEND, "run", "-c", str(toml)], capture_output=True, text=True, timeout=90,
                              env={**os.environ, "KAFKA_PW": CANARY}, check=False)
        assert done.returncode == 3, done.stderr[-2000:]
        (line,) = done.stderr.splitlines()
        assert re.match(r"opsmend: Kafka at .*\[ingest\.kafka\]", line)
        assert told in line
        assert CANARY not in done.stdout + done.stderr
    toml = tmp_path / "scram-kafka" / "opsmend.toml"
    for command, code in ((["doctor"], 3), (["doctor", "--json"], 3), (["config", "show"], 0)):
        done = subprocess.run([*OPSMEND, *command, "-c", str(toml)], capture_output=True, text=True, timeout=90,
                              env={**os.environ, "KAFKA_PW": CANARY}, check=False)
        assert done.returncode == code, done.stdout + done.stderr
        assert CANARY not in done.stdout + done.stderr
