"""Remote-write and prometheus-kafka-adapter: staleness, kinds, sizes, versions, and whatever is not what it seems."""

from __future__ import annotations

import importlib.util
import json
import math
import os
import time
import tracemalloc
from pathlib import Path
from typing import Any

import cramjam
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ingest.decode import Decoder, DecoderConfig
from ingest.types import Batch, Record
from ingest.wire import prometheus_remote_write
from ingest.wire.prometheus_labels import kind_of, series_of
from ingest.wire.rows import DecodeContext

WIRE = Path(__file__).parent / "wire"
_spec = importlib.util.spec_from_file_location("make_prometheus", WIRE / "make_prometheus.py")
assert _spec is not None and _spec.loader is not None
make: Any = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(make)

NOW_MS = 1_790_000_000_000
CONTEXT = DecodeContext(NOW_MS * 10**6)
FUZZ = settings(max_examples=int(os.environ.get("OPSMEND_TEST_FUZZ_EXAMPLES", "150")), deadline=None,
                suppress_health_check=list(HealthCheck))


def batch_of(*values: bytes, fmt: str = "") -> Batch:
    decoder = Decoder(DecoderConfig(topic_formats={"t": fmt} if fmt else {}))
    batch = decoder.decode([Record("t", 0, n, NOW_MS, v) for n, v in enumerate(values)])
    assert batch.records_in == len(values) == sum(batch.formats.values()) + len(batch.dead_letters)
    return batch


def snappy(content: bytes) -> bytes:
    return bytes(cramjam.snappy.compress_raw(content))


def request(*series: bytes) -> bytes:
    return b"".join(make.length(1, one) for one in series)


UP = make.labels(name_="up", job="cart", instance="a:1")


@pytest.mark.skipif(not os.environ.get("OPSMEND_TEST_DATA"), reason="NOT TESTED against captures: OPSMEND_TEST_DATA")
def test_captures_of_prometheus_with_their_staleness_markers() -> None:
    from opsmend.commands.wire import read_capture

    batch = batch_of(*[r.value for r in read_capture(
        Path(os.environ["OPSMEND_TEST_DATA"], "wire", "http-api_v1_write.jsonl"))])
    assert dict(batch.formats) == {"prometheus-remote-write": 23}
    assert len(batch.metrics) == batch.points_in == 9200
    # Prometheus also writes quantiles of nothing as NaN: the four markers are among them.
    ended = [s for s, v in zip(batch.metrics.series.tolist(), batch.metrics.value.tolist(), strict=True) if math.isnan(v)]
    assert len(ended) >= 4
    assert "unknown" not in {key.service for key in batch.metrics.series_table}


@pytest.mark.parametrize("pack", [snappy, bytes], ids=["snappy", "bare"])
def test_samples_and_the_end_of_a_series(pack: Any) -> None:
    batch = batch_of(pack(request(UP + make.sample(1.0) + make.sample(make.STALE, make.T_MS + 1))))
    assert batch.metrics.ts_ns.tolist() == [make.T_MS * 10**6, (make.T_MS + 1) * 10**6]
    first, second = batch.metrics.value.tolist()
    assert first == 1.0
    assert math.isnan(second)
    (key,) = batch.metrics.series_table
    assert (key.service, key.name, key.instance, key.kind, key.labels) == ("cart", "up", "a:1", "gauge", (("job", "cart"),))


@pytest.mark.parametrize("name", ["http_requests_total", "rpc_seconds_sum", "rpc_seconds_count", "rpc_seconds_bucket"])
def test_counters_by_their_names(name: str) -> None:
    assert kind_of(name) == "counter"


@pytest.mark.parametrize("name", ["up", "go_goroutines", "rpc_created", "total", "queue_total_size"])
def test_all_else_is_a_gauge(name: str) -> None:
    assert kind_of(name) == "gauge"


def test_the_service_by_the_configured_fields_as_prometheus_writes_them() -> None:
    labels = {"job": "kubelet", "service_name": "cart", "app": "old"}
    assert series_of("x", labels, CONTEXT).service == "cart"
    assert series_of("x", {"job": "kubelet"}, CONTEXT).service == "kubelet"
    assert series_of("x", {"container": "db"}, CONTEXT).service == "db"
    assert series_of("x", {}, CONTEXT).service == "unknown"
    own = DecodeContext(0, entity_from=("team.service",))
    assert series_of("x", {"team_service": "b", "job": "a"}, own).service == "b"


def test_metadata_alone_is_a_record_without_rows() -> None:
    batch = batch_of(snappy(make.metadata()), make.metadata() + request(UP + make.sample(2.0)))
    assert dict(batch.formats) == {"prometheus-remote-write": 2}
    assert batch.metrics.value.tolist() == [2.0]


def test_version_2_is_refused_by_name() -> None:
    symbols = b"".join(make.length(4, s) for s in (b"", b"__name__", b"up"))
    series = make.length(5, make.length(1, make.varint(1) + make.varint(2)) + make.sample(1.0))
    (letter,) = batch_of(snappy(symbols + series)).dead_letters
    assert letter.reason == "unsupported_version"
    assert "2.0" in letter.detail


def test_a_block_that_declares_too_much_is_refused_before_it_is_unpacked() -> None:
    bomb = snappy(request(UP + make.sample(1.0)) + bytes(prometheus_remote_write.MAX_BYTES))
    tracemalloc.start()
    (letter,) = batch_of(bomb).dead_letters
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert letter.reason == "too_large"
    assert peak < 40_000_000


def test_times_that_cannot_be_are_the_records_own() -> None:
    odd = [make.sample(float(n), at) for n, at in enumerate((0, -1, 2**62, make.T_MS))]
    batch = batch_of(snappy(request(UP + b"".join(odd))))
    assert batch.metrics.ts_ns.tolist() == [NOW_MS * 10**6] * 3 + [make.T_MS * 10**6]


@pytest.mark.parametrize("skew_ms", [-3 * 86_400_000, -3_600_000, 3_600_000, 3 * 86_400_000])
def test_a_wrong_clock_is_kept(skew_ms: int) -> None:
    batch = batch_of(snappy(request(UP + make.sample(1.0, NOW_MS + skew_ms))))
    assert batch.metrics.ts_ns.tolist() == [(NOW_MS + skew_ms) * 10**6]


def test_thousands_of_buckets_cost_little_and_one_read_of_their_labels() -> None:
    buckets = [make.labels(name_="d_bucket", job="cart", le=str(le), route=f"/{r}") + make.sample(float(le))
               for r in range(400) for le in range(25)]
    value = snappy(request(*buckets))
    batch_of(value)
    began = time.process_time()
    batch = batch_of(value)
    assert len(batch.metrics) == 10_000
    assert time.process_time() - began < 2.0  # 0.1 s where it is quiet


def test_a_series_without_a_name_is_refused_and_takes_its_record_along() -> None:
    batch = batch_of(snappy(request(UP + make.sample(1.0), make.labels(job="x") + make.sample(1.0))))
    assert [x.reason for x in batch.dead_letters] == ["bad_remote_write"]
    assert len(batch.metrics) == 0


@FUZZ
@given(data=st.data())
def test_truncated_flipped_and_mixed(data: st.DataObject) -> None:
    value = bytearray(data.draw(st.sampled_from([request(*make.series()), snappy(request(*make.series())),
                                                 snappy(make.metadata()), make.metadata()])))
    for _ in range(data.draw(st.integers(0, 4))):
        value[data.draw(st.integers(0, len(value) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(value[: data.draw(st.integers(0, len(value)))])
    batch_of(cut, snappy(cut))
    batch_of(cut, snappy(cut), fmt="prometheus-remote-write")


LABEL = st.text(max_size=8)


@FUZZ
@given(series=st.lists(st.tuples(st.dictionaries(LABEL, LABEL, max_size=3), st.lists(
    st.tuples(st.floats(), st.integers(-(2**63), 2**63 - 1)), max_size=3)), min_size=1, max_size=6), is_packed=st.booleans())
def test_any_series_come_out_whole(series: list[Any], is_packed: bool) -> None:
    content = request(*[b"".join(make.length(1, make.length(1, k.encode()) + make.length(2, v.encode()))
                                 for k, v in {"__name__": "m", **labels}.items())
                        + b"".join(make.sample(v, at) for v, at in samples) for labels, samples in series])
    value = snappy(content) if is_packed else content
    if any(labels.get("__name__") == "" for labels, _ in series):
        batch_of(value, fmt="prometheus-remote-write")
        return
    batch = batch_of(value, fmt="prometheus-remote-write")
    if all(samples for _, samples in series):
        assert batch.dead_letters == ()
        assert dict(batch_of(value).formats) == {"prometheus-remote-write": 1}
        assert len(batch.metrics) == sum(len(samples) for _, samples in series)


# prometheus-kafka-adapter --------------------------------------------------------------------------------------


def adapted(value: Any, name: str = "up", **more: Any) -> bytes:
    return json.dumps({"timestamp": "2026-08-22T10:00:00Z", "value": value, "name": name,
                       "labels": {"__name__": name, "job": "cart"}, **more}).encode()


@pytest.mark.parametrize(("written", "read"), [("1", 1.0), ("1e3", 1000.0), ("-0.5", -0.5), (7, 7.0), ("NaN", None),
                                               ("+Inf", None), ("-Inf", None)])
def test_values_are_text(written: Any, read: float | None) -> None:
    batch = batch_of(adapted(written))
    assert dict(batch.formats) == {"prometheus-kafka-adapter": 1}
    (found,) = batch.metrics.value.tolist()
    assert found == read or (read is None and math.isnan(found))


@pytest.mark.parametrize("written", ["", "x", None, [], {}, True, "9" * 400])
def test_what_is_no_value(written: Any) -> None:
    batch = batch_of(adapted(written))
    assert [x.reason for x in batch.dead_letters] in (["bad_number"], [])
    assert len(batch.metrics) + len(batch.dead_letters) == 1


def test_several_a_record() -> None:
    assert batch_of(b"[" + adapted("1") + b"," + adapted("2") + b"]").metrics.value.tolist() == [1.0, 2.0]
    assert batch_of(adapted("1") + b"\n" + adapted("2") + b"\n").metrics.value.tolist() == [1.0, 2.0]


ANY = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9) | st.just({}) | st.just([])


@FUZZ
@given(entry=st.fixed_dictionaries({"labels": st.dictionaries(
    st.sampled_from(["__name__", "job", "instance", "le", ""]), ANY, max_size=3) | ANY},
    optional={"value": ANY, "timestamp": ANY, "name": ANY}))
def test_wrong_types(entry: dict[str, Any]) -> None:
    batch_of(json.dumps(entry).encode())
    batch_of(json.dumps(entry).encode(), fmt="prometheus-kafka-adapter")
