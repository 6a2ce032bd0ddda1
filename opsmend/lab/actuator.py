"""The actuator API: what may be done to the shop's services, each request at most once by its key."""

from __future__ import annotations

import asyncio
import hmac
import subprocess
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any, Protocol

import msgspec
from aiohttp import web

from opsmend.lab import topology
from opsmend.lab.backends import LabError, Postgres, Redis
from opsmend.lab.effects import Effect, Effects
from opsmend.lab.fleet import Fleet
from opsmend.lab.settings import ReleaseSettings

_MAX_INSTANCES = 4
Answer = tuple[str, bool]
"""(what was done, whether anything changed)."""


class Backends(Protocol):
    """The part of the supervisor that restarts servers."""

    postgres: Postgres | None
    redis: Redis | None

    def restart_backend(self, name: str, popen: subprocess.Popen[bytes]) -> subprocess.Popen[bytes]: ...


class Body(msgspec.Struct, frozen=True):
    """Body of a POST. `key` makes it idempotent."""

    key: str
    instances: int = 0
    to: str = ""
    kind: str = "rollout"
    settings: ReleaseSettings = ReleaseSettings()


def _problem(status: int, title: str) -> web.Response:
    return web.Response(status=status, content_type="application/problem+json",
                        body=msgspec.json.encode({"status": status, "title": title}))


def _json(value: Any) -> web.Response:
    return web.Response(body=msgspec.json.encode(value), content_type="application/json")


class Actuator:
    """HTTP in front of the fleet. The control token allows repairs, the deploy token also new releases."""

    def __init__(self, fleet: Fleet, effects: Effects, control_token: str, deploy_token: str,
                 backends: Backends) -> None:
        self._fleet = fleet
        self._effects = effects
        self._control, self._deploy = control_token.encode(), deploy_token.encode()
        self._backends = backends
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._verbs: dict[str, Callable[[str, Body, str], Awaitable[Answer]]] = {
            "restart": self._restart, "kill": self._kill, "scale": self._scale, "rollback": self._rollback,
            "rollforward": self._rollforward, "deploy": self._release}

    def app(self) -> web.Application:
        """The routes."""
        app = web.Application()
        app.router.add_get("/v1/services", self._list)
        app.router.add_get("/v1/services/{service}", self._show)
        app.router.add_post("/v1/services/{service}/{verb}", self._act)
        return app

    def _role(self, request: web.Request) -> str:
        """deployer, opsmend, or "" if the bearer token is neither."""
        given = request.headers.get("authorization", "").removeprefix("Bearer ").encode()
        if hmac.compare_digest(given, self._deploy):
            return "deployer"
        return "opsmend" if hmac.compare_digest(given, self._control) else ""

    def _names(self) -> list[str]:
        return [*self._fleet.slots, *self._fleet.backends]

    async def _list(self, request: web.Request) -> web.Response:
        if not self._role(request):
            return _problem(401, "bearer token missing or wrong")
        return _json({"services": [self._state(name) for name in self._names()]})

    async def _show(self, request: web.Request) -> web.Response:
        if not self._role(request):
            return _problem(401, "bearer token missing or wrong")
        name = request.match_info["service"]
        return _json(self._state(name)) if name in self._names() else _problem(404, "no such service")

    def _state(self, name: str) -> dict[str, Any]:
        effects = self._effects.recent_keys(name)
        if name in self._fleet.backends:
            popen = self._fleet.backends[name]
            state = "running" if popen.poll() is None else "stopped"
            instances: list[dict[str, Any]] = [{"id": f"{name}-1", "pid": popen.pid, "state": state,
                                                "started_at": "", "version": ""}]
            return {"service": name, "desired": 1, "instances": instances, "version": "", "previous_version": "",
                    "config_version": "", "effects": effects}
        releases, slots = self._fleet.releases, self._fleet.slots[name]
        current = releases.current(name)
        return {
            "service": name, "desired": len(slots), "version": current.version,
            "previous_version": releases.previous(name), "config_version": current.config_version, "effects": effects,
            "instances": [{
                "id": s.id, "state": s.state, "pid": s.process.popen.pid if s.process else 0,
                "version": s.process.version if s.process else "", "restarts": s.restarts,
                "started_at": datetime.fromtimestamp(s.process.started_ns / 1e9, UTC).isoformat() if s.process else "",
            } for s in slots]}

    async def _act(self, request: web.Request) -> web.Response:
        role = self._role(request)
        if not role:
            return _problem(401, "bearer token missing or wrong")
        service, verb = request.match_info["service"], request.match_info["verb"]
        if service not in self._names() or verb not in self._verbs:
            return _problem(404, "no such service or verb")
        if role != "deployer" and (verb == "deploy" or service in topology.EXTERNAL):
            return _problem(403, f"this token may not {verb} {service}")
        if service in topology.BACKENDS and verb not in ("restart", "kill"):
            return _problem(409, f"{service} can be restarted, and no more")
        try:
            body = msgspec.json.decode(await request.read(), type=Body)
        except msgspec.DecodeError as error:
            return _problem(400, str(error))
        if not body.key:
            return _problem(400, "key is empty")
        actor = request.headers.get("x-actor", role)[:40] if role == "deployer" else role
        # The work goes on when the caller goes away: a repair that was begun is finished and recorded.
        task = asyncio.ensure_future(self._once(service, verb, body, actor))
        try:
            effect = await asyncio.shield(task)
        except LabError as error:
            return _problem(409, str(error))
        return _json({"effect": effect.effect, "changed": effect.changed})

    async def _once(self, service: str, verb: str, body: Body, actor: str) -> Effect:
        async with self._locks[service]:
            if known := self._effects.find(service, verb, body.key):
                return known
            text, changed = await self._verbs[verb](service, body, actor)
            effect = Effect(body.key, time.time_ns(), service, verb, actor, text, changed)
            self._effects.add(effect)
            return effect

    async def _restart(self, service: str, body: Body, actor: str, *, gentle_seconds: float = 1.0,
                       verb: str = "restart") -> Answer:
        self._fleet.emit(service, "action", ref=verb, actor=actor)
        if service in self._fleet.backends:
            popen = self._backends.restart_backend(service, self._fleet.backends[service])
            self._fleet.backends[service] = popen
            server = self._backends.postgres if service == "postgres" else self._backends.redis
            assert server is not None
            await asyncio.get_running_loop().run_in_executor(None, server.wait)
            self._fleet.publish()
            return f"restarted {service}", True
        done = await self._fleet.restart(service, gentle_seconds=gentle_seconds)
        if not done:
            return f"{service} was stopped but did not become healthy", True
        return f"{'restarted' if verb == 'restart' else 'killed and started'} {', '.join(done)}", True

    async def _kill(self, service: str, body: Body, actor: str) -> Answer:
        return await self._restart(service, body, actor, gentle_seconds=0.0, verb="kill")

    async def _scale(self, service: str, body: Body, actor: str) -> Answer:
        before = len(self._fleet.slots[service])
        if not 1 <= body.instances <= _MAX_INSTANCES:
            raise LabError(f"instances must be 1 to {_MAX_INSTANCES}", reason="out_of_range")
        if before == body.instances:
            return f"{service} has {before} instances already", False
        self._fleet.emit(service, "scale", ref=str(body.instances), old=str(before), actor=actor)
        await self._fleet.scale(service, body.instances)
        return f"scaled {service} from {before} to {body.instances}", True

    async def _switch(self, service: str, version: str, actor: str, *, is_back: bool) -> Answer:
        """Run another known release; the history is put back if that does not become healthy."""
        releases = self._fleet.releases
        release, old = releases.read(service, version), releases.current(service).version
        before = releases.history(service)
        (releases.back if is_back else releases.put)(service, version)
        kind = releases.read(service, old).kind if is_back else release.kind  # what is undone names the kind
        if not await self._fleet.roll_out(service, kind=kind, old_version=old, actor=actor):
            releases.restore(service, before)
            return f"{service} {version} did not become healthy, {old} stays", False
        return f"{service} runs {version} instead of {old}", True

    async def _rollback(self, service: str, body: Body, actor: str) -> Answer:
        releases = self._fleet.releases
        version = body.to or releases.previous(service)
        if not version:
            return f"{service} has no earlier release", False
        if version == releases.current(service).version:
            return f"{service} runs {version} already", False
        return await self._switch(service, version, actor, is_back=True)

    async def _rollforward(self, service: str, body: Body, actor: str) -> Answer:
        if not body.to:
            raise LabError("rollforward needs the version in `to`", reason="unknown_version")
        if body.to == self._fleet.releases.current(service).version:
            return f"{service} runs {body.to} already", False
        return await self._switch(service, body.to, actor, is_back=False)

    async def _release(self, service: str, body: Body, actor: str) -> Answer:
        release = self._fleet.releases.add(service, body.kind, body.settings)
        return await self._switch(service, release.version, actor, is_back=False)
