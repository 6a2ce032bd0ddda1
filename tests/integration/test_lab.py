"""The lab for real: it is well, it breaks, the wrong repair does not help, the right one does."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from ingest.decode import Decoder, DecoderConfig
from ingest.transports.registry import open_consumer
from ingest.types import Watermark
from opsmend.lab.backends import LabError
from opsmend.lab.bench import Bench, BenchConfig, run_bench
from opsmend.lab.faults import FAULTS
from opsmend.lab.policies import OraclePolicy
from opsmend.lab.system import Lab, LabConfig

pytestmark = [pytest.mark.lab, pytest.mark.timeout(240)]


def _until(condition: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.1)
    return False


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab(LabConfig(lock_wait_seconds=200.0)) as running:
        yield running


@pytest.fixture
def steady(lab: Lab) -> Iterator[Lab]:
    assert lab.wait_steady(5), lab.broken()
    yield lab
    lab.reset()


@pytest.fixture
def open_dir() -> Iterator[Path]:
    """pytest's own directories are closed to the user that PostgreSQL runs as under root."""
    with tempfile.TemporaryDirectory(prefix="lab-", ignore_cleanup_errors=True) as name:
        Path(name).chmod(0o755)
        yield Path(name)


def _post(lab: Lab, path: str, token: str | None = None, **body: object) -> httpx.Response:
    bearer = f"Bearer {lab.ready.control_token if token is None else token}"
    return httpx.post(f"{lab.actuator_tcp_url}/v1/services/{path}", json=body, timeout=20.0,
                      headers={"authorization": bearer})


def test_a_killed_process_breaks_the_shop_and_only_its_restart_mends_it(steady: Lab) -> None:
    injection = steady.inject("proc_kill")
    assert _until(steady.is_breached, 15)
    assert not steady.is_clear(injection)
    assert _post(steady, "orders/restart", key="wrong").json() == {"effect": "restarted orders-1", "changed": True}
    time.sleep(4)
    assert steady.is_breached()
    assert not steady.is_resolved(injection, 1)
    steady.heal_by_oracle("proc_kill")
    assert _until(lambda: steady.is_resolved(injection, 4), 25), (steady.broken(injection), steady.sli_window(5))


def test_a_held_lock_goes_with_its_session(steady: Lab) -> None:
    if why := steady.faults()["db_lock"]:
        pytest.skip(why)
    injection = steady.inject("db_lock")
    assert _until(steady.is_breached, 15)
    _post(steady, "inventory/restart", key="wrong-too")
    assert not steady.is_clear(injection)
    import psycopg

    with psycopg.connect(steady.postgres_dsn, autocommit=True) as healer:  # with the healer's own rights
        healer.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'reporting'")
    assert _until(lambda: steady.is_resolved(injection, 4), 25), steady.broken(injection)


def test_a_full_cache_refuses_writes_until_the_tenant_is_purged(steady: Lab) -> None:
    if why := steady.faults()["redis_full"]:
        pytest.skip(why)
    injection = steady.inject("redis_full")
    assert _until(steady.is_breached, 15)
    _post(steady, "cart/restart", key="wrong-as-well")
    assert not steady.is_clear(injection)
    steady.heal_by_oracle("redis_full")
    assert _until(lambda: steady.is_resolved(injection, 4), 25), steady.broken(injection)


@pytest.mark.parametrize(("fault", "tempting"), [("net_latency", "inventory"), ("net_partition", "catalog")])
def test_a_bad_network_is_no_ones_fault_and_no_restart_mends_it(steady: Lab, fault: str, tempting: str) -> None:
    if why := steady.faults()[fault]:
        pytest.skip(why)
    injection = steady.inject(fault)
    assert _until(steady.is_breached, 15)
    _post(steady, f"{tempting}/restart", key=f"wrong-{fault}")
    time.sleep(3)
    assert steady.is_breached()
    assert not steady.is_clear(injection)
    assert not steady.broken(injection)  # every process runs, and what runs is what ran before
    steady.heal_by_oracle(fault)
    assert _until(lambda: steady.is_resolved(injection, 4), 25), (steady.broken(injection), steady.sli_window(5))


def test_a_bench_with_the_oracle_mends_and_does_nothing_wrong(steady: Lab) -> None:
    policy = OraclePolicy()
    policy.start(steady)
    # Nothing is timed here, so that a busy machine is no reason to call the incident void.
    bench = Bench(steady, policy, BenchConfig(cap_seconds=30.0, noop_seconds=3.0, good_seconds=3, hold_seconds=2.0,
                                              max_pressure=100.0))
    crash = bench.run_one(FAULTS["crash_loop"], 0)
    assert (crash.resolved, crash.false_actions, crash.left_broken) == (True, 0, ())
    assert [(a.verb, a.target) for a in crash.actions] == [("rollback", "cart")]
    quiet = bench.run_one(FAULTS["innocent_deploy"], 0)
    assert (quiet.actions, quiet.breach_seconds, quiet.mttr_seconds) == ((), None, None)


def test_a_key_has_one_effect(steady: Lab) -> None:
    before = steady.deployer.pid("cart")
    first = _post(steady, "cart/restart", key="once").json()
    pid = steady.deployer.pid("cart")
    assert first == {"effect": "restarted cart-1", "changed": True}
    assert pid != before
    assert _post(steady, "cart/restart", key="once").json() == first
    assert steady.deployer.pid("cart") == pid
    state = steady.deployer.services()["cart"]
    assert "once" in state["effects"]
    assert state["instances"][0]["state"] == "running"


def test_what_can_not_be_done_says_so(steady: Lab) -> None:
    assert _post(steady, "gateway/rollback", key="r1").json() == {
        "effect": "gateway has no earlier release", "changed": False}
    assert _post(steady, "cart/rollback", key="r2", to="no-such").status_code == 409
    assert _post(steady, "cart/scale", key="s1", instances=99).status_code == 409
    assert _post(steady, "cart/restart").status_code == 400
    assert _post(steady, "cart/restart", token="wrong", key="x").status_code == 401
    assert _post(steady, "bank/restart", key="x").status_code == 403  # not ours
    assert _post(steady, "cart/deploy", key="x").status_code == 403  # not the healer's
    assert _post(steady, "nobody/restart", key="x").status_code == 404


def test_scaling_adds_an_instance_that_serves(steady: Lab) -> None:
    assert _post(steady, "catalog/scale", key="up", instances=2).json()["changed"] is True
    state = steady.deployer.services()["catalog"]
    assert (state["desired"], [i["state"] for i in state["instances"]]) == (2, ["running", "running"])
    assert steady.deployer.is_responsive("catalog")
    assert _post(steady, "catalog/scale", key="up-again", instances=2).json()["changed"] is False


def test_the_pipeline_gets_all_four_kinds_of_records(steady: Lab) -> None:
    _post(steady, "payments/restart", key="seen-as-change")
    consumer = open_consumer(steady.transport_config)
    consumer.start(Watermark())
    decoder = Decoder(DecoderConfig())
    names: set[tuple[str, str]] = set()
    changes: set[tuple[str, str, str]] = set()
    edges: set[tuple[str, str]] = set()
    logs = refused = 0
    deadline = time.monotonic() + 15
    while time.monotonic() < deadline and ("payments", "action", "opsmend") not in changes:
        batch = decoder.decode(consumer.poll(5000, 500))
        refused += len(batch.dead_letters)
        logs += len(batch.logs)
        names |= {(k.service, k.name) for k in batch.metrics.series_table}
        changes |= {(c.service, c.kind, c.actor) for c in batch.changes}
        t = batch.traces
        edges |= {(t.vocab[a], t.vocab[b]) for a, b in zip(t.service, t.peer, strict=True) if b >= 0}
    consumer.close()
    assert refused == 0
    assert logs > 100
    assert ("payments", "action", "opsmend") in changes
    assert {("cart", "process.up"), ("orders", "db.pool.in_use"), ("postgres", "postgresql.lock_waiting"),
            ("redis", "redis.memory_used_bytes"), ("gateway", "http.server.error_ratio")} <= names
    assert {("gateway", "frontend"), ("payments", "bank"), ("inventory", "postgres")} <= edges


def test_nothing_a_healer_can_read_names_a_fault(steady: Lab) -> None:
    steady.inject("bad_config")
    words = [name.encode() for name in FAULTS if "_" in name]
    for path in sorted(p for base in (steady.layout.public, steady.data_dir) for p in base.rglob("*") if p.is_file()):
        data = path.read_bytes()
        assert not [w for w in words if w in data or w in path.name.encode()], path
    assert steady.layout.private.stat().st_mode & 0o077 == 0


def test_a_second_lab_is_refused(lab: Lab) -> None:
    with pytest.raises(LabError, match="another lab is running") as error:
        Lab(LabConfig()).start()
    assert error.value.reason == "busy"
    with pytest.raises(LabError, match="another lab is running"):
        run_bench(["noop"], policy="none", lab_config=LabConfig(), show=False)


_HOLDER = """
import sys, time
from opsmend.lab.system import Lab, LabConfig
lab = Lab(LabConfig(data_dir=sys.argv[1])).start()
lab.inject("db_lock" if not lab.faults()["db_lock"] else "proc_kill")
print(lab.ready.supervisor_pid, flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize("victim", ["owner", "supervisor"])
def test_nothing_is_left_when_a_parent_is_killed(open_dir: Path, victim: str) -> None:
    root = open_dir
    own_tmp = root / "tmp"  # a machine lock of its own
    own_tmp.mkdir()
    owner = subprocess.Popen([sys.executable, "-c", _HOLDER, str(root / "lab")], stdout=subprocess.PIPE,
                             env=os.environ | {"TMPDIR": str(own_tmp)})
    try:
        assert owner.stdout is not None
        supervisor = int(owner.stdout.readline())
        ours = psutil.Process(owner.pid).children(recursive=True)
        assert len(ours) > 10
        os.kill(owner.pid if victim == "owner" else supervisor, signal.SIGKILL)
        rest = [p for p in ours if not _is_injector(p)] if victim == "supervisor" else ours
        assert _until(lambda: not any(_is_alive(p) for p in rest), 10), [p for p in rest if _is_alive(p)]
    finally:
        owner.kill()
        owner.wait()
        assert owner.stdout is not None
        owner.stdout.close()


def _is_alive(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _is_injector(process: psutil.Process) -> bool:
    try:
        return any("opsmend.lab.inject" in part for part in process.cmdline())
    except psutil.NoSuchProcess:
        return False
