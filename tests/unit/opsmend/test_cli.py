"""The command line as a user has it: real processes, and the same commands against a real HTTP server."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import jsonschema
import pytest
import typer
import uvicorn
from typer.testing import CliRunner

from detect.types import Evidence, Incident, Membership, Signal
from ingest.errors import OpsmendError
from opsmend import cli
from opsmend.api.app import create_app
from opsmend.api.port_memory import MemoryPort
from opsmend.commands.output import printable
from opsmend.lab.processes import listening_socket
from remediate.types import GateResult, Plan, Run
from rootcause.types import Diagnosis, Suspect

T = 1_780_000_000 * 10**9
MAIN = "from opsmend.cli import main; main()"
HASH = "abcdef0123456789"
ENV = {k: v for k, v in os.environ.items() if not k.startswith("OPSMEND_")}


def opsmend(*args: str, env: dict[str, str] | None = None, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", MAIN, *args], env={**ENV, **(env or {})}, cwd=cwd, timeout=60,
                          stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)


def inside(*args: str, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """The same without a new process, which takes most of a second."""
    cli._mount()
    done = CliRunner().invoke(cli.app, args, env={**env, "OPSMEND_TOKEN": ""})
    if isinstance(done.exception, OpsmendError):
        return subprocess.CompletedProcess(args, 1, done.stdout, str(done.exception))
    return subprocess.CompletedProcess(args, done.exit_code, done.stdout, done.stderr)


@pytest.fixture(scope="module")
def port() -> MemoryPort:
    port = MemoryPort(now_ns=T)
    signal = Signal("s1", "t", "d", "process.down", "cart", T, T, 1.0, "k", evidence=(Evidence("its process is gone"),))
    port.put_incident(Incident("i1", "t", "f", T, T, "open", "critical", "cart \x1b[31mis\x07 down", ("cart",), (signal,),
                               (Membership("s1", "started it"),), T))
    for name in ("p1", "p2"):
        port.put_plan(Plan(name, "i1", T, "rb", "h", HASH, "Restart cart", "cart", "process.restart", {}, "rule", 1.0,
                           "why", "low", True, gates=(GateResult("mode", False, "a person must approve"),)))
    port.put_run(Run("r1", "p0", "i1", "cart", "process.restart", "running", T))
    return port


@pytest.fixture(scope="module")
def url(port: MemoryPort) -> Iterator[str]:
    server = uvicorn.Server(uvicorn.Config(create_app(port), port=0, log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    deadline = time.monotonic() + 20
    while not server.started:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join()


def test_help_imports_nothing_heavy() -> None:
    code = ("import sys; sys.argv = ['opsmend', '--help']\nfrom opsmend.cli import main\ntry: main()\n"
            "except SystemExit: pass\n"
            "print([m for m in ('torch', 'torch_geometric', 'sklearn', 'scipy', 'pandas', 'numpy', 'fastapi', 'dbos', "
            "'sqlalchemy', 'pydantic', 'httpx', 'confluent_kafka', 'rich.table') if m in sys.modules])")
    done = subprocess.run([sys.executable, "-c", code], env=ENV, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    assert "incidents" in done.stdout and "doctor" in done.stdout


def test_every_command_that_gives_a_result_has_json() -> None:
    cli._mount()
    without: set[str] = set()

    def walk(command: Any, path: str) -> None:
        if hasattr(command, "commands"):
            for name, inner in command.commands.items():
                walk(inner, f"{path} {name}".strip())
        elif "--json" not in {option for p in command.params for option in p.opts}:
            without.add(path)

    group = typer.main.get_command(cli.app)
    assert isinstance(group, click.core.Group) or hasattr(group, "commands")
    walk(group, "")
    ours = {path for path in without if not path.startswith("lab ")}
    # These run until they are stopped, print JSON or a chart anyway, or write files.
    assert ours == {"run", "demo", "kubernetes", "train", "config schema", "runbook diagram"}


def test_completion_is_shipped() -> None:
    words = subprocess.run([sys.executable, "-c", f"import sys; sys.argv[0] = 'opsmend'; {MAIN}"],
                           env={**ENV, "_OPSMEND_COMPLETE": "complete_bash", "COMP_WORDS": "opsmend inc", "COMP_CWORD": "1"},
                           capture_output=True, text=True, check=False)
    assert "incidents" in words.stdout, words


def test_exit_codes(tmp_path: Path) -> None:
    config = tmp_path / "opsmend.toml"
    config.write_text("[repair]\nmode = 'auto'\n[repair.budget]\nactions_per_houre = 1\n")
    wrong = opsmend("run", "-c", str(config))
    assert wrong.returncode == 2 and wrong.stdout == ""
    assert f"{config}:4: unknown key 'repair.budget.actions_per_houre'; did you mean 'actions_per_hour'?" in wrong.stderr
    variable = opsmend("run", env={"OPSMEND_REPAIR__MOED": "auto"})
    assert variable.returncode == 2 and "OPSMEND_REPAIR__MODE" in variable.stderr
    with listening_socket() as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        busy = opsmend("run", env={"OPSMEND_SERVICE__LISTEN": address, "OPSMEND_SERVICE__DATA_DIR": str(tmp_path / "d")})
    assert busy.returncode == 3 and "choose another port" in busy.stderr
    nobody = opsmend("incidents", "list", "--url", "http://127.0.0.1:9")
    assert nobody.returncode == 3 and "Is `opsmend run` up" in nobody.stderr
    assert opsmend("plans", "nonsense").returncode == 2
    assert opsmend("--help").returncode == 0


def test_an_action_file_with_a_typo_stops_the_service(tmp_path: Path) -> None:
    (tmp_path / "actions").mkdir()
    (tmp_path / "actions" / "a.yaml").write_text("name: a.b\ntitle: x\nkind: command\napplies_wen: [hang]\nargv: [ls]\n")
    (tmp_path / "opsmend.toml").write_text("[service]\ndata_dir='d'\nlisten='127.0.0.1:0'\n[repair]\nactions_dir='actions'\n")
    done = opsmend("run", "-c", str(tmp_path / "opsmend.toml"))
    assert done.returncode == 2, done
    assert "a.yaml:4: applies_wen: unknown key; did you mean 'applies_when'?" in done.stderr


def test_doctor_goes_on_after_what_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "opsmend.toml").write_text(
        "[service]\ndata_dir='d'\n[repair]\nmode='auto'\n[[repair.allow]]\nservice='cart'\nactions=['process.restart']\n")
    done = opsmend("doctor", "-c", str(tmp_path / "opsmend.toml"), "--json")
    rows = {r["check"]: r for r in json.loads(done.stdout)}
    assert done.returncode == 2
    assert {name for name, r in rows.items() if not r["ok"]} == {"actions"}
    assert rows["actions"]["remedy"].startswith("set [actuator] url")
    (tmp_path / "opsmend.toml").write_text("[service]\ndata_dri='d'\n")
    broken = opsmend("doctor", "-c", str(tmp_path / "opsmend.toml"))
    assert broken.returncode == 2 and "✕ configuration" in broken.stdout and "data_dir" in broken.stdout


def test_results_are_on_stdout_and_the_rest_on_stderr(url: str) -> None:
    none = opsmend("incidents", "list", "--state", "closed", env={"OPSMEND_URL": url})
    assert (none.returncode, none.stdout) == (0, "") and "no incidents are closed" in none.stderr
    quiet = opsmend("--quiet", "incidents", "list", "--state", "closed", env={"OPSMEND_URL": url})
    assert (quiet.returncode, quiet.stdout, quiet.stderr) == (0, "", "")
    listed = opsmend("incidents", "list", "--json", env={"OPSMEND_URL": url})
    assert [i["id"] for i in json.loads(listed.stdout)] == ["i1"] and listed.stderr == ""


def test_telemetry_can_not_write_to_the_terminal(url: str) -> None:
    for command in (("incidents", "list"), ("incidents", "show", "i1")):
        done = inside(*command, env={"OPSMEND_URL": url})
        assert done.returncode == 0 and "cart" in done.stdout
        assert "\x1b" not in done.stdout and "\x07" not in done.stdout
    assert printable("a\x1b]0;x\x07\u202eb\n") == "a\ufffd]0;x\ufffd\ufffdb\n"


def test_an_incident_is_shown_with_its_evidence_and_gates(url: str) -> None:
    shown = inside("incidents", "show", "i1", env={"OPSMEND_URL": url}).stdout
    assert "its process is gone" in shown and "✕ mode: a person must approve" in shown and HASH in shown


def test_a_suspect_is_shown_with_what_speaks_for_and_against_it(url: str, port: MemoryPort) -> None:
    cart = Suspect("cart", 0.7, path=("cart", "web"), instances=("cart-2",), evidence=(
        Evidence("latency moved first, with the first sign: 900 ms, usually 50 ms"),
        Evidence("its callee db failed or slowed 3 s earlier", is_for=False)))
    port.put_diagnosis(Diagnosis("i1", T, (cart, Suspect("web", 0.2, peer="cart")), 0.1, False, "m", "g"))
    shown = inside("incidents", "show", "i1", env={"OPSMEND_URL": url}).stdout
    assert """suspect 70%  cart (cart-2)
    path: cart -> web
    for: latency moved first, with the first sign: 900 ms, usually 50 ms
    against: its callee db failed or slowed 3 s earlier
suspect 20%  web -> cart
none of these 10%
""" in shown


def test_an_approval_names_what_was_seen(url: str, port: MemoryPort) -> None:
    env = {"OPSMEND_URL": url}
    assert "p1" in inside("plans", "list", env=env).stdout
    blind = inside("plans", "approve", "p1", env=env)
    assert blind.returncode == 1 and "--hash is needed" in blind.stderr
    for wrong in ("abc", "abcdee", HASH + "0"):
        assert inside("plans", "approve", "p1", "--hash", wrong, env=env).returncode == 1
    found = port.plan("p1")
    assert found is not None and found.state == "proposed"
    assert inside("plans", "approve", "p1", "--hash", HASH[:8], env=env).returncode == 0
    assert inside("plans", "reject", "p2", "--hash", HASH, "--reason", "no", env=env).returncode == 0
    first, second = port.plan("p1"), port.plan("p2")
    assert first is not None and first.state == "approved"
    assert second is not None and (second.state, second.decided_reason) == ("rejected", "no")
    twice = inside("plans", "approve", "p1", "--hash", HASH, env=env)
    assert twice.returncode == 1 and "409" in twice.stderr


def test_the_kill_switch_and_runs(url: str, port: MemoryPort) -> None:
    env = {"OPSMEND_URL": url}
    assert json.loads(inside("repairs", "stop", "--json", env=env).stdout)["stopped"] is True
    assert port.control().stopped
    assert "not stopped" in inside("repairs", "resume", env=env).stdout
    assert "mode auto" in inside("repairs", "mode", "auto", env=env).stdout
    assert inside("repairs", "mode", "yolo", env=env).returncode == 2
    assert "r1" in inside("runs", "list", env=env).stdout
    assert "process.restart on cart" in inside("runs", "show", "r1", env=env).stdout
    assert inside("runs", "cancel", "r1", env=env).returncode == 0
    missing = inside("runs", "show", "../../repairs", env=env)
    assert missing.returncode == 1 and "404" in missing.stderr
    assert "i1 is closed" in inside("incidents", "close", "i1", "--reason", "a drill", env=env).stdout
    shown = inside("incidents", "show", "i1", env=env).stdout
    assert "closed by " in shown and ": a drill" in shown
    assert "i1 was caused by cart -> db" in inside("incidents", "cause", "i1", "cart", "--peer", "db", env=env).stdout
    assert "confirmed cause: cart -> db (by " in inside("incidents", "show", "i1", env=env).stdout
    several = inside("incidents", "cause", "i1", "cart", "--instance", "cart-2", "--also", "web -> cart", "--also", "db",
                     env=env)
    assert "i1 was caused by cart (cart-2) and web -> cart and db" in several.stdout
    assert "confirmed cause: cart (cart-2) and web -> cart and db (by " in inside("incidents", "show", "i1", env=env).stdout
    assert "404" in inside("incidents", "cause", "nobody", "cart", env=env).stderr
    assert "nothing was wrong" in inside("incidents", "cause", "i1", "--nothing", env=env).stdout
    assert "confirmed cause: nothing was wrong (by " in inside("incidents", "show", "i1", env=env).stdout
    assert inside("incidents", "cause", "i1", env=env).returncode == 1


def test_incidents_are_split_and_merged(url: str, port: MemoryPort) -> None:
    env = {"OPSMEND_URL": url}
    held = [Signal(f"{name}-0000-{n}", "t", "d", "latency", name, T, T, 1.0, "k") for name in ("front", "checkout")
            for n in range(2)]
    port.put_incident(Incident("two1", "t", "f", T, T, "open", "warning", "slow", ("checkout", "front"), tuple(held), (), T))
    for wrong, said in (((), "say what leaves"), (("--service", "cart"), "only of checkout, front"),
                        (("--signal", "checkout"), "2 of its signals begin with checkout"),
                        (("--signal", "front-"), "no signal front-"), (("--signal", "x" * 9), "no signal xxxxxxxxx"),
                        (("--service", "front", "--service", "checkout"), "409")):
        done = inside("incidents", "split", "two1", *wrong, env=env)
        assert done.returncode == 1 and said in done.stderr, done
    assert "404" in inside("incidents", "split", "none", "--service", "cart", env=env).stderr
    done = inside("incidents", "split", "two1", "--service", "checkout", "--signal", "front-0000-1", env=env)
    assert "has 3 of the 4 signals of two1" in done.stdout
    new = next(i.id for i in port.incidents(state="open").items if i.split_from == "two1")
    assert inside("incidents", "merge", new, new, env=env).returncode == 1
    assert "404" in inside("incidents", "merge", new, "none", env=env).stderr
    assert f"{new} is merged into two1" in inside("incidents", "merge", new, "two1", env=env).stdout
    again = inside("incidents", "merge", new, "two1", env=env)
    assert again.returncode == 1 and "is merged" in again.stderr
    inside("incidents", "close", "two1", env=env)


@pytest.mark.parametrize(("no_color", "coloured"), [("", True), ("1", False)])
def test_no_color_is_honoured_on_a_terminal(tmp_path: Path, no_color: str, coloured: bool) -> None:
    (tmp_path / "a.yaml").write_text("name: a\nsteps:\n  do: { action: notify }\n")
    ours, theirs = pty.openpty()
    child = subprocess.Popen([sys.executable, "-c", MAIN, "runbook", "lint", str(tmp_path / "a.yaml")], stdin=theirs,
                             stdout=theirs, stderr=subprocess.DEVNULL, env={**ENV, "NO_COLOR": no_color, "TERM": "xterm"})
    os.close(theirs)
    seen = b""
    try:
        while part := os.read(ours, 4096):
            seen += part
    except OSError:  # the other end is gone
        pass
    os.close(ours)
    assert child.wait(30) == 0 and "✓".encode() in seen
    assert (b"\x1b[32m" in seen) is coloured


def test_config_show_says_where_from_and_hides_passwords(tmp_path: Path) -> None:
    config = tmp_path / "opsmend.toml"
    config.write_text("[store]\nurl = 'postgresql+psycopg://me:s3cret@db/x'\n[[webhooks]]\nurl = 'http://h/x?api_key=s3cret'\n")
    done = opsmend("config", "show", "-c", str(config), "--json", env={"OPSMEND_REPAIR__MODE": "suggest"})
    rows = {r["key"]: r for r in json.loads(done.stdout)}
    assert rows["repair.mode"]["value"] == "suggest"
    assert rows["repair.mode"]["from"] == "environment OPSMEND_REPAIR__MODE"
    assert rows["store.url"] == {"key": "store.url", "value": "postgresql+psycopg://me:***@db/x", "from": str(config)}
    assert rows["service.listen"]["from"] == "default"
    assert "s3cret" not in done.stdout
    schema = json.loads(opsmend("config", "schema").stdout)
    jsonschema.Draft202012Validator.check_schema(schema)
    assert "repair" in schema["properties"]
