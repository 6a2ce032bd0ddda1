"""The network on some of the shop's calls: a TCP relay that can be made slow, or swallow everything.

`python -m opsmend.lab.links LINKS.json`. Neither end is touched when a link is disturbed, which is the point: both are
well, and the way between them is not. Without privileges and on every kernel, unlike netem or a packet filter.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from functools import partial
from pathlib import Path

import msgspec

_LOOK_SECONDS = 0.05
_CHUNK_BYTES = 1 << 16
_WAITING_CHUNKS = 64


class Disturbance(msgspec.Struct, frozen=True):
    """What is wrong with a link. The defaults are a sound one."""

    delay_seconds: float = 0.0
    """Added to what the callee answers."""
    is_cut: bool = False
    """Connections stand, but nothing passes, in either direction."""


class Link(msgspec.Struct, frozen=True):
    """Calls of `caller` to `callee` go through here."""

    caller: str
    callee: str
    fd: int
    """The listening socket, inherited."""
    port: int
    """Of the callee, on 127.0.0.1."""


class Links(msgspec.Struct, frozen=True):
    """What the relay is started with."""

    links: tuple[Link, ...]
    disturbances: str
    """File with `{"caller->callee": Disturbance}`; read again when it changes; none: all links are sound."""


def edge_name(caller: str, callee: str) -> str:
    """How an edge is written where a service could stand."""
    return f"{caller}->{callee}"


def read_disturbances(path: Path) -> dict[str, Disturbance]:
    """Empty if there is no such file."""
    return msgspec.json.decode(path.read_bytes(), type=dict[str, Disturbance]) if path.exists() else {}


class Relay:
    """All links of one lab, in one event loop."""

    def __init__(self, spec: Links) -> None:
        self._spec = spec
        self._path = Path(spec.disturbances)
        self._stamp = 0
        self._disturbed: dict[str, Disturbance] = {}

    async def run(self) -> None:
        """Serve until killed."""
        for link in self._spec.links:
            await asyncio.start_server(partial(self._serve, link), sock=socket.socket(fileno=link.fd))
        while True:
            self._look()
            await asyncio.sleep(_LOOK_SECONDS)

    def _look(self) -> None:
        stamp = self._path.stat().st_mtime_ns if self._path.exists() else 0
        if stamp != self._stamp:
            self._disturbed, self._stamp = read_disturbances(self._path), stamp

    def _now(self, link: Link) -> Disturbance:
        return self._disturbed.get(edge_name(link.caller, link.callee), Disturbance())

    async def _serve(self, link: Link, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", link.port)
        except OSError:  # the callee is down: its caller shall see a connection that ends
            writer.close()
            return
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._pump(link, reader, far_writer, is_answer=False))
                tasks.create_task(self._pump(link, far_reader, writer, is_answer=True))
        except* (OSError, asyncio.IncompleteReadError):
            pass  # one end has gone; the other learns it by the close below
        finally:
            for end in (writer, far_writer):
                end.close()

    async def _pump(self, link: Link, source: asyncio.StreamReader, sink: asyncio.StreamWriter, *,
                    is_answer: bool) -> None:
        """Pass on in order, each chunk at its time. Raises ConnectionError when the source ends: both ways end then."""
        chunks: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_WAITING_CHUNKS)
        clock = asyncio.get_running_loop().time

        async def read() -> None:
            while data := await source.read(_CHUNK_BYTES):
                delay = self._now(link).delay_seconds if is_answer else 0.0
                await chunks.put((clock() + delay, data))
            raise ConnectionResetError

        async def write() -> None:
            while True:
                due, data = await chunks.get()
                await asyncio.sleep(max(0.0, due - clock()))
                while self._now(link).is_cut:
                    await asyncio.sleep(_LOOK_SECONDS)
                sink.write(data)
                await sink.drain()

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(read())
            tasks.create_task(write())


def main() -> None:
    """Entry point; the only argument is the spec file."""
    asyncio.run(Relay(msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=Links)).run())


if __name__ == "__main__":
    main()
