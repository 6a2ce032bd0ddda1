"""One process of the shop: `python -m opsmend.lab.service SPEC.json`. See `roles.py` for what it does."""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
import time
from pathlib import Path

import msgspec
from aiohttp import web

from opsmend.lab.clients import CallError, Clients, exit_now
from opsmend.lab.roles import Role
from opsmend.lab.settings import Spec
from opsmend.lab.telemetry import Span, Telemetry


class ShopService:
    """HTTP in front of a role: `/-/health`, `/-/stats` (drains), and everything else to the role."""

    def __init__(self, spec: Spec) -> None:
        self._spec = spec
        self.telemetry = Telemetry(spec.service, spec.instance, spec.version)
        self.clients = Clients(spec, self.telemetry)
        self._role = Role(spec, self.clients, self.telemetry)
        self._count = 0
        self._cache: list[bytearray] = []

    async def health(self, _: web.Request) -> web.Response:
        return web.json_response({"ok": True, "version": self._spec.version})

    async def stats(self, _: web.Request) -> web.Response:
        body = self.telemetry.drain(self.clients.pool_state())
        return web.Response(body=msgspec.json.encode(body), content_type="application/json")

    async def serve(self, request: web.Request) -> web.Response:
        telemetry = self.telemetry
        caller = Span.parse(request.headers.get("traceparent"), telemetry.rng)
        span = caller.child(telemetry.rng)
        path = [p for p in request.path.split("/") if p] or ["/"]
        started_ns, started = time.time_ns(), time.perf_counter()
        telemetry.in_flight += 1
        status, body = 500, b"{}"
        try:
            self._behave()
            body = msgspec.json.encode(await self._role.handler(path, span))
            status = 200
        except CallError as error:
            status = error.status
            telemetry.log("error", f"{path[0]} failed with {status}: {error}", span)
        finally:
            telemetry.in_flight -= 1
            seconds = time.perf_counter() - started
            telemetry.served.add(seconds, is_error=status >= 500)
            telemetry.span(span, caller.span_id, 2, started_ns, seconds, is_error=status >= 500, name=path[0])
        self._access_log(path, status, seconds, span)
        return web.Response(body=body, status=status, content_type="application/json")

    def _behave(self) -> None:
        """What this release does beside its work."""
        settings = self._spec.settings
        self._count += 1
        if settings.cpu_ms_per_request:
            end = time.thread_time() + settings.cpu_ms_per_request / 1000
            while time.thread_time() < end:
                pass
        if settings.cache_bytes_per_request:
            self._cache.append(bytearray(b"\x01") * settings.cache_bytes_per_request)
        if settings.exit_after_requests and self._count > settings.exit_after_requests:
            self.telemetry.log("fatal", "unhandled error in native code, giving up")
            exit_now()

    def _access_log(self, path: list[str], status: int, seconds: float, span: Span) -> None:
        settings = self._spec.settings
        if settings.log_lines_per_request:
            self.telemetry.log("info", f"{path[0]} answered {status} in {seconds * 1000:.1f} ms", span)
        for step in range(1, settings.log_lines_per_request):
            self.telemetry.log(settings.log_level, f"step {step} of {path[0]}: state checked, {len(path)} parts", span)


async def run(spec: Spec) -> None:
    """Serve until SIGTERM."""
    service = ShopService(spec)
    await service.clients.open()
    app = web.Application()
    app.router.add_get("/-/health", service.health)
    app.router.add_get("/-/stats", service.stats)
    app.router.add_route("*", "/{path:.*}", service.serve)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    await web.SockSite(runner, socket.socket(fileno=spec.fd)).start()
    service.telemetry.log("info", f"{spec.service} {spec.version} is serving")
    stopping = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
    await stopping.wait()
    service.telemetry.log("info", f"{spec.service} {spec.version} is stopping")
    await runner.cleanup()
    await service.clients.close()


def main() -> None:
    """Entry point; the only argument is the spec file."""
    spec = msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=Spec)
    asyncio.run(run(spec))


if __name__ == "__main__":
    main()
