"""`opsmend lab`: the fault lab by hand."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, help="A small shop of real processes that breaks and is repaired.")
_CURRENT = "opsmend-lab.current"
Dir = Annotated[Path | None, typer.Option("--dir", help="The lab's directory; none: the one that is up.")]


def _root(given: Path | None) -> Path:
    """The directory of a running lab. Exits with a message if there is none."""
    if given is not None:
        return given
    pointer = Path(tempfile.gettempdir()) / _CURRENT
    if not pointer.exists() or not (root := Path(pointer.read_text().strip())).is_dir():
        typer.echo("no lab is up; start one with `opsmend lab up`", err=True)
        raise typer.Exit(3)
    return root


@app.command()
def up(directory: Annotated[Path | None, typer.Option("--dir", help="Where; none: a temporary directory.")] = None,
       rate: Annotated[float, typer.Option(help="Requests a second.")] = 30.0,
       seed: int = 0,
       mode: Annotated[str, typer.Option(help="observe, suggest or auto, in the opsmend.toml written.")] = "auto",
       listen: Annotated[str, typer.Option(help="Address in that opsmend.toml.")] = "127.0.0.1:8420") -> None:
    """Start the shop and keep it until Ctrl-C. Prints how to run opsmend on it."""
    import shlex

    from opsmend.lab.policies import to_toml
    from opsmend.lab.system import Lab, LabConfig

    pointer = Path(tempfile.gettempdir()) / _CURRENT
    with Lab(LabConfig(str(directory or ""), requests_per_second=rate, seed=seed)) as lab:
        config = lab.data_dir / "opsmend.toml"
        config.write_text(to_toml(lab.opsmend_config(mode=mode, listen=listen)))
        pointer.write_text(str(lab.layout.root))
        variables = " ".join(f"{k}={shlex.quote(v)}" for k, v in lab.environment().items())
        typer.echo(f"{variables} opsmend run -c {config}")
        stop = threading.Event()
        for sign in (signal.SIGINT, signal.SIGTERM):
            signal.signal(sign, lambda *_: stop.set())
        typer.echo("the lab is up; Ctrl-C ends it. In another terminal: opsmend lab inject FAULT", err=True)
        while not stop.wait(1.0):
            window = lab.sli_window(3)
            n, ok = sum(s.n for s in window), sum(s.ok for s in window)
            state = "good" if lab.good_seconds() else "BAD"
            p95 = max((s.p95 for s in window), default=0.0)
            typer.echo(f"customers {state}: {ok}/{n} ok, p95 {p95 * 1000:.0f} ms", err=True)
        pointer.unlink(missing_ok=True)


@app.command()
def inject(fault: str, directory: Dir = None) -> None:
    """Make one fault, or list them with `inject list`."""
    from opsmend.lab.faults import FAULTS

    if fault == "list":
        for name, entry in FAULTS.items():
            typer.echo(f"{name:16} {entry.root or '-':10} {entry.what}")
        return
    # A process of its own: it holds what has to be held, until the server ends it or Ctrl-C.
    done = subprocess.run([sys.executable, "-m", "opsmend.lab.inject", fault, str(_root(directory))])
    raise typer.Exit(done.returncode)


@app.command()
def heal(fault: str, directory: Dir = None) -> None:
    """Apply the right repair of a fault, as the oracle would."""
    import msgspec

    from opsmend.lab.deployer import Deployer
    from opsmend.lab.faults import FAULTS
    from opsmend.lab.layout import Layout, Ready

    if fault not in FAULTS:
        typer.echo(f"no fault '{fault}'; there are {', '.join(FAULTS)}", err=True)
        raise typer.Exit(2)
    layout = Layout(_root(directory))
    with Deployer(layout, msgspec.json.decode(layout.ready.read_bytes(), type=Ready), actor="oracle") as oracle:
        FAULTS[fault].heal(oracle)


@app.command()
def doctor(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """What the lab can do on this machine."""
    from dataclasses import asdict

    from rich.console import Console
    from rich.table import Table

    from opsmend.lab.doctor import doctor as examine

    rows = examine()
    if as_json:
        typer.echo(json.dumps([asdict(r) for r in rows]))
        return
    grid = Table("", "what", "detail", "remedy")
    for row in rows:
        grid.add_row("✓" if row.ok else "✕", row.what, row.detail, "" if row.ok else row.remedy)
    Console().print(grid)


@app.command()
def bench(faults: Annotated[str, typer.Option(help="Comma-separated; empty: all.")] = "",
          repeat: Annotated[int, typer.Option(min=1)] = 1,
          policy: Annotated[str, typer.Option(help="none, restart-loudest, random, oracle or opsmend.")] = "opsmend",
          json_file: Annotated[Path | None, typer.Option("--json", help="Write the result there.")] = None,
          cap: Annotated[float, typer.Option(help="Seconds after which a fault counts as not mended.")] = 90.0,
          max_pressure: Annotated[float, typer.Option(
              help="CPU pressure (PSI some, %) above which an incident is void.")] = 90.0,
          seed: int = 0, quiet: bool = False) -> None:
    """Measure time to detect and to mend, and what was done wrongly."""
    from rich.console import Console

    from opsmend.lab.bench import BenchConfig, run_bench, table
    from opsmend.lab.system import LabConfig

    result = run_bench([f for f in faults.split(",") if f and f != "all"], repeat, policy, json_file,
                       lab_config=LabConfig(seed=seed, lock_wait_seconds=300.0), show=not quiet,
                       config=BenchConfig(cap_seconds=cap, max_pressure=max_pressure))
    Console().print(table(result))
