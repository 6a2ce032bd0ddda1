"""`opsmend kubernetes` against a real API server, with real controllers and scheduler, and a real service that takes it."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from processes_under_test import Opsmend, opsmend, wait

from rootcause.graph import GraphBuilder
from rootcause.types import ServiceGraph

__all__ = ["opsmend"]

DOCS = Path(__file__).parents[2] / "docs" / "service-graph.md"
POD = {"containers": [{"name": "main", "image": "shop:1"}]}
SERVICES = ("cart", "db", "agent", "nightly")


def workload(kind: str, name: str, **spec: object) -> dict[str, Any]:
    return {"apiVersion": "apps/v1", "kind": kind, "metadata": {"name": name, "namespace": "shop"}, "spec": {
        "selector": {"matchLabels": {"app": name}},
        "template": {"metadata": {"labels": {"app": name}}, "spec": POD}, **spec}}


def claim(name: str) -> dict[str, Any]:
    return {"metadata": {"name": name}, "spec": {"storageClassName": "", "accessModes": ["ReadWriteOnce"],
                                                 "resources": {"requests": {"storage": "1Gi"}}}}


def volume(name: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": f"pv-{name}"}, "spec": {
        "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "hostPath": {"path": f"/tmp/{name}"},
        "claimRef": {"namespace": "shop", "name": f"{name}-db-0"}}}


MOUNTS = {"containers": [{"name": "main", "image": "shop:1", "volumeMounts": [
    {"name": "data", "mountPath": "/data"}, {"name": "wal", "mountPath": "/wal"}]}]}
OBJECTS = [
    {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}}, volume("data"), volume("wal"),
    workload("Deployment", "cart", replicas=3), workload("DaemonSet", "agent"),
    workload("StatefulSet", "db", replicas=1, serviceName="db", volumeClaimTemplates=[claim("data"), claim("wal")],
             template={"metadata": {"labels": {"app": "db"}}, "spec": MOUNTS}),
    {"apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "nightly", "namespace": "shop"}, "spec": {
        "schedule": "0 3 * * *", "jobTemplate": {"spec": {"template": {"spec": {**POD, "restartPolicy": "Never"}}}}}}]


@dataclass(frozen=True)
class Cluster:
    """A control plane; `kubectl` as admin."""

    program: Path
    directory: Path
    server: str

    def kubectl(self, *arguments: str, given: str = "") -> str:
        return subprocess.run([sys.executable, str(self.program), "kubectl", str(self.directory), *arguments], input=given,
                              text=True, check=True, capture_output=True, timeout=60).stdout

    def pods(self) -> dict[str, dict[str, Any]]:
        found = json.loads(self.kubectl("-n", "shop", "get", "pods", "-o", "json"))["items"]
        return {pod["metadata"]["name"]: pod for pod in found}

    def access(self, config: str) -> list[str]:
        """Options of `opsmend kubernetes` for whoever a kubeconfig is of."""
        known = json.loads((self.directory / config).read_text())
        ca, token = self.directory / f"{config}.ca", self.directory / f"{config}.token"
        ca.write_bytes(base64.b64decode(known["clusters"][0]["cluster"]["certificate-authority-data"]))
        token.write_text(known["users"][0]["user"]["token"])
        return ["--server", self.server, "--ca-file", str(ca), "--token-file", str(token), "--every", "0"]


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    named = os.environ.get("OPSMEND_TEST_KUBERNETES", "")
    if not named or not Path(named).is_file():
        pytest.skip("NOT TESTED with a Kubernetes API server: OPSMEND_TEST_KUBERNETES names no program that starts one")
    at = tmp_path / "cluster"
    try:
        told = subprocess.run([sys.executable, named, "start", "--dir", str(at), "--nodes", "3"], text=True, check=True,
                              capture_output=True, timeout=120)
        yield Cluster(Path(named), at, json.loads(told.stdout)["server"])
    finally:
        subprocess.run([sys.executable, named, "stop", str(at), "--purge"], check=False, capture_output=True, timeout=60)


def said(service: str) -> dict[str, Any]:
    """A service tells something of itself, so that it is known."""
    return {"resource": {"attributes": [{"key": "service.name", "value": {"stringValue": service}}]}, "scopeMetrics": [
        {"metrics": [{"name": "http.server.error_ratio", "gauge": {"dataPoints": [
            {"timeUnixNano": str(time.time_ns()), "asDouble": 0.0}]}}]}]}


def tell(url: str) -> None:
    httpx.post(f"{url}/v1/metrics", json={"resourceMetrics": [said(name) for name in SERVICES]}, timeout=10).raise_for_status()


def run_command(url: str, access: list[str]) -> subprocess.CompletedProcess[str]:
    """One that hangs says where it does."""
    command = [str(Path(sys.executable).parent / "opsmend"), "kubernetes", "--url", url, *access]
    with subprocess.Popen(command, text=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          env=os.environ | {"PYTHONFAULTHANDLER": "1"}) as process:
        try:
            out, err = process.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGABRT)
            pytest.fail(process.communicate()[1])
        return subprocess.CompletedProcess(command, process.returncode, out, err)


def graph_of(service: Opsmend, after: int = 0) -> ServiceGraph:
    """Of what the service has read, without its first so many polls."""
    builder = GraphBuilder()
    for batch in (list(service.batches()) if service.journal.is_file() and service.journal.stat().st_size else [])[after:]:
        assert not batch.dead_letters
        builder.step(batch)
    return builder.graph()


@pytest.mark.timeout(180)
def test_the_graph_is_what_kubectl_says(cluster: Cluster, opsmend: Callable[..., Opsmend]) -> None:
    cluster.kubectl("apply", "-f", "-", given=json.dumps({"apiVersion": "v1", "kind": "List", "items": OBJECTS}))
    cluster.kubectl("-n", "shop", "create", "job", "tonight", "--from=cronjob/nightly")
    service = opsmend()
    service.start()
    service.wait_ready()
    wait(lambda: len(pods := cluster.pods()) == 8 and all(p["status"]["phase"] == "Running" for p in pods.values()), 30,
         lambda: str({name: pod["status"] for name, pod in cluster.pods().items()}))
    pods = cluster.pods()
    # Somebody else's reference on a pod that a controller owns: Kubernetes allows any number, one of them the controller.
    reference = {"apiVersion": "v1", "kind": "ConfigMap", "name": "backup", "uid": "0e1c5d1e-7f7e-4f0e-a9f1-1d2f3a4b5c6d"}
    cluster.kubectl("-n", "shop", "patch", "pod", "db-0", "--type", "json", "-p",
                    json.dumps([{"op": "add", "path": "/metadata/ownerReferences/0", "value": reference}]))

    refused = run_command(service.url, cluster.access("kubeconfig-opsmend"))
    assert refused.returncode == 1 and "403 for pods" in refused.stderr and "ClusterRole" in refused.stderr, refused.stderr
    role = DOCS.read_text().split("```yaml\n# rights", 1)[1].split("```", 1)[0].partition("\n")[2]
    cluster.kubectl("apply", "-f", "-", given=role)
    cluster.kubectl("create", "clusterrolebinding", "opsmend-graph", "--clusterrole", "opsmend-graph", "--user", "opsmend")

    access = cluster.access("kubeconfig-opsmend")
    done = run_command(service.url, access)
    assert done.returncode == 0 and "facts from" in done.stderr, done.stderr
    tell(service.url)
    first = wait(lambda: (found := graph_of(service)).instances.keys() == set(SERVICES) and found, 20, service.log)
    host = {name: pod["spec"]["nodeName"] for name, pod in pods.items()}
    assert first.instances == {name: {pod: host[pod] for pod in sorted(host) if pod.startswith(
        {"nightly": "tonight"}.get(name, name) + "-")} for name in sorted(SERVICES)}
    assert {len(of) for of in first.instances.values()} == {3, 1}
    assert {thing for name, thing in first.rests_on if name == "db"} == {host["db-0"], "shop/data-db-0", "shop/wal-db-0"}
    assert first.kinds["shop/wal-db-0"] == "volume" and first.kinds[host["db-0"]] == "host"
    assert set(first.services) == set(SERVICES), "nobody is called kubernetes"

    # A release, and a job that is done: what is read from then on are the pods of now.
    cluster.kubectl("-n", "shop", "set", "image", "deployment/cart", "main=shop:2")
    cluster.kubectl("-n", "shop", "rollout", "status", "deployment/cart", "--timeout=30s")
    ended = next(name for name in pods if name.startswith("tonight-"))
    cluster.kubectl("-n", "shop", "patch", "pod", ended, "--subresource=status", "-p", '{"status": {"phase": "Succeeded"}}')
    wait(lambda: len([n for n in cluster.pods() if n.startswith("cart-")]) == 3, 30, lambda: str(cluster.pods().keys()))
    before = len(list(service.batches()))
    assert run_command(service.url, access).returncode == 0
    tell(service.url)

    wait(lambda: "cart" in graph_of(service, before).instances, 20, service.log)
    now = {name: pod["spec"]["nodeName"] for name, pod in cluster.pods().items() if name.startswith("cart-")}
    later = graph_of(service, before).instances
    assert later["cart"] == dict(sorted(now.items())) and not set(now) & set(first.instances["cart"])
    assert "nightly" not in later
