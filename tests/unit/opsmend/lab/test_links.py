"""The relay on real sockets: what it adds, what it swallows, and that it passes on all of the rest."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from opsmend.lab.links import Disturbance, Link, Links, edge_name, read_disturbances
from opsmend.lab.processes import free_port, listening_socket, write_atomic


def _echo(server: socket.socket) -> None:
    def answer(connection: socket.socket) -> None:
        with connection:
            while data := connection.recv(1 << 16):
                connection.sendall(data)

    while True:
        try:
            connection, _ = server.accept()
        except OSError:
            return
        threading.Thread(target=answer, args=(connection,), daemon=True).start()


class Wire:
    """A relay before an echo server, and before a port where nobody listens."""

    def __init__(self, directory: Path) -> None:
        self.disturbances = directory / "links.json"
        self.server = listening_socket()
        threading.Thread(target=_echo, args=(self.server,), daemon=True).start()
        self.ears = [listening_socket(), listening_socket()]
        targets = [self.server.getsockname()[1], free_port()]
        for ear in self.ears:
            ear.set_inheritable(True)
        spec = Links(tuple(Link("a", callee, ear.fileno(), port)
                           for callee, ear, port in zip(("b", "nobody"), self.ears, targets, strict=True)),
                     str(self.disturbances))
        (directory / "relay.json").write_bytes(msgspec.json.encode(spec))
        self.process = subprocess.Popen([sys.executable, "-m", "opsmend.lab.links", str(directory / "relay.json")],
                                        pass_fds=[ear.fileno() for ear in self.ears])

    def connect(self, n: int = 0) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.ears[n].getsockname()[1]), timeout=15)

    def disturb(self, disturbance: Disturbance | None) -> None:
        found = {edge_name("a", "b"): disturbance} if disturbance else {}
        write_atomic(self.disturbances, msgspec.json.encode(found))
        time.sleep(0.3)  # it looks every 50 ms

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        for sock in (self.server, *self.ears):
            sock.close()


@pytest.fixture
def wire(tmp_path: Path) -> Iterator[Wire]:
    wire = Wire(tmp_path)
    yield wire
    wire.close()


def _ask(connection: socket.socket, data: bytes) -> float:
    """Seconds until all of it came back."""
    started = time.monotonic()
    threading.Thread(target=connection.sendall, args=(data,), daemon=True).start()
    got = b""
    while len(got) < len(data):
        got += connection.recv(1 << 16)
    assert got == data
    return time.monotonic() - started


def test_a_sound_link_passes_everything_in_order(wire: Wire) -> None:
    with wire.connect() as connection:
        _ask(connection, bytes(range(256)) * 20_000)


def test_a_slow_link_delays_each_answer_once(wire: Wire) -> None:
    with wire.connect() as connection:
        _ask(connection, b"x")
        wire.disturb(Disturbance(delay_seconds=0.5))
        assert _ask(connection, b"y") >= 0.5
        # Chunks are delayed side by side: a large answer isn't slowed by its length.
        assert _ask(connection, b"z" * 2_000_000) < 0.5 * 2_000_000 / (1 << 16)
        wire.disturb(None)
        assert _ask(connection, b"x") < 0.5


def test_a_cut_link_swallows_and_gives_back_when_it_is_whole(wire: Wire) -> None:
    with wire.connect() as connection:
        _ask(connection, b"x")
        wire.disturb(Disturbance(is_cut=True))
        connection.sendall(b"lost?")
        connection.settimeout(0.5)
        with pytest.raises(TimeoutError):
            connection.recv(16)
        with wire.connect() as newer:  # a connection is made, as the far end's kernel would
            newer.settimeout(0.5)
            newer.sendall(b"x")
            with pytest.raises(TimeoutError):
                newer.recv(16)
        wire.disturb(None)
        connection.settimeout(15)
        assert connection.recv(16) == b"lost?"


def test_who_is_down_behind_a_link_is_seen_as_a_closed_connection(wire: Wire) -> None:
    with wire.connect(1) as connection:
        assert connection.recv(16) == b""
    with wire.connect() as connection:  # and the relay goes on
        _ask(connection, b"x")


def test_no_file_is_no_disturbance(tmp_path: Path) -> None:
    assert read_disturbances(tmp_path / "none.json") == {}
