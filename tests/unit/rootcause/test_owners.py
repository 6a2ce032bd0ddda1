"""Kubernetes owner references from kube-state-metrics: pods to workloads to services, nodes and claims."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ingest.decode import Decoder
from ingest.types import Batch, Record
from rootcause.graph import GraphBuilder, GraphConfig
from rootcause.owners import Owners

T0 = 1_790_000_000


def state(*facts: tuple[str, dict[str, str]], at: int = T0, **more: str) -> list[dict[str, Any]]:
    """As Prometheus scrapes it from kube-state-metrics."""
    own = {"job": "kube-state-metrics", "instance": "10.0.0.2:8080", **more}
    return [{"labels": {"__name__": name, **own, **labels}, "timestamp": str(at), "value": "1"} for name, labels in facts]


def pod(name: str, replicaset: str, node: str, namespace: str = "shop") -> list[tuple[str, dict[str, str]]]:
    here = {"namespace": namespace, "pod": name}
    return [("kube_pod_info", here | {"node": node, "created_by_kind": "ReplicaSet", "created_by_name": replicaset}),
            ("kube_pod_owner", here | {"owner_kind": "ReplicaSet", "owner_name": replicaset, "owner_is_controller": "true"})]


def replicaset(name: str, deployment: str, namespace: str = "shop") -> tuple[str, dict[str, str]]:
    return ("kube_replicaset_owner", {"namespace": namespace, "replicaset": name, "owner_kind": "Deployment",
                                      "owner_name": deployment, "owner_is_controller": "true"})


def batch(*rows: dict[str, Any]) -> Batch:
    found = Decoder().decode([Record("t", 0, n, T0 * 1000, json.dumps(row).encode()) for n, row in enumerate(rows)])
    assert not found.dead_letters
    return found


def metric(service: str, at: int = T0) -> dict[str, Any]:
    return {"type": "metric", "ts": at * 10**9, "service": service, "name": "http.server.error_ratio", "value": 0.0}


SHOP = state(*pod("cart-7d4-x2", "cart-7d4", "node-1"), *pod("cart-7d4-y3", "cart-7d4", "node-2"),
             replicaset("cart-7d4", "cart"),
             ("kube_pod_spec_volumes_persistentvolumeclaims_info",
              {"namespace": "shop", "pod": "db-0", "volume": "data", "persistentvolumeclaim": "data-db-0"}),
             ("kube_pod_owner", {"namespace": "shop", "pod": "db-0", "owner_kind": "StatefulSet", "owner_name": "db"}),
             ("kube_pod_info", {"namespace": "shop", "pod": "db-0", "node": "node-1"}))


def test_a_service_with_the_name_of_its_deployment_rests_on_the_nodes_of_its_pods() -> None:
    graph = GraphBuilder().step(batch(*SHOP, metric("cart"), metric("db")))
    assert graph.rests_on == {("cart", "node-1"), ("cart", "node-2"), ("db", "node-1"), ("db", "shop/data-db-0")}
    assert {n: graph.kind_of(n) for n in ("node-1", "shop/data-db-0")} == {"node-1": "host", "shop/data-db-0": "volume"}
    assert graph.instances["cart"] == {"cart-7d4-x2": "node-1", "cart-7d4-y3": "node-2"}


def test_telemetry_says_which_service_a_pod_is_and_kubernetes_where_it_runs() -> None:
    value = {"resourceSpans": [{"resource": {"attributes": [
        {"key": k, "value": {"stringValue": v}} for k, v in {
            "service.name": "basket", "service.instance.id": "b-1", "k8s.pod.name": "cart-7d4-x2",
            "k8s.namespace.name": "shop"}.items()]},
        "scopeSpans": [{"spans": [{"spanId": "0000000000000001", "startTimeUnixNano": str(T0 * 10**9)}]}]}]}
    graph = GraphBuilder().step(batch(*SHOP, value))
    assert graph.instances["basket"] == {"b-1": "node-1"} and ("basket", "node-1") in graph.rests_on
    assert "cart" not in graph.services


def test_a_call_to_a_pod_is_a_call_to_its_service() -> None:
    span = {"type": "span", "ts": T0 * 10**9, "service": "web", "span_id": "a", "peer": "cart-7d4-y3", "peer_kind": "address",
            "kind": 3, "duration_us": 5}
    assert GraphBuilder().step(batch(*SHOP, metric("cart"), span)).edges == {("web", "cart")}


@pytest.mark.parametrize("first", [True, False])
def test_facts_come_in_any_order_and_from_another_view_of_labels(first: bool) -> None:
    owner = state(("kube_replicaset_owner", {"exported_namespace": "shop", "namespace": "monitoring", "replicaset": "cart-7d4",
                                             "owner_kind": "Deployment", "owner_name": "cart"}), pod="ksm-0")
    pods = state(("kube_pod_owner", {"exported_pod": "cart-7d4-x2", "exported_namespace": "shop", "namespace": "monitoring",
                                     "owner_kind": "ReplicaSet", "owner_name": "cart-7d4"}), pod="ksm-0")
    owners = Owners(100)
    for rows in (owner, pods) if first else (pods, owner):
        owners.step(batch(*rows).metrics, T0)
    assert owners.workload("shop", "cart-7d4-x2") == "cart" and list(owners.pods()) == [("shop", "cart-7d4-x2", T0)]


def test_of_several_owners_the_controller_counts_whatever_the_order() -> None:
    here = {"namespace": "shop", "pod": "db-0"}
    rows = [("kube_pod_owner", here | {"owner_kind": "StatefulSet", "owner_name": "db", "owner_is_controller": "true"}),
            ("kube_pod_owner", here | {"owner_kind": "Backup", "owner_name": "nightly", "owner_is_controller": "false"})]
    for order in (rows, rows[::-1]):
        owners = Owners(100)
        owners.step(batch(*state(*order)).metrics, T0)
        assert owners.workload("shop", "db-0") == "db"


def test_a_pod_has_all_its_claims_and_the_graph_is_not_made_anew_for_them() -> None:
    claims = [("kube_pod_spec_volumes_persistentvolumeclaims_info",
               {"namespace": "shop", "pod": "db-0", "volume": name, "persistentvolumeclaim": f"{name}-db-0"})
              for name in ("data", "wal")]
    builder = GraphBuilder()
    first = builder.step(batch(*SHOP, *state(*claims), metric("db")))
    assert {thing for service, thing in first.rests_on if service == "db"} == {"node-1", "shop/data-db-0", "shop/wal-db-0"}
    assert builder.step(batch(*SHOP, *state(*claims), metric("db"))) is first


def test_a_pod_that_has_ended_is_no_instance() -> None:
    def phase(pod: str, ended: int, at: int = T0) -> list[dict[str, Any]]:
        rows = state(*(("kube_pod_status_phase", {"namespace": "shop", "pod": pod, "phase": name})
                       for name in ("Running", "Failed")), at=at)
        return [row | {"value": str(value)} for row, value in zip(rows, (1 - ended, ended), strict=True)]

    builder = GraphBuilder()
    graph = builder.step(batch(*SHOP, *phase("cart-7d4-x2", 0), *phase("cart-7d4-y3", 1), metric("cart")))
    assert graph.instances["cart"] == {"cart-7d4-x2": "node-1"} and ("cart", "node-2") not in graph.rests_on
    again = GraphBuilder()
    again.restore(builder.snapshot())
    assert again.graph() == graph
    assert "cart-7d4-y3" in builder.step(batch(*phase("cart-7d4-y3", 0, T0 + 5))).instances["cart"]


def test_facts_are_for_the_graph_and_nobody_judges_them() -> None:
    builder = GraphBuilder()
    whole = batch(*SHOP, metric("cart"), metric("db"))
    assert "kube-state-metrics" not in builder.step(whole).services
    left = builder.resolved(whole).metrics
    assert sorted((left.series_table[at].service, value) for at, value in zip(left.series, left.value, strict=True)) == [
        ("cart", 0.0), ("db", 0.0)]
    assert len(left.series_table) == 2 and len(left.ts_ns) == 2


def test_what_the_kubelet_and_kube_state_metrics_tell_of_a_pod_is_of_its_service() -> None:
    def told(name: str, pod: str, container: str, **more: str) -> dict[str, Any]:
        labels = {"__name__": name, "namespace": "shop", "pod": pod, "container": container, "job": "kubelet",
                  "instance": "10.0.0.1:10250", **more}
        return {"labels": labels, "timestamp": str(T0), "value": "5"}

    span = {"type": "span", "ts": T0 * 10**9, "service": "cart", "span_id": "a", "peer": "db", "peer_kind": "database",
            "kind": 3, "duration_us": 5}
    builder = GraphBuilder()
    rows = batch(*SHOP, span, told("container_memory_rss", "cart-7d4-x2", "main"), told("container_memory_rss", "db-0", "main"),
                 told("container_memory_rss", "dns-5f-1", "dns"), told("http_requests_total", "cart-7d4-x2", "main"),
                 told("kube_pod_container_status_restarts_total", "ksm-0", "ksm", exported_pod="db-0", job="ksm"))
    graph = builder.step(rows)
    assert set(graph.services) == {"cart", "db", "kubelet"}, "not ksm: all of what it told is of others"
    found = {(k.service, k.instance, k.name) for k in builder.resolved(rows).metrics.series_table}
    assert found == {
        ("cart", "cart-7d4-x2", "container_memory_rss"), ("db", "db-0", "container_memory_rss"),
        ("db", "db-0", "kube_pod_container_status_restarts_total"), ("kubelet", "10.0.0.1:10250", "http_requests_total"),
        ("kubelet", "10.0.0.1:10250", "container_memory_rss")}, "nobody knows dns, and what a pod tells itself stays as it is"
    values = builder.resolved(rows).metrics
    assert len(values.value) == 5 and set(values.value.tolist()) == {5.0}


def test_owners_age_are_bounded_and_survive_a_restart() -> None:
    builder = GraphBuilder(GraphConfig(forget_instance_seconds=60, max_instances=20))
    builder.step(batch(*SHOP, metric("cart")))
    other = GraphBuilder(GraphConfig(forget_instance_seconds=60, max_instances=20))
    other.restore(builder.snapshot())
    assert other.graph() == builder.graph() and other.graph().rests_on
    assert not other.step(batch(metric("cart", at=T0 + 90))).rests_on
    many = state(*(fact for n in range(50) for fact in pod(f"cart-7d4-{n}", "cart-7d4", f"node-{n}")))
    assert len(builder.step(batch(*many, metric("cart", at=T0 + 5))).rests_on) <= 20


def test_somebody_elses_domain_is_not_our_workload_of_the_same_name() -> None:
    resource = {"service.name": "mailer", "k8s.deployment.name": "mail", "k8s.pod.name": "mail-7d4-x2",
                "k8s.namespace.name": "shop"}
    value = {"resourceSpans": [{"resource": {"attributes": [
        {"key": k, "value": {"stringValue": v}} for k, v in resource.items()]}, "scopeSpans": [{"spans": [
            {"spanId": "0000000000000001", "startTimeUnixNano": str(T0 * 10**9)}]}]}]}
    names = ("mail.example.com", "mail", "mail-7d4-x2.mail", "mail.shop.svc.cluster.local")
    calls = [{"type": "span", "ts": T0 * 10**9, "service": "web", "span_id": peer, "peer": peer, "peer_kind": "address",
              "kind": 3, "duration_us": 5} for peer in names]
    graph = GraphBuilder().step(batch(value, *calls))
    assert graph.edges == {("web", "mail.example.com"), ("web", "mailer")}
    assert graph.kinds["mail.example.com"] == "external"


@pytest.mark.timeout(20)
def test_owners_in_a_ring_end() -> None:
    ring = [("kube_replicaset_owner", {"namespace": "shop", "replicaset": one, "owner_kind": "ReplicaSet", "owner_name": other})
            for one, other in (("a", "b"), ("b", "a"), ("c", "c"))]
    owners = Owners(100)
    owners.step(batch(*state(*ring, *pod("x-1", "a", "node-1"), *pod("y-1", "c", "node-1"))).metrics, T0)
    assert owners.workload("shop", "x-1") in ("a", "b") and owners.workload("shop", "y-1") == "c"
