"""`opsmend demo`: the lab and the service together. Ctrl-C leaves nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from types import FrameType

import typer

from opsmend.lab.faults import FAULTS
from opsmend.lab.policies import to_toml
from opsmend.lab.system import Lab, LabConfig

_WARM_UP_SECONDS = 45.0


class _Stopped(Exception):
    """SIGINT or SIGTERM came."""


def _stop(_number: int, _frame: FrameType | None) -> None:
    raise _Stopped


def run_demo(*, port: int, every_seconds: float, faults: str, count: int) -> int:
    """Breaks something every `every_seconds` and lets opsmend mend it. Returns the exit code: 2 for a fault
    that there is not."""
    wanted = list(FAULTS) if faults == "all" else faults.split(",")
    if unknown := sorted(set(wanted) - set(FAULTS)):
        typer.echo(f"no fault '{unknown[0]}'; there are {', '.join(FAULTS)}", err=True)
        return 2
    signal.signal(signal.SIGINT, _stop)
    signal.signal(signal.SIGTERM, _stop)
    service: subprocess.Popen[bytes] | None = None
    try:
        typer.echo("starting a small shop of real processes ...", err=True)
        with Lab(LabConfig()) as lab:
            config = lab.data_dir / "opsmend.toml"
            config.write_text(to_toml(lab.opsmend_config(listen=f"127.0.0.1:{port}")))
            with (lab.data_dir / "opsmend.log").open("ab") as log:
                # A group of its own: Ctrl-C reaches us alone, and we stop it in order.
                service = subprocess.Popen(
                    [sys.executable, "-c", "from opsmend.cli import main; main()", "run", "-c", str(config)],
                    env={**os.environ, **lab.environment()}, stdin=subprocess.DEVNULL, stderr=log, stdout=log,
                    start_new_session=True)
            try:
                return _show(lab, service, port, every_seconds, wanted, count)
            finally:
                _end(service)
    except _Stopped:
        typer.echo("stopped; nothing is left running", err=True)
        return 0


def _end(service: subprocess.Popen[bytes]) -> None:
    if service.poll() is None:
        service.terminate()
        try:
            service.wait(15)
        except subprocess.TimeoutExpired:
            service.kill()
            service.wait()


def _show(lab: Lab, service: subprocess.Popen[bytes], port: int, every_seconds: float, wanted: list[str],
          count: int) -> int:
    url = f"http://127.0.0.1:{port}"
    _await(url, service, lab)
    typer.echo(f"\n  dashboard: {url}\n", err=True)
    typer.echo("learning what is usual ...", err=True)
    _sleep(_WARM_UP_SECONDS, service)
    off = lab.faults()
    names = [n for n in wanted if not off[n]]
    for name, why in off.items():
        if why and name in wanted:
            typer.echo(f"left out: {name}: {why}", err=True)
    done = 0
    while True:
        for name in names:
            lab.wait_steady(5, 40)
            typer.echo(f"{time.strftime('%H:%M:%S')}  breaking: {name} - {FAULTS[name].what}", err=True)
            injection = lab.inject(name)
            begun = time.monotonic()
            while time.monotonic() - begun < every_seconds:
                _sleep(1, service)
                if FAULTS[name].is_fault and time.monotonic() - begun > 5 and lab.is_resolved(injection, 5):
                    typer.echo(f"{time.strftime('%H:%M:%S')}  mended after about {time.monotonic() - begun - 5:.0f} s",
                               err=True)
                    break
            else:
                if FAULTS[name].is_fault and not FAULTS[name].is_repairable:
                    typer.echo(f"{time.strftime('%H:%M:%S')}  no action mends this one: it is for people; "
                               "resetting the shop", err=True)
                elif FAULTS[name].is_fault:
                    typer.echo(f"{time.strftime('%H:%M:%S')}  not mended; resetting the shop", err=True)
            _sleep(max(0.0, min(15.0, every_seconds - (time.monotonic() - begun))), service)
            lab.reset()
            done += 1
            if count and done >= count:
                return 0


def _await(url: str, service: subprocess.Popen[bytes], lab: Lab) -> None:
    import httpx

    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        try:
            if httpx.get(f"{url}/readyz", timeout=2).status_code == 200:
                return
        except httpx.HTTPError:
            pass
        _sleep(0.3, service)
    raise typer.Exit(1)


def _sleep(seconds: float, service: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if service.poll() is not None:
            typer.echo(f"opsmend ended with code {service.returncode}", err=True)
            raise typer.Exit(1)
        time.sleep(min(0.3, max(0.0, deadline - time.monotonic())))
