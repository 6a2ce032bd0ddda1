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
    """Appends polls. Written before the step: after a crash the last poll may stand twice; `read_polls`
    drops records whose offset it has already given out.

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
    """The polls of a journal, each record once. A torn last frame is left out.

    Raises JournalError if the file is not a journal.
    """
    seen: dict[tuple[str, int], int] = {}
    with path.open("rb") as file:
        if file.read(len(_MAGIC)) != _MAGIC:
            raise _no_journal(path)
        while len(head := file.read(4)) == 4:
            (size,) = struct.unpack(">I", head)
            body = file.read(size)
            if len(body) < size:
                return
            fresh = []
            for record in msgspec.msgpack.decode(body, type=list[Record]):
                at = (record.topic, record.partition)
                if record.offset >= seen.get(at, 0):
                    seen[at] = record.offset + 1
                    fresh.append(record)
            if fresh:
                yield fresh
