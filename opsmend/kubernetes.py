"""Owner references, nodes and claims straight from the Kubernetes API, for clusters without kube-state-metrics.

Told in kube-state-metrics' words (`rootcause/owners.py` reads them whoever says so), as one OTLP/JSON body. Needs `list`
on pods, replicasets (apps) and jobs (batch), cluster-wide, and nothing else.
"""

from __future__ import annotations

import json
import ssl
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from ingest.errors import OpsmendError, TransportError

if TYPE_CHECKING:
    import httpx

IN_CLUSTER: Final = "https://kubernetes.default.svc"
_ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_LISTS: Final = {"pod": "/api/v1/pods", "replicaset": "/apis/apps/v1/replicasets", "job_name": "/apis/batch/v1/jobs"}
_OWNER: Final = {"pod": "kube_pod_owner", "replicaset": "kube_replicaset_owner", "job_name": "kube_job_owner"}
_PAGE: Final = 500
_OVER: Final = ("Succeeded", "Failed")
Fact = tuple[str, dict[str, str]]
"""(name of the metric, labels)"""


@dataclass(frozen=True)
class ApiServer:
    """Where the API is, and who asks. Empty: as a pod knows it from its service account."""

    url: str = IN_CLUSTER
    token_file: Path | None = None
    ca_file: Path | None = None
    timeout_seconds: float = 10.0
    """The longest wait for a connection, or for the next bytes of an answer."""
    round_seconds: float = 40.0
    """What is not read by then is given up: all lists, all pages. A server that is slow, but never silent for long, or whose
    pages have no end, must not hold a round for ever."""

    def lists(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """(kind, object) of all kinds, 500 objects at a time. Takes `round_seconds` and
        one `timeout_seconds` at most, as long as the head of an answer does not dribble: only bodies are watched byte by byte.
        Raises TransportError where nobody answers in time, OpsmendError where it is refused."""
        import httpx

        until = time.monotonic() + self.round_seconds
        # No redirect is followed: the token is for the server that was named, and for no other that it may name.
        with httpx.Client(headers=self._headers(), verify=self._trusted(), timeout=self.timeout_seconds,
                          follow_redirects=False, trust_env=False) as client:
            for kind, path in _LISTS.items():
                more = ""
                while True:
                    asked = f"{path}?limit={_PAGE}&timeoutSeconds={max(1, int(self.timeout_seconds))}" + (
                        f"&continue={quote(more, safe='')}" if more else "")
                    page = self._get(client, asked, until)
                    yield from ((kind, one) for one in page.get("items") or ())
                    more = (page.get("metadata") or {}).get("continue") or ""
                    if not more:
                        break

    def _headers(self) -> dict[str, str]:
        # Read each time: the kubelet puts a new token there before the old one ends.
        file = self.token_file or (_ACCOUNT / "token" if self.url == IN_CLUSTER else None)
        try:
            token = {"authorization": f"Bearer {file.read_text().strip()}"} if file is not None else {}
        except OSError as error:
            raise _outside(error, str(file)) from error
        return {"accept": "application/json", **token}

    def _trusted(self) -> ssl.SSLContext:
        file = self.ca_file or (_ACCOUNT / "ca.crt" if self.url == IN_CLUSTER else None)
        try:
            return ssl.create_default_context(cafile=str(file) if file is not None else None)
        except OSError as error:
            raise _outside(error, str(file)) from error

    def _get(self, client: httpx.Client, path: str, until: float) -> dict[str, Any]:
        import httpx

        kind = path.partition("?")[0].rpartition("/")[2]
        try:
            with client.stream("GET", self.url.rstrip("/") + path) as answer:
                body = b"".join(self._in_time(answer.iter_bytes(), kind, until))
            if answer.status_code in (401, 403):
                raise OpsmendError(f"{self.url}: {answer.status_code} for {kind}. It takes a ClusterRole that may `list` "
                                   "pods, replicasets.apps and jobs.batch", reason="refused")
            if not answer.is_success:  # too busy, or a list that took so long that its next page is gone
                raise TransportError(f"{self.url}: {answer.status_code} {answer.reason_phrase} for {kind}")
            found: dict[str, Any] = json.loads(body)
        except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:  # also an answer that breaks off or is no JSON
            raise TransportError(f"{self.url}: {type(error).__name__} for {kind}: {error}") from error
        return found

    def _in_time(self, parts: Iterator[bytes], kind: str, until: float) -> Iterator[bytes]:
        """httpx bounds the wait for the next bytes, not for all of them."""
        for part in parts:
            if time.monotonic() > until:
                raise TransportError(f"{self.url}: not read to the end in {self.round_seconds:.0f} s; given up at {kind}")
            yield part


def _outside(error: OSError, file: str) -> OpsmendError:
    return OpsmendError(f"{error.filename or file}: {error.strerror}. Outside a cluster: run `kubectl proxy`, "
                        "and give --server http://127.0.0.1:8001", reason="configuration")


def read_facts(server: ApiServer) -> list[Fact]:
    """What the cluster says now."""
    return [fact for kind, one in server.lists() for fact in facts_of(kind, one)]


def facts_of(kind: str, one: Mapping[str, Any]) -> Iterator[Fact]:
    """Of one object; `kind` is pod, replicaset or job_name. A pod that has ended, and what owns none any more (a
    ReplicaSet scaled to nothing, of an older release), says nothing.

    >>> list(facts_of("replicaset", {"metadata": {"namespace": "shop", "name": "cart-7d4", "ownerReferences": [
    ...     {"kind": "Deployment", "name": "cart", "controller": True}]}, "spec": {"replicas": 2}}))[0][1]["owner_name"]
    'cart'
    """
    meta, spec = one["metadata"], one.get("spec") or {}
    named = {"namespace": str(meta.get("namespace", "")), kind: str(meta["name"])}
    status = one.get("status") or {}
    if (kind == "pod" and status.get("phase") in _OVER) or (
            kind == "replicaset" and not spec.get("replicas") and not status.get("replicas")):
        return
    for owner in meta.get("ownerReferences") or ():
        if owner.get("controller"):
            yield _OWNER[kind], named | {"owner_kind": str(owner["kind"]), "owner_name": str(owner["name"]),
                                         "owner_is_controller": "true"}
    if kind == "pod" and spec.get("nodeName"):
        yield "kube_pod_info", named | {"node": str(spec["nodeName"])}
    for volume in (spec.get("volumes") or ()) if kind == "pod" else ():
        claim = (volume.get("persistentVolumeClaim") or {}).get("claimName")
        if claim:
            yield "kube_pod_spec_volumes_persistentvolumeclaims_info", named | {
                "volume": str(volume["name"]), "persistentvolumeclaim": str(claim)}


def otlp_body(facts: list[Fact], now_ns: int) -> dict[str, Any]:
    """As gauges that are 1, like kube-state-metrics'."""
    metrics: dict[str, list[dict[str, Any]]] = {}
    for name, labels in facts:
        metrics.setdefault(name, []).append({
            "timeUnixNano": str(now_ns), "asDouble": 1.0,
            "attributes": [{"key": k, "value": {"stringValue": v}} for k, v in labels.items()]})
    return {"resourceMetrics": [{
        "resource": {"attributes": [{"key": "service.name", "value": {"stringValue": "kubernetes"}}]},
        "scopeMetrics": [{"metrics": [{"name": name, "gauge": {"dataPoints": points}} for name, points in metrics.items()]}]}]}
