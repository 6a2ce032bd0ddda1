"""Chaos on a real Kafka of three nodes: two members of one group share a PostgreSQL store, and everything dies.

    python tests/chaos/cluster.py --kills 200 --json FILE --markdown FILE [--seed N]

Kills members with -9, kills brokers with -9 and revives them, stops members for longer than the session time-out (they
come back as zombies), ends members cleanly (a cooperative rebalance) and stops the store for some seconds; all under
load, with records among it that are broken or trip a bug. In the end the offsets that were committed with the results
say of each record how often it was counted. Exit code 1 if any was lost or counted twice.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import sqlalchemy as sa
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

from member import AUDIT  # noqa: E402
from telemetry import expect, value  # noqa: E402

from opsmend.lab.backends import Postgres, find_binaries  # noqa: E402
from opsmend.lab.kafka import KafkaCluster  # noqa: E402
from opsmend.store.engine import open_engine  # noqa: E402
from opsmend.store.queries import Queries  # noqa: E402
from opsmend.store.records import Records  # noqa: E402

PARTITIONS = 4
SESSION_SECONDS = 2.0
KINDS = {"member killed, restarted": 12, "member killed, the other takes over": 6, "broker killed and revived": 3,
         "member stopped until others have its partitions (zombie)": 1, "member ended and started (rebalance)": 1,
         "store stopped for 1 to 3 s": 1}
"""Faults, and how often each comes, as shares; the first three are kills with -9."""
KILLS = tuple(KINDS)[:3]


class Load:
    """A producer of numbered records, in a thread; `sent` counts what Kafka acknowledged."""

    def __init__(self, bootstrap: str, per_second: int) -> None:
        self._producer = Producer({"bootstrap.servers": bootstrap, "enable.idempotence": True, "linger.ms": 10,
                                   "delivery.timeout.ms": 120_000, "log_level": 2, "message.timeout.ms": 120_000})
        self._per_second = per_second
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.made, self.acknowledged = 0, 0
        self.failed: list[str] = []
        self.ends: dict[int, int] = {}  # partition -> offset after the last acknowledged record

    def start(self) -> None:
        self._thread.start()

    def _done(self, error: Any, message: Any) -> None:
        if error is not None:
            self.failed.append(error.str())
            return
        self.acknowledged += 1
        if message.offset() is None:
            return  # a retry of what a dying broker had stored already: the brokers know where, and do not tell
        self.ends[message.partition()] = max(self.ends.get(message.partition(), 0), message.offset() + 1)

    def _run(self) -> None:
        try:
            self._produce()
        except BaseException as error:
            self.failed.append(repr(error))  # told by `once`: chaos without load would show nothing
            raise

    def _produce(self) -> None:
        begun, batch = time.monotonic(), max(1, self._per_second // 20)
        while not self._stop.is_set():
            for _ in range(batch):
                self._producer.produce("logs", value(self.made)[0], partition=self.made % PARTITIONS,
                                       headers=[("n", b"%d" % self.made)], on_delivery=self._done)
                self.made += 1
            self._producer.poll(0)
            # What could not be sent in time is not caught up with: a stopped machine makes no flood.
            begun = max(begun + batch / self._per_second, time.monotonic() - 1.0)
            time.sleep(max(0.0, begun - time.monotonic()))

    def end(self) -> None:
        self._stop.set()
        self._thread.join()
        if left := self._producer.flush(120):
            raise RuntimeError(f"{left} records never left")


@dataclass
class Member:
    """One place for a process: its configuration, and who lives there."""

    config: Path
    pid: int = 0

    def is_alive(self) -> bool:
        if not self.pid:
            return False
        with contextlib.suppress(OSError):
            return Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
        return False


@dataclass
class Chaos:
    """Everything there is, and what was done to it."""

    directory: Path
    cluster: KafkaCluster
    dsn: str
    postgres: subprocess.Popen[bytes]
    dice: random.Random
    per_second: int = 150
    lateness_seconds: float = 5.0
    times: dict[str, list[float]] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    endings: list[str] = field(default_factory=list)
    """What members that ended by themselves said last."""

    def __post_init__(self) -> None:
        self.engine = open_engine(self.dsn)
        with self.engine.begin() as c:
            c.execute(sa.text(AUDIT))
        self.records = Records(self.engine, retention_seconds=3600, seat=9)
        admin = AdminClient({"bootstrap.servers": self.cluster.bootstrap_servers})
        admin.create_topics([NewTopic("logs", PARTITIONS, -1)])["logs"].result(30)
        self.load = Load(self.cluster.bootstrap_servers, self.per_second)
        self.members = [Member(self._configure(name)) for name in ("a", "b")]
        self.births = subprocess.Popen([sys.executable, str(HERE / "member.py")], stdin=subprocess.PIPE,
                                       stdout=subprocess.PIPE, text=True, start_new_session=True,
                                       env={**os.environ, "OMP_NUM_THREADS": "1"})  # forks want no threads before

    def _configure(self, name: str) -> Path:
        toml = self.directory / f"{name}.toml"
        toml.write_text(
            f'[service]\ndata_dir = "{self.directory / name}"\nlisten = "127.0.0.1:0"\n[store]\nurl = "{self.dsn}"\n'
            f'[ingest]\ntransport = "kafka"\nmax_poll_ms = 100\ntopics = [{{ name = "logs" }}]\n'
            f'[ingest.kafka]\nbootstrap_servers = "{self.cluster.bootstrap_servers}"\n'
            f"session_timeout_seconds = {SESSION_SECONDS}\n[detect]\nbucket_seconds = 10.0\n"
            f"allowed_lateness_seconds = {self.lateness_seconds}\n"
            '[outlet]\ntopics = false\n[repair]\nexecutor = "memory"\n')
        return toml

    def start(self, member: Member) -> None:
        assert self.births.stdin is not None
        assert self.births.stdout is not None
        self.births.stdin.write(f"{member.config}\n")
        self.births.stdin.flush()
        member.pid = int(self.births.stdout.readline())

    def watch(self, without: Member | None = None) -> None:
        """A member that ended by itself is started again, as a supervisor does; it counts."""
        for member in self.members:
            if member is not without and not member.is_alive():
                self.counts["members that ended by themselves"] += 1
                self.endings.append(self.last_words(member))
                self.start(member)

    def caught_up(self, to: dict[int, int], seconds: float = 90, *, without: Member | None = None) -> float:
        """Seconds until everything up to there is counted, by others than `without`."""
        begun = time.monotonic()
        while time.monotonic() - begun < seconds:
            with contextlib.suppress(sa.exc.OperationalError):
                stored = self.records.watermark().next_offsets
                if all(stored.get(("logs", part), 0) >= end for part, end in to.items()):
                    return time.monotonic() - begun
            self.watch(without)
            time.sleep(0.02)
        raise RuntimeError(f"no progress in {seconds:.0f} s: {self.records.watermark()} of {to}\n{self.logs()}")

    def beyond(self) -> dict[int, int]:
        """Offsets that are reached when records are counted that have not been sent yet."""
        return {part: end + 5 for part, end in self.load.ends.items()}

    @staticmethod
    def last_words(member: Member) -> str:
        said = member.config.with_suffix(".log").read_text(errors="replace").split("\n")
        return "\n".join([line for line in said if line.strip()][-12:])

    def logs(self) -> str:
        return "\n".join(m.config.with_suffix(".log").read_text(errors="replace")[-3000:] for m in self.members)

    def once(self, kind: str) -> None:
        """One fault; measured is how long until every partition has counted what was sent after it."""
        if self.load.failed:
            raise RuntimeError(f"the producer failed: {self.load.failed[0]}")
        self.watch()
        time.sleep(self.dice.uniform(0.02, 0.6))
        victim = self.dice.choice(self._owners() or self.members)
        took = getattr(self, "_" + {k: n for n, k in zip(
            ("restart", "takeover", "broker", "zombie", "rebalance", "store"), KINDS, strict=True)}[kind])(victim)
        self.counts[kind] += 1
        self.times.setdefault(kind, []).append(took)

    def _owners(self) -> list[Member]:
        """The members that have counted something lately: to kill one that has no partition shows nothing."""
        recent = sa.text("SELECT life FROM audit ORDER BY ctid DESC LIMIT 12")
        with self.engine.connect() as c:
            lives = {life for (life,) in c.execute(recent)}
        return [m for m in self.members if m.pid in lives]

    def _restart(self, member: Member) -> float:
        begun, ends = time.monotonic(), self.beyond()
        self._kill(member)
        self.start(member)
        self.caught_up(ends)
        return time.monotonic() - begun

    def _kill(self, member: Member) -> None:
        """Returns when it is gone: its successor finds its lock free."""
        os.kill(member.pid, signal.SIGKILL)
        while member.is_alive():
            time.sleep(0.005)

    def _takeover(self, member: Member) -> float:
        self._kill(member)
        took = self.caught_up(self.beyond(), without=member)
        self.start(member)
        return took

    def _broker(self, _: Member) -> float:
        node = self.dice.choice(self.cluster.nodes)
        self.cluster.kill(node)
        begun, ends = time.monotonic(), self.beyond()
        time.sleep(self.dice.uniform(0.2, 1.5))
        self.cluster.revive(node, wait=False)
        self.caught_up(ends)
        took = time.monotonic() - begun
        self._in_sync()
        return took

    def _in_sync(self) -> None:
        """The next broker may be killed only when all copies are back: two gone at once would stop the topic."""
        admin = AdminClient({"bootstrap.servers": self.cluster.bootstrap_servers, "log_level": 2})
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            with contextlib.suppress(KafkaException):
                topics = admin.list_topics(timeout=5).topics
                if all(len(p.isrs) == len(self.cluster.nodes) for t in topics.values() for p in t.partitions.values()):
                    return
            time.sleep(0.1)
        raise RuntimeError("the copies of the topic did not come back")

    def _zombie(self, member: Member) -> float:
        os.kill(member.pid, signal.SIGSTOP)
        took = self.caught_up(self.beyond(), without=member)
        time.sleep(SESSION_SECONDS)
        os.kill(member.pid, signal.SIGCONT)
        self.caught_up(self.beyond())
        return took

    def _rebalance(self, member: Member) -> float:
        os.kill(member.pid, signal.SIGTERM)
        deadline = time.monotonic() + 30
        while member.is_alive() and time.monotonic() < deadline:
            time.sleep(0.02)
        ends = self.beyond()
        self.start(member)
        return self.caught_up(ends)

    def _store(self, _: Member) -> float:
        pids = [self.postgres.pid, *(p.pid for p in _children(self.postgres.pid))]
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)
        try:
            time.sleep(self.dice.uniform(1, 3))
        finally:
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)
        return self.caught_up(self.beyond())

    def held(self) -> dict[int, int]:
        """What the brokers hold: partition -> end."""
        reader = Consumer({"bootstrap.servers": self.cluster.bootstrap_servers, "group.id": "held", "log_level": 2})
        try:
            return {part: reader.get_watermark_offsets(TopicPartition("logs", part), timeout=30)[1]
                    for part in range(PARTITIONS)}
        finally:
            reader.close()

    def verdict(self) -> dict[str, Any]:
        """What the store says of each record that Kafka holds."""
        seen: Counter[tuple[int, int]] = Counter()
        with self.engine.connect() as c:
            for part, offsets in c.execute(sa.text("SELECT part, offsets FROM audit")):
                seen.update((part, offset) for offset in msgspec.msgpack.decode(bytes(offsets)))
        held = {(part, offset) for part, end in self.held().items() for offset in range(end)}
        expected = expect(self.load.made)
        totals = Queries(self.engine).totals()
        wrong = {what: [totals.get(what, 0), expected[what]] for what in ("records", "logs", "points")
                 if totals.get(what, 0) != expected[what]}
        dead = len(expected["undecodable"]) + len(expected["bugs"])
        if totals.get("dead", 0) != dead:
            wrong["dead"] = [totals.get("dead", 0), dead]
        return {"records in": len(held), "acknowledged": self.load.acknowledged, "lost": len(held - set(seen)),
                "counted twice": sum(n - 1 for n in seen.values()), "dead letters": dead, "wrong totals": wrong,
                "late rows": totals.get("late", 0)}

    def end(self) -> None:
        for member in self.members:
            if member.is_alive():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(member.pid, signal.SIGCONT)
                    os.kill(member.pid, signal.SIGKILL)
        self.births.kill()
        self.births.wait()
        for pipe in (self.births.stdin, self.births.stdout):
            if pipe is not None:
                pipe.close()
        self.engine.dispose()


def _children(pid: int) -> list[Any]:
    import psutil

    return psutil.Process(pid).children(recursive=True)


@contextlib.contextmanager
def everything(seed: int, per_second: int = 150, lateness_seconds: float = 5.0) -> Iterator[Chaos]:
    """Three brokers, a PostgreSQL, two members, a producer."""
    binaries = find_binaries()
    with tempfile.TemporaryDirectory(prefix="opsmend-chaos-", ignore_cleanup_errors=True) as name:
        directory = Path(name)
        directory.chmod(0o755)
        with (directory / "postgres.log").open("wb") as log:
            postgres = Postgres(binaries, directory / "postgres", log)
            postgres.initialise()
            server = postgres.start()
            try:
                postgres.wait(60)
                with KafkaCluster(3, partitions=PARTITIONS, heap_mb=256) as cluster:
                    dsn = postgres.dsn("lab").replace("postgresql://", "postgresql+psycopg://")
                    chaos = Chaos(directory, cluster, dsn, server, random.Random(seed), per_second, lateness_seconds)
                    try:
                        yield chaos
                    finally:
                        chaos.end()
            finally:
                server.send_signal(signal.SIGCONT)
                server.send_signal(signal.SIGQUIT)
                server.wait(20)


def run(kills: int, seed: int, *, per_second: int = 150, lateness_seconds: float = 5.0, tell: Any = lambda *_: None,
        each: bool = False) -> dict[str, Any]:
    """`kills` times kill -9, and the other faults beside; `each`: every kind once at least."""
    with everything(seed, per_second, lateness_seconds) as chaos:
        chaos.load.start()
        for member in chaos.members:
            chaos.start(member)
        chaos.caught_up(dict.fromkeys(range(PARTITIONS), 10))
        begun = time.monotonic()
        forced = list(KINDS) if each else []
        while forced or sum(chaos.counts[k] for k in KILLS) < kills:
            kind = forced.pop() if forced else chaos.dice.choices(list(KINDS), list(KINDS.values()))[0]
            chaos.once(kind)
            tell(sum(chaos.counts[k] for k in KILLS), kind, chaos.times[kind][-1])
        chaos.load.end()
        chaos.caught_up(chaos.held())
        if chaos.load.failed:
            raise RuntimeError(f"the producer failed: {chaos.load.failed[0]}")
        return {"seed": seed, "seconds": round(time.monotonic() - begun), "kills": sum(chaos.counts[k] for k in KILLS),
                "counts": dict(chaos.counts), "endings": chaos.endings, **chaos.verdict(),
                "take over": {kind: summary(found) for kind, found in sorted(chaos.times.items())},
                "times": {kind: [round(t, 3) for t in found] for kind, found in sorted(chaos.times.items())}}


def together(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Several runs as one."""
    times = {kind: [t for run in runs for t in run["times"].get(kind, ())] for kind in KINDS}
    counts: Counter[str] = Counter()
    for run in runs:
        counts.update(run["counts"])
    sums = {name: sum(run[name] for run in runs) for name in (
        "seconds", "kills", "records in", "acknowledged", "lost", "counted twice", "dead letters", "late rows")}
    return {"seeds": [run["seed"] for run in runs], **sums, "counts": dict(counts),
            "endings": [words for run in runs for words in run["endings"]],
            "wrong totals": {str(run["seed"]): run["wrong totals"] for run in runs if run["wrong totals"]},
            "take over": {kind: summary(found) for kind, found in times.items() if found}, "times": times}


def summary(seconds: list[float]) -> dict[str, float]:
    ordered = sorted(seconds)
    return {"times": len(ordered), "median": round(statistics.median(ordered), 2),
            "p90": round(ordered[min(len(ordered) - 1, int(0.9 * len(ordered)))], 2), "max": round(ordered[-1], 2)}


def markdown(found: dict[str, Any]) -> str:
    lines = ["| fault | times | seconds to take over: median | 90th percentile | longest |", "|---|---|---|---|---|"]
    lines += [f"| {kind} | {t['times']} | {t['median']} | {t['p90']} | {t['max']} |"
              for kind, t in found["take over"].items()]
    lines += ["", "| kills with -9 | records in | lost | counted twice | dead letters, as expected | wrong totals |",
              "|---|---|---|---|---|---|",
              f"| {found['kills']} | {found['records in']:,} | {found['lost']} | {found['counted twice']} | "
              f"{found['dead letters']:,} | {found['wrong totals'] or 'none'} |"]
    return "\n".join(lines) + "\n"


def is_right(found: dict[str, Any]) -> bool:
    return not found["lost"] and not found["counted twice"] and not found["wrong totals"] and found["records in"] > 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--markdown", type=Path)
    parser.add_argument("--at-once", type=int, default=50, help="kills of one cluster's life; then a new one begins")
    parser.add_argument("--lateness-seconds", type=float, default=5.0, help="event time, fifteen times as fast as the clock")
    args = parser.parse_args()

    def tell(kills: int, kind: str, took: float) -> None:
        print(f"{kills}/{args.kills} {kind}: {took:.2f} s", file=sys.stderr, flush=True)

    seed, runs = args.seed or random.randrange(1, 10**6), []
    while (left := args.kills - sum(r["kills"] for r in runs)) > 0:
        runs.append(run(min(left, args.at_once), seed + len(runs), lateness_seconds=args.lateness_seconds, tell=tell))
        print(f"seed {runs[-1]['seed']}: {json.dumps({k: v for k, v in runs[-1].items() if k != 'times'})}",
              file=sys.stderr, flush=True)
        if not is_right(runs[-1]):
            break
    found = together(runs)
    if args.json:
        args.json.write_text(json.dumps(found, indent=1) + "\n")
    if args.markdown:
        args.markdown.write_text(markdown(found))
    print(markdown(found))
    return 0 if is_right(found) else 1


if __name__ == "__main__":
    sys.exit(main())
