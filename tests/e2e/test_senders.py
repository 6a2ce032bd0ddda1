"""Prometheus, Alertmanager and rsyslog from Debian's packages, pointed at opsmend: what they send is what we have."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from processes_under_test import Opsmend, opsmend, running, wait

from opsmend.lab.kafka import KafkaBroker, why_not
from opsmend.lab.processes import free_port

__all__ = ["opsmend"]


def need(*commands: str) -> None:
    if missing := [c for c in commands if shutil.which(c, path="/usr/bin:/usr/sbin:/usr/local/bin") is None]:
        pytest.skip(f"NOT TESTED with {', '.join(missing)}: not installed. Run: sh .ci/system-packages")


def as_yaml(path: Path, content: dict[str, Any]) -> Path:
    path.write_text(json.dumps(content))  # YAML takes JSON
    return path


def tsdb(directory: Path) -> Counter[tuple[str, int]]:
    """What Prometheus has in its own database: (metric name, milliseconds) -> samples."""
    told = subprocess.run(["promtool", "tsdb", "dump", str(directory)], capture_output=True, text=True, check=True)
    found: Counter[tuple[str, int]] = Counter()
    for line in told.stdout.splitlines():
        labels, _, rest = line.rpartition("} ")
        name = re.search(r'__name__="([^"]+)"', labels)
        assert name is not None, line
        found[name[1], int(rest.split()[1])] += 1
    return found


def taken(service: Opsmend) -> Counter[tuple[str, int]]:
    """What opsmend read, the same way."""
    found: Counter[tuple[str, int]] = Counter()
    for batch in service.batches():
        table = batch.metrics.series_table
        found.update((table[series].name, ts_ns // 1_000_000) for series, ts_ns in
                     zip(batch.metrics.series.tolist(), batch.metrics.ts_ns.tolist(), strict=True))
    return found


@pytest.mark.timeout(240)
def test_what_prometheus_has_we_have_across_a_kill_and_its_alerts_come_both_ways(
        tmp_path: Path, opsmend: Callable[..., Opsmend]) -> None:
    need("prometheus", "promtool", "prometheus-alertmanager")
    service = opsmend()
    port, am_port = free_port(), free_port()
    rules = as_yaml(tmp_path / "rules.yaml", {"groups": [{"name": "test", "interval": "1s", "rules": [
        {"alert": "CheckoutIsSlow", "expr": "vector(1)", "labels": {"service": "checkout", "severity": "critical"},
         "annotations": {"summary": "p99 above 2 s"}}]}]})
    config = {
        "global": {"scrape_interval": "1s"}, "rule_files": [str(rules)],
        "scrape_configs": [{"job_name": "prometheus", "static_configs": [{"targets": [f"127.0.0.1:{port}"]}]}],
        "alerting": {"alertmanagers": [{"static_configs": [{"targets": [f"127.0.0.1:{service.port}",
                                                                        f"127.0.0.1:{am_port}"]}]}]},
        "remote_write": [{"url": f"{service.url}/api/v1/write", "metadata_config": {"send": False}, "queue_config": {
            "batch_send_deadline": "500ms", "min_backoff": "50ms", "max_backoff": "300ms", "max_shards": 2}}]}
    file = as_yaml(tmp_path / "prometheus.yaml", config)
    manager = as_yaml(tmp_path / "alertmanager.yaml", {
        "route": {"receiver": "us", "group_wait": "0s", "group_interval": "1s", "repeat_interval": "1h"},
        "receivers": [{"name": "us", "webhook_configs": [{"url": f"{service.url}/hooks/alertmanager"}]}]})
    with running(["prometheus-alertmanager", f"--config.file={manager}", f"--storage.path={tmp_path / 'am'}",
                  f"--web.listen-address=127.0.0.1:{am_port}", "--cluster.listen-address="], tmp_path / "am.log"), \
            running(["prometheus", f"--config.file={file}", f"--storage.tsdb.path={tmp_path / 'tsdb'}",
                     f"--web.listen-address=127.0.0.1:{port}", "--web.enable-lifecycle", "--rules.alert.resend-delay=1s"],
                    tmp_path / "prometheus.log") as prometheus:
        service.start()
        service.wait_ready()
        wait(lambda: service.totals().get("points", 0) > 1_200, 60, prometheus.said)
        service.start_again()
        enough = service.totals().get("points", 0) + 1_200
        wait(lambda: service.totals().get("points", 0) > enough, 60, prometheus.said)
        wait(lambda: {"api/v2", "alertmanager"} <= _ways(service), 60, lambda: f"{_ways(service)} {service.totals()}")
        # Nothing new any more; what is on its way arrives, and then both must have the same.
        as_yaml(file, {**config, "scrape_configs": [], "rule_files": []})
        assert httpx.post(f"http://127.0.0.1:{port}/-/reload", timeout=20).status_code == 200
        wait(lambda: _is_quiet(service), 60, "it goes on and on")
        assert prometheus.stop() == 0
    theirs, ours = tsdb(tmp_path / "tsdb"), taken(service)
    assert theirs["up", min(ms for name, ms in theirs if name == "up")] == 1
    # Samples that it took into its database before its remote-write began to follow are not sent by Prometheus.
    began = min(ms for _, ms in ours)
    assert {k: n for k, n in theirs.items() if k[1] >= began} == dict(ours)
    assert sum(ours.values()) > 2_400
    totals = service.totals()
    assert not totals.get("dead") and totals["format.prometheus-remote-write"] > 3
    assert service.process is not None and service.process.stop() == 0


def _ways(service: Opsmend) -> set[str]:
    """By which way the alert came."""
    if service.totals().get("alerts", 0) < 2:
        return set()
    return {"api/v2" if alert.group_key == "api/v2" else "alertmanager"
            for batch in service.batches() for alert in batch.alerts if alert.name == "CheckoutIsSlow"}


def _is_quiet(service: Opsmend) -> bool:
    before = service.totals().get("points", 0)
    time.sleep(3)
    return service.totals().get("points", 0) == before


@pytest.mark.kafka
@pytest.mark.timeout(240)
def test_rsyslog_to_kafka_to_us(tmp_path: Path, opsmend: Callable[..., Opsmend]) -> None:
    need("rsyslogd")
    if not list(Path("/usr/lib").glob("*/rsyslog/omkafka.so")):
        pytest.skip("NOT TESTED with rsyslog's omkafka: not installed. Run: sh .ci/system-packages")
    if reason := why_not():
        pytest.skip(f"NOT TESTED against Kafka: {reason}")
    with KafkaBroker() as broker:
        service = opsmend(f'[ingest]\ntransport = "kafka"\n[ingest.kafka]\nbootstrap_servers = "{broker.bootstrap_servers}"\n')
        port = free_port()
        brokers = ",".join(f'"{b}"' for b in broker.bootstrap_servers.split(","))
        config = tmp_path / "rsyslog.conf"
        config.write_text(
            f'global(workDirectory="{tmp_path}")\nmodule(load="imtcp")\nmodule(load="omkafka")\n'
            f'input(type="imtcp" address="127.0.0.1" port="{port}")\n'
            'template(name="rfc5424" type="string" string="<%PRI%>1 %TIMESTAMP:::date-rfc3339% %HOSTNAME% %APP-NAME% '
            '%PROCID% %MSGID% %STRUCTURED-DATA% %msg%")\n'
            f'action(type="omkafka" broker=[{brokers}] topic="logs" template="rfc5424" confParam=["acks=all"])\n')
        with running(["rsyslogd", "-n", "-f", str(config), "-i", str(tmp_path / "rsyslog.pid")],
                     tmp_path / "rsyslog.log") as rsyslog:
            wait(lambda: _reaches(port), 30, rsyslog.said)
            with socket.create_connection(("127.0.0.1", port)) as to:
                for n in range(200):
                    to.sendall(f"<11>1 2026-11-24T15:00:00.{n:03d}Z web-1 checkout 7 - - payment {n} refused\n".encode())
            service.start()
            wait(lambda: service.totals().get("logs", 0) >= 200, 60, lambda: f"{rsyslog.said()} {service.totals()}")
        totals = service.totals()
        assert (totals["logs"], totals.get("dead", 0), totals["format.syslog"]) == (200, 0, 200)
        texts, services = [], set()
        for batch in service.batches():
            texts += [t.strip() for t in batch.logs.text]
            services |= {batch.logs.vocab[s] for s in batch.logs.service.tolist()}
        assert sorted(texts) == sorted(f"payment {n} refused" for n in range(200))
        assert services == {"checkout"}
        assert service.process is not None and service.process.stop() == 0


def _reaches(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 2).close()
    except OSError:
        return False
    return True
