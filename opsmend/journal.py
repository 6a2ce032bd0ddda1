"""The run journal: every poll as it came, so that `opsmend replay` can give the same incidents again.

A file of length-prefixed msgpack frames; one frame is one poll (a list of records). Batch boundaries
are kept because lateness depends on them.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import msgspec

from ingest.errors import OpsmendError
from ingest.types import Record

_MAGIC = b"OPSMENDJ1\n"


class JournalError(OpsmendError):
    """The file is not a run journal."""

    reason = "journal"


class JournalWriter:
    """Appends polls. Written before the step: after a crash the last poll, or a correction, may stand twice; `read_polls`
    gives it where it stands last.

    A frame that a killed writer left half-written is cut off when the file is opened again; what followed it
    could not be read otherwise. Raises JournalError if the file is something else.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("a+b")
        try:
            self._file.truncate(_end_of_whole_frames(self._file, path))
        except BaseException:
            self._file.close()
            raise
        self._file.seek(0, os.SEEK_END)
        if self._file.tell() == 0:
            self._file.write(_MAGIC)

    def write(self, records: Sequence[Record]) -> None:
        body = msgspec.msgpack.encode(records)
        self._file.write(struct.pack(">I", len(body)) + body)
        self._file.flush()

    def close(self) -> None:
        self._file.close()


def _end_of_whole_frames(file: BinaryIO, path: Path) -> int:
    """Where the last complete frame ends; 0 for an empty file or half a magic. Reads the lengths alone."""
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    magic = file.read(len(_MAGIC))
    if _MAGIC[: len(magic)] != magic:
        raise _no_journal(path)
    if len(magic) < len(_MAGIC):
        return 0
    end = len(_MAGIC)
    while len(head := file.read(4)) == 4:
        following = end + 4 + int.from_bytes(head, "big")
        if following > size:
            break
        end = file.seek(following)
    return end


def _no_journal(path: Path) -> JournalError:
    return JournalError(f"{path}: not a run journal. Record one with `opsmend run --record FILE`.")


def read_polls(path: Path) -> Iterator[list[Record]]:
    """The polls of a journal, each record once. A torn last frame is left out. Reads the file twice.

    A record that stands twice was not committed the first time, or it would not have been read again: whatever came of it
    then was lost with the process, and what stands in between (a correction that was made while nobody ran) counted before
    it. So it is given where it stands last, in the poll that it was in then.

    Raises JournalError if the file is not a journal.
    """
    again = _read_again(path)
    for number, records in enumerate(_frames(path)):
        counted = [r for r in records if not any(
            frame > number and first <= r.offset < end for frame, first, end in again.get((r.topic, r.partition), ()))]
        if counted:
            yield counted


def _read_again(path: Path) -> dict[tuple[str, int], list[tuple[int, int, int]]]:
    """(topic, partition) -> (number of a frame, first offset, end) of what was read again from that frame on. One entry a
    restart."""
    found: dict[tuple[str, int], list[tuple[int, int, int]]] = {}
    seen: dict[tuple[str, int], int] = {}
    for number, records in enumerate(_frames(path)):
        for record in records:
            at, offset = (record.topic, record.partition), record.offset
            restarts = found.setdefault(at, [])
            restarts[:] = [(frame, first, max(end, offset + 1)) for frame, first, end in restarts]
            if offset < seen.get(at, 0):
                restarts.append((number, offset, offset + 1))
            seen[at] = offset + 1
    return {at: restarts for at, restarts in found.items() if restarts}


def _frames(path: Path) -> Iterator[list[Record]]:
    with path.open("rb") as file:
        if file.read(len(_MAGIC)) != _MAGIC:
            raise _no_journal(path)
        while len(head := file.read(4)) == 4:
            (size,) = struct.unpack(">I", head)
            body = file.read(size)
            if len(body) < size:
                return
            yield msgspec.msgpack.decode(body, type=list[Record])
