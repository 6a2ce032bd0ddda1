"""The customers: an open-loop Poisson load on the gateway. `python -m opsmend.lab.loadgen BOOT.json`.

Open loop: requests start when they are due, whether or not earlier ones came back. Each second one line
about the requests that ended in it is appended to `private/sli.ndjson`.
"""

from __future__ import annotations

import asyncio
import random
import sys
import time
from pathlib import Path

import aiohttp
import msgspec

from opsmend.lab import topology
from opsmend.lab.layout import Boot, Layout
from opsmend.lab.sli import Second
from opsmend.lab.telemetry import quantile

_TIMEOUT_SECONDS = 3.0


class LoadGenerator:
    """Sends requests and keeps what came back, by second."""

    def __init__(self, boot: Boot, http: aiohttp.ClientSession) -> None:
        self._rate = boot.requests_per_second
        self._layout = Layout(Path(boot.root))
        self._http = http
        self._rng = random.Random(boot.seed)
        self._run = f"{time.time_ns():x}"
        self._orders = 0
        self._done: list[tuple[float, bool]] = []
        self._tasks: set[asyncio.Task[None]] = set()

    def _path(self) -> str:
        kind = self._rng.choices([k for k, _ in topology.MIX], [w for _, w in topology.MIX])[0]
        product, user = self._rng.randint(1, topology.PRODUCTS), self._rng.randrange(topology.USERS)
        self._orders += kind == "checkout"
        return {"home": "/home", "product": f"/product/{product}", "cart": f"/cart/{user}/{product}",
                "checkout": f"/checkout/{user}/{self._run}-{self._orders}"}[kind]

    def _gateway(self) -> str:
        ports = msgspec.json.decode(self._layout.discovery.read_bytes()).get("gateway") or [9]
        return f"http://127.0.0.1:{ports[0]}"

    async def _request(self, url: str) -> None:
        started, is_ok = time.perf_counter(), False
        try:
            async with self._http.post(url) as response:
                await response.read()
                is_ok = response.status == 200
        except (aiohttp.ClientError, TimeoutError):
            pass
        self._done.append((time.perf_counter() - started, is_ok))

    async def _report(self) -> None:
        tick = int(time.time()) + 1
        while True:
            await asyncio.sleep(max(0.0, tick - time.time()))
            done, self._done = self._done, []
            seconds = [s for s, _ in done]
            row = Second(tick, len(done), sum(ok for _, ok in done), quantile(seconds, 0.5) if done else 0.0,
                         quantile(seconds, 0.95) if done else 0.0)
            with self._layout.sli.open("ab") as file:
                file.write(msgspec.json.encode(row) + b"\n")
            tick = max(tick + 1, int(time.time()))

    async def run(self) -> None:
        """For ever."""
        reporting = asyncio.create_task(self._report())
        due = time.monotonic()
        while not reporting.done():
            due += self._rng.expovariate(self._rate)
            if (wait := due - time.monotonic()) > 0:
                await asyncio.sleep(wait)
            task = asyncio.create_task(self._request(self._gateway() + self._path()))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        await reporting


async def run(boot: Boot) -> None:
    timeout = aiohttp.ClientTimeout(total=_TIMEOUT_SECONDS)
    async with aiohttp.ClientSession(timeout=timeout, connector=aiohttp.TCPConnector(limit=0)) as http:
        await LoadGenerator(boot, http).run()


def main() -> None:
    asyncio.run(run(msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=Boot)))


if __name__ == "__main__":
    main()
