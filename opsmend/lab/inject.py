"""The injector, a process of its own: `python -m opsmend.lab.inject FAULT ROOT`.

Prints one JSON line when the fault is made. For a fault that needs a session it stays until that session
is ended by the server, or its standard input ends.
"""

from __future__ import annotations

import select
import sys
import time
from pathlib import Path

import msgspec

from opsmend.lab.backends import LabError
from opsmend.lab.deployer import Deployer
from opsmend.lab.faults import FAULTS, Fault, Injection, service_of
from opsmend.lab.layout import Layout, Ready


def _announce(injection: Injection) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(injection) + b"\n")
    sys.stdout.buffer.flush()


def hold_lock(ready: Ready, injection: Injection) -> None:
    """Lock the stock table and idle, until the session is ended or standard input is."""
    import psycopg

    with psycopg.connect(ready.postgres_dsn("reporting"), application_name="reporting") as connection:
        connection.execute("SET lock_timeout = '5s'")
        connection.execute("LOCK TABLE stock IN ACCESS EXCLUSIVE MODE")
        _announce(injection)
        select.select([connection.fileno(), sys.stdin.fileno()], [], [])
        connection.close()  # a lost session has nothing to commit


def inject(fault: Fault, layout: Layout) -> None:
    """Make one fault. Raises LabError."""
    ready = msgspec.json.decode(layout.ready.read_bytes(), type=Ready)
    injection = Injection(fault.name, time.time_ns(), service_of(fault))
    if fault.holds:
        hold_lock(ready, injection)
        return
    with Deployer(layout, ready) as deployer:
        version = fault.make(deployer)
    # A release breaks things when it takes over, not when its roll-out was asked for.
    ts_ns = time.time_ns() if version else injection.ts_ns
    _announce(msgspec.structs.replace(injection, ts_ns=ts_ns, version=version))


def main() -> int:
    """Entry point; exit status 2 for an unknown fault, 3 if the lab refuses."""
    if len(sys.argv) != 3 or sys.argv[1] not in FAULTS:
        print(f"usage: inject FAULT ROOT; faults: {', '.join(FAULTS)}", file=sys.stderr)
        return 2
    try:
        inject(FAULTS[sys.argv[1]], Layout(Path(sys.argv[2])))
    except LabError as error:
        print(f"inject: {error}", file=sys.stderr)
        return 3
    return 0


if __name__ == "__main__":
    sys.exit(main())
