"""Only a service that does not answer is told as not responsive; an error of the collector is none of it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest
from aiohttp import web

from ingest.transports.config import TransportConfig
from ingest.transports.registry import open_producer
from opsmend.lab.collector import Collector
from opsmend.lab.infra_metrics import NoAnswer, PostgresMetrics, RedisMetrics
from opsmend.lab.layout import Layout, Ready
from opsmend.lab.processes import free_port

CALLS = {"n": 2, "errors": 1, "p50": 0.01, "p95": 0.02}
STATS = {"seconds": 1.0, "served": CALLS, "made": {}, "pool": {}, "in_flight": 0, "spans": []}
Answer = Callable[[web.Request], Any]


@asynccontextmanager
async def served(answer: Answer) -> AsyncIterator[int]:
    app = web.Application()
    app.router.add_get("/-/stats", answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


async def samples(directory: Path, port: int) -> dict[str, float]:
    producer = open_producer(TransportConfig(kind="embedded", data_dir=str(directory)))
    row = {"service": "cart", "id": "cart-1", "pid": os.getpid(), "port": port, "restarts": 0}
    async with aiohttp.ClientSession() as http:
        collector = Collector(Layout(directory), producer, http, Ready("", "", "", "", os.getpid(), 0, 0))
        rows = await collector._instance(row, 1)
    return {row["name"]: row["value"] for row in rows}


def ask(directory: Path, answer: Answer) -> dict[str, float]:
    async def all_of_it() -> dict[str, float]:
        async with served(answer) as port:
            return await samples(directory, port)

    return asyncio.run(all_of_it())


async def well(_: web.Request) -> web.Response:
    return web.Response(body=msgspec.json.encode(STATS))


async def hangs(_: web.Request) -> web.Response:
    await asyncio.sleep(3)
    return web.Response()


async def fails(_: web.Request) -> web.Response:
    return web.Response(status=500)


async def hangs_up(request: web.Request) -> web.Response:
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


async def another(_: web.Request) -> web.Response:
    return web.Response(body=msgspec.json.encode({**STATS, "served": {}}))


async def with_spans(_: web.Request) -> web.Response:
    return web.Response(body=msgspec.json.encode({**STATS, "spans": [{"name": "GET"}]}))


def test_who_answers_is_responsive(tmp_path: Path) -> None:
    found = ask(tmp_path, well)
    assert (found["process.responsive"], found["http.server.error_ratio"]) == (1.0, 0.5)


@pytest.mark.parametrize("answer", [hangs, fails, hangs_up])
def test_who_does_not_answer_is_not(tmp_path: Path, answer: Answer) -> None:
    found = ask(tmp_path, answer)
    assert (found["process.up"], found["process.responsive"]) == (1.0, 0.0)


def test_where_nobody_listens_neither(tmp_path: Path) -> None:
    assert asyncio.run(samples(tmp_path, free_port()))["process.responsive"] == 0.0


def test_an_answer_that_we_do_not_understand_is_our_error(tmp_path: Path) -> None:
    with pytest.raises(KeyError, match="n"):
        ask(tmp_path, another)


def test_a_transport_that_takes_nothing_is_not_the_services_silence(tmp_path: Path) -> None:
    (tmp_path / "traces").write_text("a file where the topic's folder would be")
    with pytest.raises(OSError, match="traces"):
        ask(tmp_path, with_spans)


@pytest.mark.parametrize("make", [
    lambda port: PostgresMetrics(f"postgresql://opsmend@127.0.0.1:{port}/postgres").sample(),
    lambda port: RedisMetrics(f"redis://127.0.0.1:{port}/0").sample(1.0)])
def test_a_server_that_is_away_gives_no_answer(make: Callable[[int], Any]) -> None:
    with pytest.raises(NoAnswer):
        asyncio.run(make(free_port()))
