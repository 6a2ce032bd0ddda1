"""The processes of the shop: slots, restarts, spares, and the rules by which the dead come back."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field

import aiohttp
import msgspec

from opsmend.lab import processes, topology
from opsmend.lab.layout import Layout
from opsmend.lab.processes import write_atomic
from opsmend.lab.releases import Releases
from opsmend.lab.settings import Release, Spec

_BACKOFF_SECONDS = (0.5, 1.0, 2.0, 4.0)
_STABLE_SECONDS = 10.0
_HEALTHY_WITHIN_SECONDS = 8.0


class Change(msgspec.Struct, frozen=True):
    """One line of the change topic."""

    type: str
    ts: int
    service: str
    kind: str
    ref: str
    old: str
    actor: str
    instance: str


@dataclass
class Process:
    """One running (or just dead) process."""

    popen: subprocess.Popen[bytes]
    port: int
    version: str
    started_ns: int

    @property
    def is_alive(self) -> bool:
        return self.popen.poll() is None


@dataclass
class Slot:
    """A place for one instance; its id stays the same over restarts and releases."""

    id: str
    service: str
    process: Process | None = None
    restarts: int = 0
    crashes_in_row: int = 0
    retry_at: float = 0.0  # monotonic; 0: nobody brings it back

    @property
    def state(self) -> str:
        if self.process is not None and self.process.is_alive:
            return "running"
        return "backoff" if self.retry_at else "stopped"


@dataclass
class Fleet:
    """All instances of the shop's services. Used from one event loop alone."""

    layout: Layout
    releases: Releases
    backend_urls: dict[str, str]
    """postgres and redis, as far as they run."""
    link_urls: dict[tuple[str, str], str]
    """(caller, callee) -> the URL of its link, for those that have one."""
    http: aiohttp.ClientSession
    slots: dict[str, list[Slot]] = field(default_factory=dict)
    backends: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def emit(self, service: str, kind: str, *, ref: str = "", old: str = "", actor: str = "",
             instance: str = "") -> None:
        """Tell the world about a change."""
        change = Change("change", time.time_ns(), service, kind, ref, old, actor, instance)
        with self.layout.changes.open("ab") as file:
            file.write(msgspec.json.encode(change) + b"\n")

    def spawn(self, slot: Slot, release: Release) -> Process:
        """Start a process for a slot; it is not in discovery yet."""
        with processes.listening_socket() as sock:
            sock.set_inheritable(True)
            service = slot.service
            spec = Spec(
                service, slot.id, sock.fileno(), release.version, str(self.layout.discovery), release.settings,
                self._backend_url(service, "postgres") if service in topology.USES_POSTGRES else "",
                self._backend_url(service, "redis") if service in topology.USES_REDIS else "",
                str(self.layout.receipts) if service == "bank" else "")
            # A file for each process: a crash may be brought back while a spare for the same slot still starts.
            path = self.layout.private / f"spec-{slot.id}-{sock.getsockname()[1]}.json"
            write_atomic(path, msgspec.json.encode(spec))
            with (self.layout.logs / f"{slot.id}.log").open("ab") as log:
                popen = processes.spawn([sys.executable, "-m", "opsmend.lab.service", str(path)], log=log,
                                        fds=[sock.fileno()])
            return Process(popen, sock.getsockname()[1], release.version, time.time_ns())

    def _backend_url(self, service: str, backend: str) -> str:
        return self.link_urls.get((service, backend)) or self.backend_urls.get(backend, "")

    def publish(self) -> None:
        """Write discovery and the list of instances."""
        ports = {service: [s.process.port for s in slots if s.process] for service, slots in self.slots.items()}
        write_atomic(self.layout.discovery, msgspec.json.encode(ports))
        rows = [{"service": s.service, "id": s.id, "restarts": s.restarts,
                 "pid": s.process.popen.pid if s.process and s.process.is_alive else 0,
                 "port": s.process.port if s.process else 0, "version": s.process.version if s.process else ""}
                for slots in self.slots.values() for s in slots]
        rows += [{"service": name, "id": f"{name}-1", "restarts": 0, "port": 0, "version": "",
                  "pid": popen.pid if popen.poll() is None else 0} for name, popen in self.backends.items()]
        write_atomic(self.layout.instances, msgspec.json.encode(rows))

    async def start_slot(self, slot: Slot) -> bool:
        """Start the current release in a slot and wait until it is healthy."""
        slot.process = self.spawn(slot, self.releases.current(slot.service))
        slot.retry_at = 0.0
        self.publish()
        self.emit(slot.service, "start", ref=slot.process.version, instance=slot.id)
        return await self.wait_healthy(slot.process)

    async def wait_healthy(self, process: Process, seconds: float = _HEALTHY_WITHIN_SECONDS) -> bool:
        """True as soon as the process answers its health check."""
        deadline = time.monotonic() + seconds
        while process.is_alive and time.monotonic() < deadline:
            try:
                timeout = aiohttp.ClientTimeout(total=1.0)
                async with self.http.get(f"http://127.0.0.1:{process.port}/-/health", timeout=timeout) as response:
                    if response.status == 200:
                        return True
            except (aiohttp.ClientError, TimeoutError):
                pass
            await asyncio.sleep(0.03)
        return False

    async def stop_process(self, process: Process, *, gentle_seconds: float) -> None:
        """SIGTERM, then SIGKILL after `gentle_seconds` (0: at once)."""
        deadline = time.monotonic() + gentle_seconds
        if gentle_seconds and process.is_alive:
            process.popen.send_signal(signal.SIGTERM)
            while process.is_alive and time.monotonic() < deadline:
                await asyncio.sleep(0.02)
        while process.is_alive:
            process.popen.kill()
            await asyncio.sleep(0.01)

    async def restart(self, service: str, *, gentle_seconds: float) -> list[str]:
        """Stop and start every instance, one after the other. Returns the ids that are healthy again."""
        done = []
        for slot in self.slots[service]:
            process, slot.process, slot.retry_at = slot.process, None, 0.0  # a planned end is no crash
            if process is not None:
                await self.stop_process(process, gentle_seconds=gentle_seconds)
            slot.crashes_in_row = 0
            if await self.start_slot(slot):
                done.append(slot.id)
        return done

    async def roll_out(self, service: str, *, kind: str, old_version: str, actor: str) -> bool:
        """Replace every instance by one of the current release: start a spare, wait, swap, stop the old one.

        False, with nothing replaced, if the first spare does not become healthy. The change is announced
        when the first spare takes over, so that it is never later than its consequences.
        """
        release = self.releases.current(service)
        for n, slot in enumerate(self.slots[service]):
            spare = self.spawn(slot, release)
            if not await self.wait_healthy(spare):
                await self.stop_process(spare, gentle_seconds=0)
                return False
            if n == 0:
                self.emit(service, kind, ref=release.version, old=old_version, actor=actor)
            old, slot.process = slot.process, spare
            slot.retry_at, slot.crashes_in_row = 0.0, 0
            self.publish()
            await asyncio.sleep(0.2)  # what is in flight on the old one may end
            if old is not None:
                await self.stop_process(old, gentle_seconds=1.0)
        return True

    async def scale(self, service: str, count: int) -> None:
        """Add or remove instances at the end of the list."""
        slots = self.slots.setdefault(service, [])
        while len(slots) < count:
            slot = Slot(f"{service}-{len(slots) + 1}", service)
            slots.append(slot)
            await self.start_slot(slot)
        while len(slots) > count:
            slot = slots.pop()
            self.publish()
            if slot.process is not None:
                await self.stop_process(slot.process, gentle_seconds=1.0)
        self.publish()

    def reap(self) -> None:
        """Note the dead, and bring back those that crashed.

        A process that ends by itself with an error, or that outgrows its memory, is started again with
        back-off. One that somebody killed stays dead: this supervisor watches exits, not machines.
        """
        now = time.monotonic()
        for slot in [s for slots in self.slots.values() for s in slots]:
            process = slot.process
            if process is None:
                if slot.retry_at and now >= slot.retry_at:
                    self._bring_back(slot)
                continue
            is_outgrown = (processes.rss_bytes(process.popen.pid) or 0) > topology.MEMORY_LIMIT_BYTES
            if is_outgrown and process.is_alive:
                process.popen.kill()
                process.popen.wait()
            code = process.popen.poll()
            if code is None:
                if slot.crashes_in_row and time.time_ns() - process.started_ns > _STABLE_SECONDS * 1e9:
                    slot.crashes_in_row = 0
                continue
            slot.process = None
            why = "memory limit" if is_outgrown else f"signal {-code}" if code < 0 else f"status {code}"
            self.emit(slot.service, "exit", ref=why, instance=slot.id)
            if is_outgrown or code > 0:
                slot.retry_at = now + _BACKOFF_SECONDS[min(slot.crashes_in_row, len(_BACKOFF_SECONDS) - 1)]
                slot.crashes_in_row += 1
            self.publish()

    def _bring_back(self, slot: Slot) -> None:
        slot.process = self.spawn(slot, self.releases.current(slot.service))
        slot.retry_at = 0.0
        slot.restarts += 1
        self.publish()
        self.emit(slot.service, "start", ref=slot.process.version, instance=slot.id)
