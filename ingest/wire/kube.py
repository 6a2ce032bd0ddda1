"""Whose a container's telemetry is, by the Kubernetes metadata that shippers add, each with names of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ingest.wire.documents import dig, first_text

_LABELS = ("labels", "pod_labels")
_APP_LABELS = ("app.kubernetes.io/name", "app_kubernetes_io/name", "app", "k8s-app", "app.kubernetes.io/instance")
_OWNERS = ("deployment.name", "statefulset.name", "daemonset.name", "deployment", "container_name", "container.name")
_PODS = ("pod_name", "pod.name", "pod")
_NODES = ("host", "node.name", "pod_node_name", "node_name")


def service_of_pod(kubernetes: Mapping[str, Any]) -> str:
    """The label that names the application, else the deployment, else the container; "" if there is none."""
    for where in _LABELS:
        labels = kubernetes.get(where)
        if isinstance(labels, dict):
            for name in _APP_LABELS:
                found = labels.get(name) or dig(labels, name)
                if isinstance(found, str) and found:
                    return found
    return first_text(kubernetes, _OWNERS)


def pod_of(kubernetes: Mapping[str, Any]) -> str:
    """The pod, else the node; "" if there is neither."""
    return first_text(kubernetes, _PODS) or first_text(kubernetes, _NODES)


def within(entry: Mapping[str, Any], field: str = "kubernetes") -> Mapping[str, Any]:
    """The metadata of a record, an empty object if it has none."""
    found = entry.get(field)
    return found if isinstance(found, dict) else {}
