"""Makes the golden inputs of remote-write that no capture shows: native histograms, metadata, exemplars, odd samples.

    python tests/contract/wire/make_prometheus.py
    OPSMEND_TEST_UPDATE_GOLDEN=1 python -m pytest tests/contract/test_wire_formats.py    (then read the diff)

Written field by field from the numbers in prometheus' `prompb`, so that nothing of ours is on both sides. The others
are captures: `prometheus-2.42.snappy` (Prometheus, remote-write 1.0), `alertmanager-v2/*` (Prometheus' alerts).
"""

from __future__ import annotations

import struct
from pathlib import Path

import cramjam
import zstandard

HERE = Path(__file__).parent
T_MS = 1_790_000_000_123
STALE = struct.pack("<Q", 0x7FF0000000000002)


def varint(number: int) -> bytes:
    number &= 2**64 - 1
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes([*out, number])


def length(field: int, content: bytes) -> bytes:
    return varint(field << 3 | 2) + varint(len(content)) + content


def whole(field: int, number: int) -> bytes:
    return varint(field << 3) + varint(number)


def double(field: int, number: float | bytes) -> bytes:
    return varint(field << 3 | 1) + (number if isinstance(number, bytes) else struct.pack("<d", number))


def labels(**pairs: str) -> bytes:
    named = {"__name__" if k == "name_" else k: v for k, v in pairs.items()}
    return b"".join(length(1, length(1, k.encode()) + length(2, v.encode())) for k, v in sorted(named.items()))


def sample(value: float | bytes, at_ms: int = T_MS) -> bytes:
    return length(2, double(1, value) + whole(2, at_ms))


def series() -> list[bytes]:
    shop = {"job": "checkout", "instance": "10.0.0.7:8080"}
    histogram = (whole(1, 21) + double(3, 18.4) + whole(4, 3) + double(5, 1e-128) + whole(6, 2)
                 + length(11, whole(1, 0) + whole(2, 2)) + length(12, varint(4) + varint(2)) + whole(15, T_MS))
    floats = double(2, 2.5) + double(3, 1.25) + whole(15, T_MS)
    ended = whole(1, 0) + double(3, STALE) + whole(15, T_MS + 15_000)
    return [
        labels(name_="up", **shop) + sample(1.0) + sample(0.0, T_MS + 15_000),
        labels(name_="http_requests_total", code="500", **shop) + sample(1234.0),
        labels(name_="http_request_duration_seconds_bucket", le="0.5", **shop) + sample(20.0),
        labels(name_="http_request_duration_seconds_bucket", le="+Inf", **shop) + sample(21.0),
        labels(name_="process_start_time_seconds", **shop) + sample(STALE),
        labels(name_="go_goroutines", service_name="by.otel", empty="", **shop) + sample(float("inf")),
        labels(name_="no_owner") + sample(-1.5, 0),
        labels(name_="rpc_seconds", **shop) + length(4, histogram) + length(4, ended),
        labels(name_="rpc_bytes", **shop) + length(4, floats),
        labels(name_="http_requests_total", code="200", **shop)
        + length(3, length(1, length(1, b"trace_id") + length(2, b"abc")) + double(2, 1.0) + whole(3, T_MS)),
    ]


def metadata() -> bytes:
    return b"".join(length(3, whole(1, kind) + length(2, name) + length(4, b"help") + length(5, unit)) for kind, name, unit
                    in ((1, b"http_requests_total", b""), (2, b"go_goroutines", b""), (3, b"rpc_seconds", b"seconds")))


def main() -> None:
    place = HERE / "prometheus-remote-write"
    request = b"".join(length(1, one) for one in series())
    (place / "made.snappy").write_bytes(bytes(cramjam.snappy.compress_raw(request)))
    (place / "metadata-alone.snappy").write_bytes(bytes(cramjam.snappy.compress_raw(metadata())))
    (place / "with-metadata.bin").write_bytes(metadata() + request)
    # VictoriaMetrics' agents speak the same request in zstd among themselves.
    (place / "made.zst").write_bytes(zstandard.ZstdCompressor(level=1).compress(request))


if __name__ == "__main__":
    main()
