"""`opsmend run`."""

from __future__ import annotations

import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import structlog
import typer

from opsmend.config import ConfigError, Settings, load


def run_service(config: Path | None, transport: str, record: Path | None, runner: str = "", role: str = "") -> None:
    """Blocks until SIGTERM or Ctrl-C; exit code 0 after a clean stop. Raises ConfigError."""
    settings = overridden(load(config), transport, runner, role)
    configure_logging()
    if settings.service.runner == "quix" and settings.scale.role not in ("all", "conclude"):
        from opsmend.commands.worker import run_worker

        run_worker(settings)
    else:
        serve(settings, record)


def overridden(settings: Settings, transport: str, runner: str, role: str) -> Settings:
    """`settings` with what the command line says on top; "" changes nothing. Raises ConfigError."""
    from pydantic import ValidationError

    changes = {"ingest": {"transport": transport}, "service": {"runner": runner}, "scale": {"role": role}}
    found: dict[str, Any] = {}
    for section, values in changes.items():
        given = {key: value for key, value in values.items() if value}
        if given:
            was = getattr(settings, section)
            try:
                found[section] = type(was).model_validate({**was.model_dump(by_alias=True), **given})
            except ValidationError as error:
                ((key, value),) = given.items()
                raise ConfigError(f"--{key} {value}: {error.errors()[0]['msg']}") from error
    return settings.model_copy(update=found)


def configure_logging() -> None:
    """Our own logs: one event a line on stderr, JSON where nobody is looking."""
    import logging

    render: Any = structlog.dev.ConsoleRenderer() if sys.stderr.isatty() else structlog.processors.JSONRenderer()
    structlog.configure(
        processors=[structlog.processors.add_log_level, structlog.processors.TimeStamper(fmt="iso", utc=True),
                    structlog.processors.format_exc_info, render],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr))


def serve(settings: Settings, record: Path | None = None) -> None:
    """The service with its HTTP side. Raises OpsmendError if it can't start."""
    import uvicorn

    class _Server(uvicorn.Server):
        """uvicorn raises the signal that stopped it again; a clean stop is exit code 0 here."""

        @contextmanager
        def capture_signals(self) -> Iterator[None]:
            yield

        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            """The address is told once it answers: who reads it connects at once."""
            await super().startup(sockets)
            if self.started:
                service.tell_address(url)
                typer.echo(f"opsmend: {url}", err=True)

    from opsmend.api.app import create_app
    from opsmend.api.security import ApiConfig
    from opsmend.port_store import StorePort
    from opsmend.service import Service, api_token

    token = api_token(settings)
    host, _, port = settings.service.listen.rpartition(":")
    listening = _listen(host.strip("[]"), int(port))
    url = f"http://{host}:{listening.getsockname()[1]}"
    service = Service(settings, journal=record)
    service.start()
    try:
        hosts = (*ApiConfig().allowed_hosts, host.strip("[]"), *settings.service.allowed_hosts)
        app = create_app(StorePort(service), service.metrics.registry, ApiConfig(token=token, allowed_hosts=hosts))
        server = _Server(uvicorn.Config(app, log_level="warning", access_log=False, timeout_graceful_shutdown=2))

        def stop_serving(*_: object) -> None:
            server.should_exit = True

        app.state.is_closing = lambda: server.should_exit  # open event streams end with it
        service.on_failure = stop_serving
        if service.failed is not None:  # it was quicker than we were
            stop_serving()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, stop_serving)
        server.run(sockets=[listening])
    finally:
        service.stop()
    if service.failed is not None:
        structlog.get_logger().critical("service.died", role=service.failed.role, reason=service.failed.reason,
                                        error=str(service.failed))
        raise service.failed


def _listen(host: str, port: int) -> socket.socket:
    """Bound before anything else starts: a taken port is told at once."""
    from ingest.errors import TransportError

    listening = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
    except OSError as error:
        raise TransportError(f"[service] listen = {host}:{port}: {error.strerror}. Stop who is there, or choose "
                             "another port.", reason="port", is_transient=False) from error
    return listening
