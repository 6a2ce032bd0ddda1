"""The lab's parent process: starts everything, and is the actuator that repairs go through.

`python -m opsmend.lab.supervisor BOOT.json`; it lives as long as its standard input is open, and its
children live as long as it does.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import IO

import aiohttp
import msgspec
from aiohttp import web

from opsmend.lab import processes, topology
from opsmend.lab.actuator import Actuator
from opsmend.lab.backends import LabError, Postgres, Redis, find_binaries
from opsmend.lab.effects import Effects
from opsmend.lab.fleet import Fleet, Process, Slot
from opsmend.lab.layout import Boot, Layout, Ready
from opsmend.lab.links import Link, Links
from opsmend.lab.processes import write_atomic
from opsmend.lab.releases import Releases
from opsmend.lab.settings import ReleaseSettings

_UNIX_PATH_MAX = 100


class Supervisor:
    """Owns all processes of one lab."""

    def __init__(self, boot: Boot) -> None:
        self._boot = boot
        self._layout = Layout(Path(boot.root))
        self._binaries = find_binaries()
        self._logs: list[IO[bytes]] = []
        self._helpers: dict[str, subprocess.Popen[bytes]] = {}
        self._link_sockets: list[socket.socket] = []
        self._socket_dir = ""
        self._is_orphan = False
        self.postgres: Postgres | None = None
        self.redis: Redis | None = None

    def _on_input(self, stopping: asyncio.Event) -> None:
        if not os.read(sys.stdin.fileno(), 4096):
            self._is_orphan = True
            stopping.set()
            asyncio.get_running_loop().remove_reader(sys.stdin.fileno())

    def _log(self, path: Path) -> IO[bytes]:
        file = path.open("ab")
        self._logs.append(file)
        return file

    def start_backends(self) -> dict[str, subprocess.Popen[bytes]]:
        """PostgreSQL and Redis, as far as there are binaries."""
        started = {}
        if self._boot.with_redis and self._binaries.redis:
            self.redis = Redis(self._binaries, self._log(self._layout.private / "redis.log"))
            started["redis"] = self.redis.start()
        if self._boot.with_postgres and self._binaries.postgres_bin:
            self.postgres = Postgres(self._binaries, self._layout.root / "pg", self._log(self._layout.postgres_log))
            self.postgres.initialise()
            started["postgres"] = self.postgres.start()
            self.postgres.wait()
            self.postgres.load_schema()
        if self.redis:
            self.redis.wait()
        return started

    async def run(self) -> None:
        """Up, serve until standard input ends or SIGTERM, down."""
        stopping = asyncio.Event()
        loop = asyncio.get_running_loop()
        for sign in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(sign, stopping.set)
        loop.add_reader(sys.stdin.fileno(), self._on_input, stopping)
        releases = Releases(self._layout.releases, self._boot.day)
        async with aiohttp.ClientSession() as http:
            try:
                backends = self.start_backends()
                urls, link_urls = self._backend_urls(), self._start_links()
                fleet = Fleet(self._layout, releases, urls, link_urls, http, backends=backends)
                await self._start_shop(fleet)
                ready = await self._serve(fleet)
                self._start_helpers(ready)
                write_atomic(self._layout.ready, msgspec.json.encode(ready))
                while not stopping.is_set():
                    fleet.reap()
                    self._restart_helpers()
                    try:
                        await asyncio.wait_for(stopping.wait(), 0.1)
                    except TimeoutError:
                        continue
            finally:
                self._stop()

    def _backend_urls(self) -> dict[str, str]:
        urls = {"postgres": self.postgres.dsn("shop") if self.postgres else "", "redis": self.redis.url if self.redis else ""}
        return {name: url for name, url in urls.items() if url}

    def _start_links(self) -> dict[tuple[str, str], str]:
        """The relay runs; the URL of each link. Its sockets are ours, so that it can be started again."""
        ports = {"postgres": self.postgres.port if self.postgres else 0, "redis": self.redis.port if self.redis else 0}
        links, urls = [], {}
        for caller, callee in topology.LINKS:
            if not ports[callee]:
                continue
            sock = processes.listening_socket()
            sock.set_inheritable(True)
            self._link_sockets.append(sock)
            links.append(Link(caller, callee, sock.fileno(), ports[callee]))
            urls[caller, callee] = self._backend_urls()[callee].replace(f":{ports[callee]}/", f":{sock.getsockname()[1]}/")
        write_atomic(self._layout.private / "relay.json",
                     msgspec.json.encode(Links(tuple(links), str(self._layout.disturbances))))
        self._restart_helper("links", "relay.json")
        return urls

    async def _start_shop(self, fleet: Fleet) -> None:
        first: list[Process] = []
        for service in topology.SERVICES:
            release = fleet.releases.add(service, "rollout", ReleaseSettings())
            fleet.releases.put(service, release.version)
            slot = Slot(f"{service}-1", service)
            fleet.slots[service] = [slot]
        fleet.publish()
        for slots in fleet.slots.values():
            slots[0].process = fleet.spawn(slots[0], fleet.releases.current(slots[0].service))
            first.append(slots[0].process)
        fleet.publish()
        for process in first:
            if not await fleet.wait_healthy(process, 20.0):
                raise LabError(f"a shop service did not become healthy; see {self._layout.logs}")

    async def _serve(self, fleet: Fleet) -> Ready:
        path = str(self._layout.public / "actuator.sock")
        if len(path) > _UNIX_PATH_MAX:
            self._socket_dir = tempfile.mkdtemp(prefix="opsmend-")
            path = f"{self._socket_dir}/actuator.sock"
        Path(path).unlink(missing_ok=True)
        sock = processes.listening_socket()
        control, deploy = secrets.token_urlsafe(18), secrets.token_urlsafe(18)
        actuator = Actuator(fleet, Effects(self._layout.effects), control, deploy, self)
        runner = web.AppRunner(actuator.app(), access_log=None, shutdown_timeout=0.5)
        await runner.setup()
        await web.UnixSite(runner, path).start()
        await web.SockSite(runner, sock).start()
        return Ready(f"unix://{path}", f"http://127.0.0.1:{sock.getsockname()[1]}", control, deploy, os.getpid(),
                     self.postgres.port if self.postgres else 0, self.redis.port if self.redis else 0)

    def _start_helpers(self, ready: Ready) -> None:
        # The collector and the customers know the servers' ports, but no token of ours.
        known = msgspec.structs.replace(ready, control_token="", deploy_token="")
        write_atomic(self._layout.private / "servers.json", msgspec.json.encode(known))
        self._restart_helpers()

    def _restart_helpers(self) -> None:
        self._restart_helper("links", "relay.json")
        for name in ("collector", "loadgen"):
            self._restart_helper(name, "boot.json")

    def _restart_helper(self, name: str, spec: str) -> None:
        popen = self._helpers.get(name)
        if popen is None or popen.poll() is not None:
            log = self._log(self._layout.private / f"{name}.log")
            fds = [sock.fileno() for sock in self._link_sockets] if name == "links" else []
            self._helpers[name] = processes.spawn(
                [sys.executable, "-m", f"opsmend.lab.{name}", str(self._layout.private / spec)], log=log, fds=fds)

    def restart_backend(self, name: str, popen: subprocess.Popen[bytes]) -> subprocess.Popen[bytes]:
        """Stop a server as its manual says, start it again. It is not ready yet on return."""
        popen.send_signal(signal.SIGINT)
        try:
            popen.wait(3.0)
        except subprocess.TimeoutExpired:
            popen.send_signal(signal.SIGQUIT if name == "postgres" else signal.SIGKILL)
            popen.wait(3.0)
        server = self.postgres if name == "postgres" else self.redis
        assert server is not None
        return server.start()

    def _stop(self) -> None:
        """Everything of ours ends; children get SIGKILL from the kernel if we do not come this far."""
        for popen in self._helpers.values():
            popen.kill()
        for child in _children():
            name = Path(f"/proc/{child}/comm")
            try:
                os.kill(child, signal.SIGQUIT if name.read_text().startswith("postgres") else signal.SIGKILL)
            except OSError:
                continue
        while True:
            try:
                os.wait()
            except ChildProcessError:
                break
        for log in self._logs:
            log.close()
        for sock in self._link_sockets:
            sock.close()
        if self._socket_dir:
            shutil.rmtree(self._socket_dir, ignore_errors=True)
        if self._boot.ephemeral and self._is_orphan:  # else the owner does it, when it has read our words
            shutil.rmtree(self._boot.root, ignore_errors=True)


def _children() -> list[int]:
    path = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children")
    return [int(pid) for pid in path.read_text().split()]


def main() -> None:
    """Entry point. Exit status 3 with a message on stderr if the lab can't be started."""
    boot = msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=Boot)
    try:
        asyncio.run(Supervisor(boot).run())
    except LabError as error:
        print(f"lab: {error}", file=sys.stderr)
        sys.exit(3)


if __name__ == "__main__":
    main()
