"""The log of one partition: what dies in the middle of a write leaves nothing that anybody reads."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ingest.transports.embedded_log import PartitionReader, PartitionWriter, segments
from ingest.types import Record

BIG = 1 << 30


def records(*numbers: int, size: int = 10) -> list[Record]:
    return [Record("t", 0, 0, n, b"%d" % n + bytes(size), b"k") for n in numbers]


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[PartitionWriter]:
    made = PartitionWriter(tmp_path, BIG)
    yield made
    made.close()


def times(directory: Path, offset: int = 0) -> list[int]:
    return [r.timestamp_ms for r in PartitionReader(directory, offset).read(10_000)]


def write_with(directory: Path, *numbers: int, segment_bytes: int = BIG) -> int:
    """Another process, that knows nothing of the first. Returns the offset that comes next."""
    other = PartitionWriter(directory, segment_bytes)
    other.append(records(*numbers), sync=True)
    other.close()
    return other.next_offset


def test_a_frame_torn_at_any_byte_is_not_shown_and_cut_off(tmp_path: Path, writer: PartitionWriter) -> None:
    writer.append(records(0, 1), sync=True)
    (path,) = (path for _, path in segments(tmp_path))
    whole = path.read_bytes()
    writer.append(records(2), sync=True)
    torn = path.read_bytes()
    for length in range(len(whole), len(torn)):
        path.write_bytes(torn[:length])
        assert times(tmp_path) == [0, 1]
        assert write_with(tmp_path, 9) == 3
        assert times(tmp_path) == [0, 1, 9]


@pytest.mark.parametrize("tail", [bytes(8), bytes(4096), b"\xff" * 20, b"\x00\x00\x00\x05\x00\x00\x00\x00abcde"],
                         ids=["a head of zeros", "a page of zeros", "noise", "a wrong checksum"])
def test_what_a_power_cut_leaves_is_no_record(tmp_path: Path, writer: PartitionWriter, tail: bytes) -> None:
    writer.append(records(0, 1), sync=True)
    (path,) = (path for _, path in segments(tmp_path))
    path.write_bytes(path.read_bytes() + tail)
    assert times(tmp_path) == [0, 1]
    assert write_with(tmp_path, 2) == 3
    assert times(tmp_path) == [0, 1, 2]


def test_a_reader_at_a_torn_tail_goes_on_when_it_is_repaired(tmp_path: Path, writer: PartitionWriter) -> None:
    writer.append(records(0), sync=True)
    (path,) = (path for _, path in segments(tmp_path))
    path.write_bytes(path.read_bytes() + b"\x00\x00\x00\x40half")
    reader = PartitionReader(tmp_path, 0)
    assert [r.offset for r in reader.read(10)] == [0]
    assert reader.read(10) == []
    write_with(tmp_path, 1, 2)
    assert [(r.offset, r.timestamp_ms) for r in reader.read(10)] == [(1, 1), (2, 2)]


def test_segments_roll_over_and_are_read_from_any_offset(tmp_path: Path) -> None:
    for n in range(0, 40, 2):
        write_with(tmp_path, n, n + 1, segment_bytes=100)
    assert len(segments(tmp_path)) > 5
    for offset in (0, 1, 17, 39, 40):
        assert times(tmp_path, offset) == list(range(offset, 40))


def test_old_segments_that_everybody_has_read_are_deleted_no_others(tmp_path: Path) -> None:
    for n in range(0, 40, 2):
        write_with(tmp_path, n, n + 1, segment_bytes=100)
    writer = PartitionWriter(tmp_path, 100)
    assert writer.trim(below=0, retention_bytes=0) == 0
    assert writer.trim(below=10, retention_bytes=BIG) == 0
    assert writer.trim(below=10, retention_bytes=0) > 0
    writer.close()
    assert times(tmp_path, 10) == list(range(10, 40))
    assert segments(tmp_path)[0][0] <= 10
    assert PartitionReader(tmp_path, 0).read(1)[0].offset == segments(tmp_path)[0][0]


def test_two_writers_take_turns_without_losing_or_doubling(tmp_path: Path) -> None:
    one, other = PartitionWriter(tmp_path, 300), PartitionWriter(tmp_path, 300)
    for n in range(0, 60, 2):
        one.append(records(n), sync=False)
        other.append(records(n + 1), sync=False)
    read = PartitionReader(tmp_path, 0).read(1000)
    assert [r.timestamp_ms for r in read] == [r.offset for r in read] == list(range(60))
    assert one.end_offset() == other.end_offset() == 60
    one.close()
    other.close()
