"""A shard's state in the engine's store (RocksDB, with a changelog topic): written once per commit, in pieces."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import zstandard
from quixstreams.sinks.base import BaseSink

from opsmend.runners.quix_shard import Shard

_PIECE_BYTES = 512 * 1024
"""Of one record of the changelog: brokers refuse more than a megabyte unless told otherwise."""


class Store(Protocol):
    """What we use of the engine's state: keys of one shard, part of the open transaction."""

    def get(self, key: str, default: Any = None) -> Any: ...
    def set(self, key: str, value: Any) -> None: ...
    def get_bytes(self, key: str, default: Any = None) -> Any: ...
    def set_bytes(self, key: str, value: bytes) -> None: ...
    def delete(self, key: str) -> None: ...


class LiveShards(BaseSink):
    """The shards in memory, and their way to the store and back.

    A snapshot costs milliseconds, so it is not taken at every envelope, but when the engine is about to commit: it
    flushes its sinks as the first step of that, and this is one. What is in the store is therefore always the state as
    of the committed offset. A shard that was somebody else's meanwhile, or whose transaction was lost, is known by
    the number of its commit, and read again.
    """

    def __init__(self, make: Callable[[int], Shard]) -> None:
        super().__init__()
        self._make = make
        self._live: dict[int, tuple[Shard, int]] = {}  # with the number of the commit it goes on from
        self._open: dict[int, Store] = {}  # touched since the last commit

    def shard(self, number: int, store: Store) -> Shard:
        """The shard as of the last envelope of this transaction, or as of the last commit."""
        if number in self._open and self._open[number]._transaction is store._transaction:  # type: ignore[attr-defined]
            return self._live[number][0]
        commit = store.get("commit", 0)
        live = self._live.get(number)
        if live is None or live[1] != commit or number in self._open:
            live = (self._restored(number, store), commit)
            self._live[number] = live
        self._open[number] = store
        return live[0]

    def _restored(self, number: int, store: Store) -> Shard:
        shard = self._make(number)
        pieces = store.get("pieces", 0)
        if pieces:
            data = b"".join(store.get_bytes(f"piece-{i}") for i in range(pieces))
            shard.restore(zstandard.ZstdDecompressor().decompress(data))
        return shard

    def flush(self) -> None:
        """Called by the engine before it commits: what changed goes into its transaction."""
        compressor = zstandard.ZstdCompressor(level=1)
        for number, store in self._open.items():
            shard, commit = self._live[number]
            data = compressor.compress(shard.snapshot())
            pieces = [data[i:i + _PIECE_BYTES] for i in range(0, len(data), _PIECE_BYTES)]
            for i, piece in enumerate(pieces):
                store.set_bytes(f"piece-{i}", piece)
            for i in range(len(pieces), store.get("pieces", 0)):
                store.delete(f"piece-{i}")
            store.set("pieces", len(pieces))
            store.set("commit", commit + 1)
            self._live[number] = (shard, commit + 1)
        self._open.clear()

    def add(self, value: Any, key: Any, timestamp: int, headers: Any, topic: str, partition: int, offset: int) -> None:
        """Results go to their topic; there is nothing to collect here."""

    def on_paused(self) -> None:
        """Nothing is buffered."""
