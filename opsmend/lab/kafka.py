"""A real Kafka broker for tests and the lab: KRaft, one node, free ports, a temporary directory.

Takes any unpacked Apache Kafka 4.x in `KAFKA_HOME` (its `libs/*.jar`) and Java 17. `python -m opsmend.lab.kafka`
runs one in the foreground and prints its address as JSON.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import uuid
from base64 import urlsafe_b64encode
from pathlib import Path
from types import TracebackType

from opsmend.lab import processes
from opsmend.lab.backends import LabError

_JVM = ("-Xmx384m", "-Xms64m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1",
        "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn")


def why_not() -> str:
    """"" if a broker can be started here, else what is missing."""
    home = os.environ.get("KAFKA_HOME", "")
    if not home or not list(Path(home, "libs").glob("kafka_2.13-*.jar")):
        return "KAFKA_HOME names no unpacked Apache Kafka 4.x (make kafka fetches one)"
    return "" if shutil.which("java") else "no java on PATH: Kafka 4 needs Java 17"


class KafkaBroker:
    """One node. Use as a context manager; `kill` and `start` again keep its log."""

    def __init__(self) -> None:
        if reason := why_not():
            raise LabError(reason)
        self._libs = f"{os.environ['KAFKA_HOME']}/libs/*"
        self._dir = Path(tempfile.mkdtemp(prefix="opsmend-kafka-"))
        self._port, controller = processes.free_port(), processes.free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self.bootstrap_servers = f"127.0.0.1:{self._port}"
        lines = {
            "process.roles": "broker,controller", "node.id": 1, "controller.quorum.voters": f"1@127.0.0.1:{controller}",
            "listeners": f"PLAINTEXT://127.0.0.1:{self._port},CONTROLLER://127.0.0.1:{controller}",
            "advertised.listeners": f"PLAINTEXT://127.0.0.1:{self._port}", "controller.listener.names": "CONTROLLER",
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "log.dirs": self._dir / "log", "num.partitions": 2, "offsets.topic.replication.factor": 1,
            "offsets.topic.num.partitions": 2, "transaction.state.log.replication.factor": 1,
            "transaction.state.log.min.isr": 1, "share.coordinator.state.topic.replication.factor": 1,
            "share.coordinator.state.topic.min.isr": 1, "group.initial.rebalance.delay.ms": 0,
            "group.min.session.timeout.ms": 1000,
            # Retention goes by the records' own timestamps: what is replayed from last year would vanish at once.
            "log.retention.ms": -1,
        }
        (self._dir / "server.properties").write_text("".join(f"{k}={v}\n" for k, v in lines.items()))
        cluster = urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        done = subprocess.run(self._java("kafka.tools.StorageTool", "format", f"--cluster-id={cluster}", "-c",
                                         str(self._dir / "server.properties")), capture_output=True, text=True, check=False)
        if done.returncode:
            raise LabError(f"Kafka could not format its storage: {done.stderr[-400:] or done.stdout[-400:]}")

    def _java(self, *args: str) -> list[str]:
        return ["java", *_JVM, "-cp", self._libs, *args]

    def start(self) -> KafkaBroker:
        """Returns when the broker takes connections: some 3 s. Raises LabError with the end of its log."""
        log = self._dir / "broker.log"
        with log.open("ab") as file:
            self._process = processes.spawn(self._java("kafka.Kafka", str(self._dir / "server.properties")), log=file)
        deadline = time.monotonic() + 60
        while not _is_listening(self._port):
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise LabError(f"Kafka did not start: {log.read_text(errors='replace')[-600:]}")
            time.sleep(0.1)
        return self

    def kill(self) -> None:
        """kill -9; the log stays."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def stop(self) -> None:
        """End it and remove its files."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self.kill()
        shutil.rmtree(self._dir, ignore_errors=True)

    def __enter__(self) -> KafkaBroker:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.stop()


def _is_listening(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(0.5)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def main() -> None:
    with KafkaBroker() as broker:
        print(json.dumps({"bootstrap_servers": broker.bootstrap_servers}), flush=True)
        try:
            signal.pause()
        except KeyboardInterrupt:
            return


if __name__ == "__main__":
    main()
