"""The faults: how each is made, what is wrong with it, what repairs it, and when it is gone."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import msgspec

from opsmend.lab.backends import LabError
from opsmend.lab.deployer import Deployer
from opsmend.lab.links import Disturbance, edge_name
from opsmend.lab.settings import ReleaseSettings

Repair = tuple[str, str]
"""(verb, target): restart, kill, scale, rollback, rollforward, terminate or purge."""


class Injection(msgspec.Struct, frozen=True):
    """A fault that was made. `version` is the release that was rolled out, "" for other faults."""

    fault: str
    ts_ns: int
    service: str
    version: str = ""


@dataclass(frozen=True)
class Fault:
    """One entry of the catalogue."""

    name: str
    root: str
    """What is to be named: a service, or an edge as `caller->callee`; "" if nothing is wrong."""
    what: str
    right: frozenset[Repair]
    harmful: frozenset[Repair]
    """Repairs that are tempting and make things worse, or disturb the innocent."""
    make: Callable[[Deployer], str]
    """Break it; returns the version rolled out, or ""."""
    heal: Callable[[Deployer], None]
    """The right repair, by the oracle."""
    is_clear: Callable[[Deployer, Injection], bool]
    """Whether this fault itself is gone, whatever the customers see. Raises LabError if that can't be told."""
    needs: str = ""
    """postgres, redis, or nothing."""
    breaches: bool = True
    """Whether the customers notice within half a minute."""
    holds: bool = False
    """Whether the injector has to stay."""

    @property
    def is_repairable(self) -> bool:
        """Whether any action of the catalogue mends it; else the right answer is to say where it is and do nothing."""
        return bool(self.right)

    @property
    def is_fault(self) -> bool:
        return bool(self.root)


def _signal(service: str, sign: int) -> Callable[[Deployer], str]:
    def make(deployer: Deployer) -> str:
        os.kill(deployer.pid(service), sign)
        return ""

    return make


def _act(service: str, verb: str) -> Callable[[Deployer], None]:
    def heal(deployer: Deployer) -> None:
        deployer.act(service, verb)

    return heal


def _deploy(service: str, kind: str, settings: ReleaseSettings) -> Callable[[Deployer], str]:
    return lambda deployer: deployer.deploy(service, kind, settings)


def _is_serving(deployer: Deployer, injection: Injection) -> bool:
    service = deployer.services()[injection.service]
    return all(i["state"] == "running" for i in service["instances"]) and deployer.is_responsive(injection.service)


def _is_other_version(deployer: Deployer, injection: Injection) -> bool:
    service = deployer.services()[injection.service]
    versions = {service["version"], *(i["version"] for i in service["instances"])}
    return injection.version not in versions and _is_serving(deployer, injection)


def _is_quiet(deployer: Deployer, injection: Injection) -> bool:
    return _is_other_version(deployer, injection) and deployer.log_bytes_per_second(injection.service) < 100_000


def _lock(deployer: Deployer) -> str:
    raise LabError("a lock lasts as long as its session: use the injector process")


def _fill(deployer: Deployer) -> str:
    deployer.fill_redis()
    return ""


def _disturb(caller: str, callee: str, disturbance: Disturbance) -> Callable[[Deployer], str]:
    def make(deployer: Deployer) -> str:
        deployer.disturb(caller, callee, disturbance)
        return ""

    return make


def _link(name: str, caller: str, callee: str, what: str, disturbance: Disturbance) -> Fault:
    """A fault of the network. No action of the catalogue mends one: who can't repair it has to say where it is."""
    return Fault(name, edge_name(caller, callee), what, frozenset(),
                 _pairs("restart kill", f"{caller} {callee}") | _SERVERS | _pairs("terminate", "postgres"),
                 _disturb(caller, callee, disturbance), lambda deployer: deployer.disturb(caller, callee, None),
                 lambda deployer, _: not deployer.is_disturbed(caller, callee), needs=callee)


def _terminate(deployer: Deployer) -> None:
    deployer.terminate_blockers()


def _purge(deployer: Deployer) -> None:
    deployer.purge_tenant()


def _nothing(_: Deployer) -> None:
    return None


def _pairs(verbs: str, targets: str) -> frozenset[Repair]:
    return frozenset((verb, target) for verb in verbs.split() for target in targets.split())


def _release(name: str, service: str, kind: str, what: str, settings: ReleaseSettings, *, tempting: str = "",
             breaches: bool = True, is_clear: Callable[[Deployer, Injection], bool] = _is_other_version) -> Fault:
    return Fault(name, service, what, _pairs("rollback", service),
                 _pairs("restart kill", f"{tempting} postgres redis") | _pairs("purge", "redis"),
                 _deploy(service, kind, settings), _act(service, "rollback"), is_clear, breaches=breaches)


_SERVERS: Final = _pairs("restart kill", "postgres redis") | _pairs("purge", "redis")
_DEAD_BANK: Final = "http://127.0.0.1:9"

FAULTS: Final[dict[str, Fault]] = {fault.name: fault for fault in (
    Fault("proc_kill", "inventory", "its process is killed and nobody starts it again",
          _pairs("restart kill", "inventory"), _SERVERS | _pairs("restart kill rollback", "orders frontend gateway"),
          _signal("inventory", signal.SIGKILL), _act("inventory", "restart"), _is_serving),
    Fault("proc_hang", "payments", "its process is stopped and answers nothing",
          _pairs("restart kill", "payments"), _SERVERS | _pairs("restart kill rollback", "orders frontend gateway"),
          _signal("payments", signal.SIGSTOP), _act("payments", "kill"), _is_serving),
    _release("crash_loop", "cart", "rollout", "a release that ends after a few requests",
             ReleaseSettings(exit_after_requests=3), tempting="orders frontend"),
    _release("bad_config", "payments", "config", "a configuration with the wrong address of the bank",
             ReleaseSettings(bank_url=_DEAD_BANK), tempting="orders frontend"),
    _release("cpu_release", "catalog", "rollout", "a release that burns CPU on every request",
             ReleaseSettings(cpu_ms_per_request=46.0), tempting="frontend gateway"),
    _release("mem_leak", "catalog", "rollout", "a release that keeps memory, until the limit kills it",
             ReleaseSettings(cache_bytes_per_request=400_000), tempting="frontend gateway", breaches=False),
    _release("pool_leak", "orders", "rollout", "a release that does not give connections back",
             ReleaseSettings(keep_connection_every=3), tempting="frontend inventory"),
    Fault("db_lock", "postgres", "a session locks the stock table and idles in its transaction",
          _pairs("terminate", "postgres"),
          _pairs("restart kill", "postgres redis") | _pairs("restart kill rollback", "inventory orders frontend"),
          _lock, _terminate, lambda deployer, _: deployer.blockers() == 0, needs="postgres", holds=True),
    Fault("redis_full", "redis", "another tenant's keys fill the shared cache, which refuses writes",
          _pairs("purge", "redis"), _pairs("restart kill", "redis postgres cart catalog orders frontend"),
          _fill, _purge, lambda deployer, _: deployer.redis_used_share() < 0.8, needs="redis"),
    _release("log_storm", "cart", "config", "a configuration that writes 300 times the log lines",
             ReleaseSettings(log_lines_per_request=300, log_level="debug"), tempting="orders frontend",
             breaches=False, is_clear=_is_quiet),
    _link("net_latency", "inventory", "postgres", "the network from inventory to its database has become slow",
          Disturbance(delay_seconds=0.15)),
    _link("net_partition", "catalog", "redis", "the network from catalog to its cache swallows everything",
          Disturbance(is_cut=True)),
    Fault("noop", "", "nothing happens", frozenset(), frozenset(), lambda _: "", _nothing, lambda *_: True,
          breaches=False),
    Fault("innocent_deploy", "", "a release without any defect", frozenset(), frozenset(),
          _deploy("catalog", "rollout", ReleaseSettings()), _nothing, lambda *_: True, breaches=False),
)}

_SERVICE_OF_NONE: Final = {"innocent_deploy": "catalog"}


def service_of(fault: Fault) -> str:
    """The service the injector touches: the root (of an edge its caller), or the one that is innocently deployed."""
    return fault.root.partition("->")[0] or _SERVICE_OF_NONE.get(fault.name, "")


def available(has_postgres: bool, has_redis: bool) -> dict[str, str]:
    """Why a fault is off, by name; "" for those that are on.

    Faults that need a server are off without it; `pool_leak` needs PostgreSQL too, as only its clients
    have a pool.
    """
    off = {}
    for name, fault in FAULTS.items():
        needs = "postgres" if name == "pool_leak" else fault.needs
        missing = (needs == "postgres" and not has_postgres) or (needs == "redis" and not has_redis)
        off[name] = f"needs {needs}" if missing else ""
    return off
