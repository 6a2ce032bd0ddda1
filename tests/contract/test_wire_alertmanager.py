"""Alertmanager's three formats: one alert is one alert whichever way it comes, storms, odd times, templated payloads."""

from __future__ import annotations

import json
import os
import time
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ingest.decode import Decoder, DecoderConfig
from ingest.types import Batch, ExternalAlert, Record

WIRE = Path(__file__).parent / "wire"
NOW_MS = 1_790_000_000_000
NOW = "2026-09-21T14:13:20Z"  # the same moment
FUZZ = settings(max_examples=int(os.environ.get("OPSMEND_TEST_FUZZ_EXAMPLES", "150")), deadline=None,
                suppress_health_check=list(HealthCheck))
LABELS = {"alertname": "HighLatency", "service": "checkout", "severity": "critical", "instance": "10.0.0.7:8080"}


def batch_of(*values: Any, fmt: str = "") -> Batch:
    decoder = Decoder(DecoderConfig(topic_formats={"t": fmt} if fmt else {}))
    raw = [v if isinstance(v, bytes) else json.dumps(v).encode() for v in values]
    batch = decoder.decode([Record("t", 0, n, NOW_MS, v) for n, v in enumerate(raw)])
    assert batch.records_in == len(values) == sum(batch.formats.values()) + len(batch.dead_letters)
    return batch


def webhook(*alerts: Any, **more: Any) -> dict[str, Any]:
    return {"version": "4", "groupKey": '{}:{alertname="HighLatency"}', "truncatedAlerts": 0, "status": "firing",
            "receiver": "aiops", "alerts": list(alerts), **more}


def alert(**more: Any) -> dict[str, Any]:
    return {"status": "firing", "labels": LABELS, "annotations": {"summary": "p99 above 2s"}, "startsAt": NOW,
            "endsAt": "0001-01-01T00:00:00Z", **more}


def event(kind: str, body: Any, **more: Any) -> dict[str, Any]:
    return {"@timestamp": NOW, "instance": "am-0", "data": {kind: body}, **more}


def identity(found: ExternalAlert) -> tuple[str, int, str]:
    return found.fingerprint, found.starts_ns, found.status


def as_event_labels(labels: dict[str, str]) -> dict[str, Any]:
    return {"labels": [{"key": k, "value": v} for k, v in labels.items()]}


@pytest.mark.skipif(not os.environ.get("OPSMEND_TEST_DATA"), reason="NOT TESTED against captures: OPSMEND_TEST_DATA")
def test_fingerprints_are_alertmanagers_own() -> None:
    from ingest.wire.alerts import fingerprint_of
    from opsmend.commands.wire import read_capture

    records = read_capture(Path(os.environ["OPSMEND_TEST_DATA"], "wire", "http-alertmanager.jsonl"))
    alerts = [a for r in records for a in json.loads(r.value)["alerts"]]
    assert len(alerts) == 13
    for one in alerts:
        assert fingerprint_of(tuple(sorted(one["labels"].items()))) == one["fingerprint"]


def test_the_same_alert_by_every_way_has_the_same_identity() -> None:
    found = batch_of(
        webhook(alert()), [{"labels": LABELS, "startsAt": NOW, "endsAt": "2026-09-21T14:17:20Z"}],
        event("alertCreated", {"alert": {"name": "HighLatency", "labels": as_event_labels(LABELS), "startsAt": NOW}}))
    assert dict(found.formats) == {"alertmanager": 1, "alertmanager-v2": 1, "alertmanager-events": 1}
    assert len({identity(a) for a in found.alerts}) == 1
    assert {(a.name, a.service, a.severity, a.instance) for a in found.alerts} == {
        ("HighLatency", "checkout", "critical", "10.0.0.7:8080")}


def test_the_four_of_an_alerts_identity_are_there() -> None:
    (one,) = batch_of(webhook(alert(fingerprint="8f2c1d3e4b5a6978"))).alerts
    assert (one.group_key, *identity(one)) == (
        '{}:{alertname="HighLatency"}', "8f2c1d3e4b5a6978", NOW_MS * 10**6, "firing")


@pytest.mark.parametrize("ends", ["0001-01-01T00:00:00Z", "2026-09-21T14:17:20Z", None, ""])
def test_a_firing_alert_has_no_end(ends: str | None) -> None:
    (one,) = batch_of(webhook(alert(endsAt=ends))).alerts
    assert (one.status, one.ends_ns) == ("firing", 0)


def test_resolved() -> None:
    (one,) = batch_of(webhook(alert(status="resolved", endsAt="2026-09-21T14:13:21.5Z"), status="resolved")).alerts
    assert (one.status, one.ends_ns) == ("resolved", NOW_MS * 10**6 + 1_500_000_000)


def test_what_was_cut_off_the_group_is_a_metric_and_no_point_of_the_sender() -> None:
    batch = batch_of(webhook(alert(), truncatedAlerts=117))
    assert batch.metrics.value.tolist() == [117.0]
    assert batch.metrics.series_table[0].name == "alertmanager.truncated_alerts"
    assert batch.points_in == 0


def test_a_storm_of_twenty_thousand_alerts_in_one_post() -> None:
    storm = json.dumps(webhook(*[alert(labels={**LABELS, "pod": f"checkout-{n}"}) for n in range(20_000)])).encode()
    began = time.process_time()
    batch = batch_of(storm)
    seconds = time.process_time() - began
    assert len(batch.alerts) == 20_000 == len({a.fingerprint for a in batch.alerts})
    assert seconds < 10  # 1.5 s where it is quiet; with fingerprints given half of it
    tracemalloc.start()
    batch_of(storm)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 25 * len(storm)


def test_a_templated_payload_is_told_what_is_wrong() -> None:
    payload = {"text": "checkout is slow", "alerts": "[FIRING:1]", "groupKey": "{}", "version": "4"}
    (letter,) = batch_of(payload, fmt="alertmanager").dead_letters
    assert letter.reason == "bad_alert"
    assert "payload" in letter.detail
    assert batch_of(payload).logs.text == ["checkout is slow"]  # not claimed: a line like any other


def test_alerts_further_in_are_somebody_elses() -> None:
    line = {"message": "forwarded", "body": {"alerts": [], "groupKey": "x", "version": "4"}}
    assert "alertmanager" not in batch_of(line).formats


@pytest.mark.parametrize(("ends", "status"), [("2026-09-21T14:13:19Z", "resolved"), ("2026-09-21T14:13:20Z", "resolved"),
                                              ("2026-09-21T14:13:21Z", "firing"), ("0001-01-01T00:00:00Z", "firing"),
                                              (None, "firing")])
def test_api_v2_ends_at_the_records_own_time(ends: str | None, status: str) -> None:
    (one,) = batch_of([{"labels": LABELS, "startsAt": "2026-09-21T13:00:00Z", "endsAt": ends}]).alerts
    assert one.status == status


def test_api_v2_without_alerts_is_a_record_without_rows() -> None:
    assert batch_of(b" [] ", fmt="alertmanager-v2").dead_letters == ()


@pytest.mark.parametrize("value", [[{"labels": ["a", "b"], "message": "x"}], [{"labels": {"a": 1}, "message": "x"}],
                                   [{"labels": {"a": "b"}, "message": "x"}], [1, 2], [{"message": "x"}]])
def test_arrays_that_are_no_alerts(value: Any) -> None:
    assert "alertmanager-v2" not in batch_of(value).formats


KINDS = ["alertGrouped", "notification", "silenceCreated", "silenceUpdated", "silenceMutedAlert", "inhibitionMutedAlert",
         "alertmanagerStartupEvent", "alertmanagerShutdownEvent", "someEventOfALaterVersion"]


@pytest.mark.parametrize("kind", KINDS)
def test_events_with_nothing_for_us_are_read_and_make_no_row(kind: str) -> None:
    batch = batch_of(event(kind, {"alert": {"details": {"labels": as_event_labels(LABELS)}}}))
    assert dict(batch.formats) == {"alertmanager-events": 1}
    assert batch.alerts == ()
    assert len(batch.logs) == len(batch.metrics) == 0


def test_decimal_fingerprints_become_hexadecimal() -> None:
    body = {"fingerprint": "10307318471234567890", "labels": as_event_labels(LABELS), "startsAt": NOW}
    (one,) = batch_of(event("alertResolved", {"alert": {"hash": "1", "details": body},
                                              "groupInfo": {"groupKey": "{}:{}"}})).alerts
    assert (one.fingerprint, one.status, one.group_key) == (f"{10307318471234567890:016x}", "resolved", "{}:{}")


ANY = (st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=9)
       | st.sampled_from([{}, [], [None], {"labels": []}, {"a": {}}, "0001-01-01T00:00:00Z", NOW, "9" * 30, 2**64]))
ALERT = st.fixed_dictionaries({}, optional={
    "labels": st.dictionaries(st.sampled_from(["alertname", "service", "job"]), ANY, max_size=3) | ANY
    | st.just(as_event_labels(LABELS)), "annotations": ANY, "status": ANY | st.just("resolved"), "startsAt": ANY,
    "endsAt": ANY, "fingerprint": ANY, "details": ANY, "hash": ANY}) | ANY


@FUZZ
@given(alerts=st.lists(ALERT, max_size=3) | ANY, left_out=ANY, group=ANY)
def test_wrong_types(alerts: Any, left_out: Any, group: Any) -> None:
    whole = {"version": "4", "groupKey": group, "alerts": alerts, "truncatedAlerts": left_out, "receiver": group}
    batch_of(whole, alerts)
    batch_of(whole, fmt="alertmanager")
    batch_of(alerts, fmt="alertmanager-v2")


@FUZZ
@given(kind=st.sampled_from(["alertCreated", "alertResolved", *KINDS]), body=st.fixed_dictionaries(
    {}, optional={"alert": ALERT, "groupInfo": ANY}) | ANY, when=ANY)
def test_events_with_wrong_types(kind: str, body: Any, when: Any) -> None:
    batch_of({"@timestamp": when, "instance": "a", "data": {kind: body}})
    batch_of({"@timestamp": when, "data": {kind: body}}, fmt="alertmanager-events")


@pytest.mark.parametrize("fmt", ["alertmanager", "alertmanager-v2", "alertmanager-events"])
def test_ten_megabytes_in_a_label(fmt: str) -> None:
    labels = {**LABELS, "blob": "x" * 10_000_000}
    value = {"alertmanager": webhook(alert(labels=labels, fingerprint="1")),
             "alertmanager-v2": [{"labels": labels, "startsAt": NOW, "fingerprint": "1"}],
             "alertmanager-events": event("alertCreated", {"alert": {
                 "fingerprint": "1", "labels": as_event_labels(labels), "startsAt": NOW}})}[fmt]
    batch = batch_of(value)
    assert dict(batch.formats) == {fmt: 1}
    assert len(dict(batch.alerts[0].labels)["blob"]) == 10_000_000
