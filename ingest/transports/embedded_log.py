"""One partition of the embedded transport: an append-only log of checksummed frames in segment files.

A frame is `length u32, crc32 u32, body`; the body is a msgpack Record. Several processes may append and
read. Writers take a lock on the partition; a frame that a dead writer left half-written is cut off by the
next writer, and never shown by a reader, because its checksum fails.
"""

from __future__ import annotations

import fcntl
import itertools
import os
import struct
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import msgspec

from ingest.types import Record

_HEAD = struct.Struct(">II")
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Record).decode


def segments(directory: Path) -> list[tuple[int, Path]]:
    """(first offset, file), oldest first."""
    return sorted((int(p.stem), p) for p in directory.glob("*.log"))


def _next_frame(file: BinaryIO) -> bytes | None:
    """The body of the frame that begins here; None at the end of the file and for what is not whole and sound.

    A length of zero is no frame: zeros are what a power cut leaves of pages that were not written, and their
    checksum would be right.
    """
    head = file.read(_HEAD.size)
    if len(head) < _HEAD.size:
        return None
    length, crc = _HEAD.unpack(head)
    body = file.read(length)
    return body if length and len(body) == length and zlib.crc32(body) == crc else None


def read_frames(path: Path, position: int, limit: int, max_bytes: int = 1 << 62) -> tuple[list[Record], int]:
    """Up to `limit` whole frames from `position` on, of `max_bytes` in all (but one, however large); and the position
    after them."""
    records: list[Record] = []
    until = position + max_bytes
    with path.open("rb") as file:
        file.seek(position)
        while len(records) < limit and position < until and (body := _next_frame(file)) is not None:
            records.append(_decode(body))
            position += _HEAD.size + len(body)
    return records, position


def _skip_frames(path: Path, position: int) -> tuple[int, int]:
    """How many whole, sound frames follow `position`, and where they end."""
    count = 0
    with path.open("rb") as file:
        file.seek(position)
        while (body := _next_frame(file)) is not None:
            count += 1
            position += _HEAD.size + len(body)
    return count, position


class PartitionWriter:
    """Appends to one partition. Cheap to make; finds the tail when it first writes."""

    def __init__(self, directory: Path, segment_bytes: int) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._directory = directory
        self._segment_bytes = segment_bytes
        self._lock = os.open(directory / "lock", os.O_RDWR | os.O_CREAT, 0o644)
        self._base = -1
        self._position = 0
        self.next_offset = 0

    @contextmanager
    def _locked(self) -> Iterator[None]:
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(self._lock, fcntl.LOCK_UN)

    def append(self, records: Sequence[Record], *, sync: bool) -> None:
        """Give the records the next offsets and write them; with `sync` they are on disk on return."""
        with self._locked():
            path = self._find_tail()
            if self._position >= self._segment_bytes:
                self._base, self._position = self.next_offset, 0
                path = self._directory / f"{self._base:020d}.log"
            frames = bytearray()
            for record in records:
                body = _encode(msgspec.structs.replace(record, offset=self.next_offset))
                frames += _HEAD.pack(len(body), zlib.crc32(body)) + body
                self.next_offset += 1
            with path.open("ab") as file:
                file.write(frames)
                file.flush()
                if sync:
                    os.fsync(file.fileno())
            self._position += len(frames)

    def _find_tail(self) -> Path:
        """Catch up with what other writers appended; cut off a half-written frame."""
        found = segments(self._directory)
        if not found:
            self._base, self._position, self.next_offset = 0, 0, 0
            return self._directory / f"{0:020d}.log"
        base, path = found[-1]
        if base != self._base:
            self._base, self._position, self.next_offset = base, 0, base
        size = path.stat().st_size
        if size != self._position:
            count, end = _skip_frames(path, self._position)
            self.next_offset += count
            self._position = end
            if end < size:
                os.truncate(path, end)
        return path

    def end_offset(self) -> int:
        """The offset that the next record will get."""
        with self._locked():
            self._find_tail()
        return self.next_offset

    def sync(self) -> None:
        """fsync the newest segment."""
        if found := segments(self._directory):
            with found[-1][1].open("rb") as file:
                os.fsync(file.fileno())

    def trim(self, below: int, retention_bytes: int) -> int:
        """Delete whole old segments that end at or below offset `below` while the partition is larger than
        `retention_bytes`. Returns how many were deleted."""
        with self._locked():
            found = segments(self._directory)
            total = sum(path.stat().st_size for _, path in found)
            deleted = 0
            for (_, path), (following, _) in itertools.pairwise(found):
                if total <= retention_bytes or following > below:
                    break
                total -= path.stat().st_size
                path.unlink()
                deleted += 1
            return deleted

    def close(self) -> None:
        os.close(self._lock)


class PartitionReader:
    """Reads one partition in order, from `offset` on. Sees what others append."""

    def __init__(self, directory: Path, offset: int) -> None:
        self._directory = directory
        self.offset = offset
        self._base = -1
        self._position = 0
        self._at = 0  # the offset that stands at _position
        self.is_at_end = False
        """Whether the last `read` found the end of the log."""
        self.bytes_read = 0
        """How much the last `read` read."""

    def read(self, limit: int, max_bytes: int = 1 << 62) -> list[Record]:
        """Up to `limit` records of some `max_bytes` in all; fewer, or none, at the end of the log."""
        records: list[Record] = []
        self.bytes_read, self.is_at_end = 0, False
        while len(records) < limit and self.bytes_read < max_bytes:
            if self._base < 0 and not self._open_segment():
                self.is_at_end = True
                break
            path = self._directory / f"{self._base:020d}.log"
            try:
                # While the wanted offset has not been reached, frames are skipped.
                wanted = limit - len(records) + max(0, self.offset - self._at)
                begun = self._position
                found, self._position = read_frames(path, begun, min(wanted, 50_000), max_bytes - self.bytes_read)
            except FileNotFoundError:
                self._base = -1  # trimmed under us
                continue
            if self._at + len(found) > self.offset:
                self.bytes_read += self._position - begun
            self._at += len(found)
            fresh = [r for r in found if r.offset >= self.offset]
            if fresh:
                self.offset = fresh[-1].offset + 1
                records += fresh
            if not found and not self._next_segment():
                self.is_at_end = True
                break
        return records

    def _open_segment(self) -> bool:
        found = segments(self._directory)
        if not found:
            return False
        chosen = max((base for base, _ in found if base <= self.offset), default=found[0][0])
        self._base = self._at = chosen
        self._position = 0
        self.offset = max(self.offset, chosen)
        return True

    def _next_segment(self) -> bool:
        later = [base for base, _ in segments(self._directory) if base > self._base]
        if not later:
            return False
        # Frames may have been appended between our last read and the roll-over: read them first.
        path = self._directory / f"{self._base:020d}.log"
        if path.exists() and _skip_frames(path, self._position)[0]:
            return True
        self._base = self._at = later[0]
        self._position = 0
        return True
