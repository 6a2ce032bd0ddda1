"""A real Kafka for tests and the lab: KRaft, one node or several, free ports of 127.0.0.1, a temporary directory.

Takes any unpacked Apache Kafka 4.x in `KAFKA_HOME` (its `libs/*.jar`) and Java 17. `python -m opsmend.lab.kafka`
runs one in the foreground and prints its address as JSON; `--nodes 3 --security scram-tls` and so on.
"""

from __future__ import annotations

import argparse
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
from typing import Literal, Self

from opsmend.lab import processes
from opsmend.lab.backends import LabError
from opsmend.lab.kafka_tls import make_certificates

Security = Literal["none", "tls", "mtls", "scram", "scram-tls"]
SECURITY: tuple[Security, ...] = ("none", "tls", "mtls", "scram", "scram-tls")
USERS = {"opsmend": "only-for-tests", "stranger": "also-only-for-tests"}
"""SCRAM users and their passwords: `opsmend` may do everything, `stranger` nothing but log in."""
_PROTOCOLS = {"none": "PLAINTEXT", "tls": "SSL", "mtls": "SSL", "scram": "SASL_PLAINTEXT", "scram-tls": "SASL_SSL"}
_JVM = ("-Xms64m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn")


def why_not() -> str:
    """"" if a broker can be started here, else what is missing."""
    home = os.environ.get("KAFKA_HOME", "")
    if not home or not list(Path(home, "libs").glob("kafka_2.13-*.jar")):
        return "KAFKA_HOME names no unpacked Apache Kafka 4.x (make kafka fetches one)"
    return "" if shutil.which("java") else "no java on PATH: Kafka 4 needs Java 17"


class KafkaCluster:
    """Nodes 1..n, each broker and controller. Use as a context manager; nodes can be killed and revived on their log.

    About 330 MB resident a node; ready in 3 s (three nodes: 5 s) on an idle machine. Topics have as many copies as
    there are nodes (three at most), and writing needs all but one of them.
    """

    def __init__(self, nodes: int = 1, security: Security = "none", *, heap_mb: int = 384, partitions: int = 2,
                 properties: dict[str, object] | None = None) -> None:
        if reason := why_not():
            raise LabError(reason)
        self._libs = f"{os.environ['KAFKA_HOME']}/libs/*"
        self._heap_mb, self.security = heap_mb, security
        self._dir = Path(tempfile.mkdtemp(prefix="opsmend-kafka-"))
        self._processes: dict[int, subprocess.Popen[bytes]] = {}
        self._ports = {node: (processes.free_port(), processes.free_port()) for node in range(1, nodes + 1)}
        self.bootstrap_servers = ",".join(f"127.0.0.1:{port}" for port, _ in self._ports.values())
        try:
            if "tls" in security:
                make_certificates(self._dir / "tls")
            for node in self._ports:
                lines = {**self._properties(node, partitions), **(properties or {})}
                self._file(node).write_text("".join(f"{k}={v}\n" for k, v in lines.items()))
            self._format()
        except BaseException:
            self.stop()
            raise

    @property
    def nodes(self) -> tuple[int, ...]:
        return tuple(self._ports)

    def pem(self, name: str) -> str:
        """Path of a file that `make_certificates` wrote, such as `ca.pem`."""
        return str(self._dir / "tls" / name)

    def client(self) -> dict[str, str]:
        """What a client needs to come in, named as the fields of `TransportConfig`."""
        found = {"bootstrap_servers": self.bootstrap_servers, "protocol": _PROTOCOLS[self.security]}
        if "tls" in self.security:
            found |= {"ca": self.pem("ca.pem")}
        if self.security == "mtls":
            found |= {"cert": self.pem("client.pem"), "key": self.pem("client.key")}
        if "scram" in self.security:
            found |= {"mechanism": "SCRAM-SHA-512", "username": "opsmend", "password": USERS["opsmend"]}
        return found

    def _file(self, node: int) -> Path:
        return self._dir / f"node{node}.properties"

    def _log(self, node: int) -> Path:
        return self._dir / f"node{node}.log"

    def _properties(self, node: int, partitions: int) -> dict[str, object]:
        copies = min(3, len(self._ports))
        fewest = max(1, copies - 1)
        port, controller = self._ports[node]
        lines: dict[str, object] = {
            "process.roles": "broker,controller", "node.id": node,
            "controller.quorum.voters": ",".join(f"{n}@127.0.0.1:{c}" for n, (_, c) in self._ports.items()),
            "listeners": f"CLIENT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}",
            "advertised.listeners": f"CLIENT://127.0.0.1:{port}", "controller.listener.names": "CONTROLLER",
            "inter.broker.listener.name": "CLIENT",
            "listener.security.protocol.map": f"CLIENT:{_PROTOCOLS[self.security]},CONTROLLER:PLAINTEXT",
            "log.dirs": self._dir / f"data{node}", "num.partitions": partitions, "default.replication.factor": copies,
            "min.insync.replicas": fewest,
            "offsets.topic.replication.factor": copies, "offsets.topic.num.partitions": 2,
            "transaction.state.log.replication.factor": copies, "transaction.state.log.min.isr": fewest,
            "transaction.state.log.num.partitions": 2, "share.coordinator.state.topic.replication.factor": copies,
            "share.coordinator.state.topic.min.isr": fewest, "group.initial.rebalance.delay.ms": 0,
            "group.min.session.timeout.ms": 1000,
            # Retention goes by the records' own timestamps: what is replayed from last year would vanish at once.
            "log.retention.ms": -1,
        }
        if len(self._ports) > 1:  # a killed node is noticed soon
            lines |= {"broker.session.timeout.ms": 3000, "broker.heartbeat.interval.ms": 500,
                      "controller.quorum.election.timeout.ms": 500, "controller.quorum.fetch.timeout.ms": 1000,
                      "controller.quorum.election.backoff.max.ms": 300, "replica.lag.time.max.ms": 3000}
        at = "listener.name.client."
        if "tls" in self.security:
            lines |= {f"{at}ssl.keystore.type": "PEM", f"{at}ssl.keystore.location": self.pem("server.keystore.pem"),
                      f"{at}ssl.truststore.type": "PEM", f"{at}ssl.truststore.location": self.pem("ca.pem"),
                      f"{at}ssl.client.auth": "required" if self.security == "mtls" else "none"}
        if "scram" in self.security:
            login = "org.apache.kafka.common.security.scram.ScramLoginModule required"
            lines |= {"sasl.enabled.mechanisms": "SCRAM-SHA-512",
                      "sasl.mechanism.inter.broker.protocol": "SCRAM-SHA-512",
                      f"{at}scram-sha-512.sasl.jaas.config":
                          f'{login} username="opsmend" password="{USERS["opsmend"]}";',
                      "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
                      # Controllers speak to each other in plain text here.
                      "super.users": "User:opsmend;User:ANONYMOUS"}
        return lines

    def _format(self) -> None:
        """Kafka's own tool for the first node, the same for the others under their own ids: a JVM start saved each."""
        users = [f"--add-scram=SCRAM-SHA-512=[name={name},password={password}]" for name, password in USERS.items()]
        cluster = _new_id()
        done = subprocess.run(
            self._java("kafka.tools.StorageTool", "format", f"--cluster-id={cluster}", "-c", str(self._file(1)),
                       *(users if "scram" in self.security else ())), capture_output=True, text=True, check=False)
        if done.returncode:
            raise LabError(f"Kafka could not format its storage: {done.stderr[-400:] or done.stdout[-400:]}")
        for node in self.nodes[1:]:
            data = shutil.copytree(self._dir / "data1", self._dir / f"data{node}")
            (data / "meta.properties").write_text(
                f"version=1\ncluster.id={cluster}\nnode.id={node}\ndirectory.id={_new_id()}\n")

    def _java(self, *args: str) -> list[str]:
        return ["java", f"-Xmx{self._heap_mb}m", *_JVM, "-cp", self._libs, *args]

    def start(self) -> Self:
        """Start what does not run; returns when it takes connections. Raises LabError with the end of a node's log."""
        started = [node for node in self.nodes if not self.is_running(node)]
        for node in started:
            self._launch(node)
        for node in started:
            self._wait(node)
        return self

    def revive(self, node: int, *, wait: bool = True) -> None:
        """Start a killed node again on its log."""
        self._launch(node)
        if wait:
            self._wait(node)

    def _launch(self, node: int) -> None:
        with self._log(node).open("ab") as file:
            self._processes[node] = processes.spawn(self._java("kafka.Kafka", str(self._file(node))), log=file)

    def _wait(self, node: int, seconds: float = 60) -> None:
        deadline = time.monotonic() + seconds
        while not _is_listening(self._ports[node][0]):
            if not self.is_running(node) or time.monotonic() > deadline:
                told = self._log(node).read_text(errors="replace")[-600:]
                self.stop()
                raise LabError(f"Kafka node {node} did not start: {told}")
            time.sleep(0.1)

    def is_running(self, node: int) -> bool:
        process = self._processes.get(node)
        return process is not None and process.poll() is None

    def kill(self, node: int = 1) -> None:
        """kill -9 one node; its log stays."""
        if (process := self._processes.get(node)) is not None:
            process.kill()
            process.wait()

    def stop(self) -> None:
        """End all nodes and remove their files."""
        running = [node for node in self.nodes if self.is_running(node)]
        for node in running:
            self._processes[node].send_signal(signal.SIGTERM)
        deadline = time.monotonic() + 10
        for node in running:
            try:
                self._processes[node].wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                self.kill(node)
        shutil.rmtree(self._dir, ignore_errors=True)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.stop()


class KafkaBroker(KafkaCluster):
    """One node without secrets: what most tests need."""

    def __init__(self) -> None:
        super().__init__()


def _new_id() -> str:
    """As Kafka makes them; one that begins with a dash would be taken for an option."""
    while (made := urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")).startswith("-"):
        pass
    return made


def _is_listening(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(0.5)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, default=1)
    parser.add_argument("--security", choices=SECURITY, default="none")
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with KafkaCluster(args.nodes, args.security) as cluster:
            print(json.dumps(cluster.client()), flush=True)
            signal.pause()
    except KeyboardInterrupt:
        return


if __name__ == "__main__":
    main()
