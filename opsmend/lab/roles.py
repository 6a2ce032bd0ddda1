"""What each service of the shop does with a request."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from opsmend.lab import topology
from opsmend.lab.clients import CallError, Clients
from opsmend.lab.settings import Spec
from opsmend.lab.telemetry import Span, Telemetry

Handler = Callable[[list[str], Span], Awaitable[Any]]
"""(path segments, trace) -> JSON-able answer. Raises CallError."""


class Role:
    """One service's behaviour. Without PostgreSQL or Redis it keeps its data in memory."""

    def __init__(self, spec: Spec, clients: Clients, telemetry: Telemetry) -> None:
        self._spec = spec
        self._clients = clients
        self._telemetry = telemetry
        self._memory: dict[str, int] = {}
        self.handler: Handler = getattr(self, f"_{spec.service}")

    async def _gateway(self, path: list[str], trace: Span) -> Any:
        return await self._clients.http("frontend", "POST", "/" + "/".join(path), trace)

    async def _frontend(self, path: list[str], trace: Span) -> Any:
        match path:
            case ["home"]:
                return await self._clients.http("catalog", "POST", "/list", trace)
            case ["product", number]:
                return await self._clients.http("catalog", "POST", f"/item/{number}", trace)
            case ["cart", user, number]:
                return await self._clients.http("cart", "POST", f"/add/{user}/{number}", trace)
            case ["checkout", user, order]:
                return await self._clients.http("orders", "POST", f"/place/{user}/{order}", trace)
        raise CallError("no such page", 404)

    async def _catalog(self, path: list[str], trace: Span) -> Any:
        key = "catalog:" + ":".join(path)
        if self._clients.has_redis:
            try:
                if found := await self._clients.redis(trace, lambda r: r.get(key)):
                    return {"cached": True, "name": found.decode()}
            except CallError as error:
                self._telemetry.log("warn", f"cache read skipped: {error}", trace)
        if not self._clients.has_postgres:
            return {"cached": False, "name": key}
        if path[0] == "list":
            rows = await self._clients.sql(trace, lambda c: c.fetch("SELECT id, name FROM products LIMIT 20"))
            name = ",".join(row["name"] for row in rows)
        else:
            number = int(path[1])
            name = await self._clients.sql(
                trace, lambda c: c.fetchval("SELECT name FROM products WHERE id = $1", number))
        if self._clients.has_redis:
            try:
                await self._clients.redis(trace, lambda r: r.set(key, name or "", ex=5))
            except CallError as error:
                self._telemetry.log("warn", f"cache write skipped: {error}", trace)
        return {"cached": False, "name": name}

    async def _cart(self, path: list[str], trace: Span) -> Any:
        verb, user = path[0], path[1]
        key = f"cart:{user}"
        if not self._clients.has_redis:
            self._memory[key] = self._memory.get(key, 0) + (verb == "add")
            return {"items": self._memory[key]}
        if verb == "add":
            await self._clients.redis(trace, lambda r: r.hincrby(key, path[2], 1))
            await self._clients.redis(trace, lambda r: r.expire(key, 300))
            return {"items": 1}
        # Looking at a cart also extends its life: a write, as in most real carts.
        await self._clients.redis(trace, lambda r: r.set(f"cart:seen:{user}", "1", ex=300))
        return {"items": len(await self._clients.redis(trace, lambda r: r.hgetall(key)))}

    async def _orders(self, path: list[str], trace: Span) -> Any:
        _, user, order = path
        await self._clients.http("cart", "POST", f"/view/{user}", trace)
        await self._clients.http("inventory", "POST", f"/reserve/{int(user) % topology.PRODUCTS + 1}", trace)
        await self._clients.http("payments", "POST", f"/charge/{order}", trace)
        if self._clients.has_postgres:
            await self._clients.sql(trace, lambda c: c.execute(
                "INSERT INTO orders (id, customer) VALUES ($1, $2) ON CONFLICT DO NOTHING", order, int(user)))
        return {"order": order}

    async def _inventory(self, path: list[str], trace: Span) -> Any:
        number = int(path[1])
        if self._clients.has_postgres:
            await self._clients.sql(trace, lambda c: c.execute(
                "UPDATE stock SET reserved = reserved + 1 WHERE product = $1", number))
        return {"reserved": number}

    async def _payments(self, path: list[str], trace: Span) -> Any:
        return await self._clients.http(
            "bank", "POST", f"/receipt/{path[1]}", trace, base=self._spec.settings.bank_url)

    async def _bank(self, path: list[str], trace: Span) -> Any:
        await asyncio.sleep(0.012)
        if self._spec.receipts:
            descriptor = os.open(Path(self._spec.receipts), os.O_APPEND | os.O_CREAT | os.O_WRONLY, 0o600)
            os.write(descriptor, path[1].encode() + b"\n")
            os.close(descriptor)
        return {"receipt": path[1]}
