"""The embedded transport: a durable log in a directory, no broker. Topics, partitions, offsets, groups."""

from __future__ import annotations

import json
import os
import re
import threading
import time
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from ingest.errors import TransportError
from ingest.transport import MAX_POLL_BYTES, Stored
from ingest.transports.config import TransportConfig
from ingest.transports.embedded_log import PartitionReader, PartitionWriter
from ingest.transports.order import RECORD_BYTES, TimeOrder
from ingest.types import Record, Watermark

_TOPIC = re.compile(r"[A-Za-z0-9._-]{1,200}")
_BUFFER_BYTES = 1 << 20


def _topic_dir(root: Path, topic: str) -> Path:
    if not _TOPIC.fullmatch(topic) or topic.startswith((".", "_")):
        raise TransportError(f"'{topic}' is no topic name: letters, digits, '.', '_' and '-', not beginning "
                             "with '.' or '_'", reason="topic_name", is_transient=False)
    return root / topic


def _partitions(directory: Path) -> list[int]:
    return sorted(int(p.name) for p in directory.iterdir() if p.name.isdigit()) if directory.is_dir() else []


def _make_topic(directory: Path, count: int) -> list[int]:
    """The partitions of a topic; made if it is new. Two makers agree, because the higher count stays."""
    if not (there := _partitions(directory)):
        for n in range(count):
            (directory / str(n)).mkdir(parents=True, exist_ok=True)
        there = _partitions(directory)
    return there


class EmbeddedConsumer:
    """See `ingest.transport.Consumer`. Offsets of a group are kept in `_groups/<group>.json`."""

    def __init__(self, config: TransportConfig) -> None:
        self._config = config
        self._root = Path(config.data_dir)
        self._readers: dict[tuple[str, int], PartitionReader] = {}
        self._ends: dict[tuple[str, int], PartitionWriter] = {}
        self._ends_lock = threading.Lock()
        self._start: dict[tuple[str, int], int] = {}
        self._committed: dict[tuple[str, int], int] = {}
        self._order = TimeOrder(align_seconds=config.align_seconds, span_seconds=config.span_seconds)
        self._is_paused = False
        self._discovered = 0.0

    @property
    def _group_file(self) -> Path:
        return self._root / "_groups" / f"{self._config.group_id}.json"

    def start(self, at: Watermark, stored: Stored | None = None) -> None:
        # All partitions are ours for good: nobody else can have read on, and `stored` has nothing to add to `at`.
        try:
            (self._root / "_groups").mkdir(parents=True, exist_ok=True)
            if self._group_file.exists():
                for topic, partition, offset in json.loads(self._group_file.read_text()):
                    self._committed[topic, partition] = offset
        except (OSError, ValueError) as error:
            raise TransportError(f"embedded transport at {self._root}: {error}. Check [service] data_dir.") from error
        self._start = {**self._committed, **at.next_offsets}
        self._discover()

    def _discover(self) -> None:
        self._discovered = time.monotonic()
        if not self._root.is_dir():
            return
        patterns = [re.compile(p) for p in self._config.patterns]
        for directory in sorted(self._root.iterdir()):
            topic = directory.name
            if topic.startswith("_") or not directory.is_dir():
                continue
            if topic in self._config.topics or any(p.fullmatch(topic) for p in patterns):
                for partition in _partitions(directory):
                    at = (topic, partition)
                    if at not in self._readers:
                        self._readers[at] = PartitionReader(directory / str(partition), self._start.get(at, 0))
                        self._order.expect(at)

    def poll(self, max_rows: int, max_ms: int, max_bytes: int = MAX_POLL_BYTES) -> list[Record]:
        deadline = time.monotonic() + max_ms / 1000
        while True:
            if time.monotonic() - self._discovered > 1.0:
                self._discover()
            records = [] if self._is_paused else self._read(max_rows, max_bytes)
            left = deadline - time.monotonic()
            if records or left <= 0:
                return records
            time.sleep(min(0.02, left))

    def _read(self, max_rows: int, max_bytes: int) -> list[Record]:
        """Every partition gets a share of what may wait; what still waits of it counts."""
        rows = max(1, max_rows // max(1, len(self._readers)))
        size = max(1, min(max_bytes, self._config.hold_bytes) // max(1, len(self._readers)))
        behind = []
        for at, reader in self._readers.items():
            lacks, room = rows - self._order.waiting(at), size - self._order.weighs(at)
            if lacks > 0 and room > 0 and (found := reader.read(lacks, room)):
                self._order.add(at, found, reader.bytes_read + RECORD_BYTES * len(found))
            if not reader.is_at_end:
                behind.append(at)
        return self._order.take(max_rows, max_bytes, behind)

    def rewind(self, to: Watermark) -> None:
        for at, offset in to.next_offsets.items():
            if at in self._readers:
                self._order.drop(at)
                self._order.expect(at)
                self._readers[at] = PartitionReader(self._root / at[0] / str(at[1]), offset)

    def commit(self, watermark: Watermark) -> None:
        self._committed.update(watermark.next_offsets)
        rows = [[topic, partition, offset] for (topic, partition), offset in sorted(self._committed.items())]
        temporary = self._group_file.with_suffix(f".{os.getpid()}")
        temporary.write_text(json.dumps(rows))
        temporary.replace(self._group_file)

    def pause(self) -> None:
        self._is_paused = True

    def resume(self) -> None:
        self._is_paused = False

    def lag(self) -> Mapping[str, int]:
        lag: dict[str, int] = {}
        with self._ends_lock:  # asked by those who show it, not by the thread that polls
            for at, reader in list(self._readers.items()):
                # Kept, because a new one would count all frames of the newest segment again.
                if at not in self._ends:
                    directory = self._root / at[0] / str(at[1])
                    self._ends[at] = PartitionWriter(directory, self._config.segment_bytes)
                lag[at[0]] = lag.get(at[0], 0) + max(
                    0, self._ends[at].end_offset() - reader.offset + self._order.waiting(at))
        return lag

    def close(self) -> None:
        self._readers.clear()
        with self._ends_lock:
            for end in self._ends.values():
                end.close()
            self._ends.clear()


class EmbeddedProducer:
    """See `ingest.transport.Producer`. `flush` returns when everything is fsynced."""

    def __init__(self, config: TransportConfig) -> None:
        self._config = config
        self._root = Path(config.data_dir)
        self._writers: dict[tuple[str, int], PartitionWriter] = {}
        self._count: dict[str, list[int]] = {}
        self._pending: dict[tuple[str, int], list[Record]] = {}
        self._unsynced: set[tuple[str, int]] = set()
        self._pending_bytes = 0
        self._turn = 0
        self._trimmed = time.monotonic()

    def send(self, topic: str, value: bytes, *, key: bytes | None = None,
             headers: Sequence[tuple[str, bytes]] = (), timestamp_ms: int | None = None) -> None:
        if topic not in self._count:
            self._count[topic] = _make_topic(_topic_dir(self._root, topic), self._config.partitions)
        partitions = self._count[topic]
        if key is None:
            self._turn += 1
            partition = partitions[self._turn % len(partitions)]
        else:
            partition = partitions[zlib.crc32(key) % len(partitions)]
        stamp = int(time.time() * 1000) if timestamp_ms is None else timestamp_ms
        record = Record(topic, partition, 0, stamp, value, key, tuple(headers))
        self._pending.setdefault((topic, partition), []).append(record)
        self._pending_bytes += len(value)
        if self._pending_bytes > _BUFFER_BYTES:
            self._write(sync=False)

    def _write(self, *, sync: bool) -> None:
        try:
            for at, records in sorted(self._pending.items()):
                if at not in self._writers:
                    self._writers[at] = PartitionWriter(self._root / at[0] / str(at[1]), self._config.segment_bytes)
                self._writers[at].append(records, sync=sync)
                if not sync:
                    self._unsynced.add(at)
            self._pending.clear()
            self._pending_bytes = 0
            if sync:
                for at in sorted(self._unsynced):
                    self._writers[at].sync()
                self._unsynced.clear()
        except OSError as error:
            raise TransportError(f"embedded transport at {self._root}: {error}") from error

    def flush(self, timeout_seconds: float = 10.0) -> None:
        self._write(sync=True)
        if time.monotonic() - self._trimmed > 60:
            self._trimmed = time.monotonic()
            self._trim()

    def _trim(self) -> None:
        """Delete what every group has read, beyond the retention."""
        groups = [{(t, p): o for t, p, o in json.loads(file.read_text())}
                  for file in sorted((self._root / "_groups").glob("*.json"))]
        for at, writer in self._writers.items():
            below = min((group.get(at, 0) for group in groups), default=0)
            writer.trim(below, self._config.retention_bytes)

    def close(self) -> None:
        self.flush()
        for writer in self._writers.values():
            writer.close()
        self._writers.clear()
