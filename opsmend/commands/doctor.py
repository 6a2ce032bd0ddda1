"""`opsmend doctor`: what works here, and the remedy for what does not."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from importlib.metadata import packages_distributions
from pathlib import Path

import typer

from opsmend.config import Settings, load

_OURS = ("ingest", "detect", "rootcause", "remediate", "llm")


def run_doctor(config: Path | None, as_json: bool) -> int:
    """Prints a table; exit code 1 if anything is wrong."""
    from ingest.errors import OpsmendError

    settings = load(config)
    checks: list[tuple[str, Callable[[Settings], str]]] = [
        ("packages", _packages), ("data directory", _data_dir), ("store", _store), ("transport", _transport),
        ("models", _models), ("clock", _clock), ("allow-list", _allow)]
    rows = []
    for name, check in checks:
        try:
            rows.append((name, True, check(settings)))
        except (OpsmendError, OSError) as error:
            rows.append((name, False, str(error)))
    if as_json:
        typer.echo(json.dumps([{"check": n, "ok": ok, "detail": d} for n, ok, d in rows], indent=2))
    else:
        for name, ok, detail in rows:
            typer.echo(f"{'✓' if ok else '✕'} {name:15} {detail}")
    return 0 if all(ok for _, ok, _ in rows) else 1


def _packages(settings: Settings) -> str:
    owners = packages_distributions()
    strangers = [f"{name} also comes from {', '.join(set(owners[name]) - {'opsmend'})}" for name in _OURS
                 if set(owners.get(name, ["opsmend"])) - {"opsmend"}]
    if strangers:
        raise OSError(f"{'; '.join(strangers)}: give opsmend an environment of its own")
    return f"Python {sys.version.split()[0]}, five packages of ours"


def _data_dir(settings: Settings) -> str:
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    probe = settings.data_dir / ".doctor"
    probe.write_text("")
    probe.unlink()
    return str(settings.data_dir)


def _store(settings: Settings) -> str:
    from opsmend.store.engine import open_engine

    engine = open_engine(settings.store_url)
    engine.dispose()
    return engine.url.render_as_string(hide_password=True)


def _transport(settings: Settings) -> str:
    from ingest.transports.registry import open_consumer
    from ingest.types import Watermark
    from opsmend.compose import transport_config

    config = transport_config(settings)
    consumer = open_consumer(config)
    consumer.start(Watermark())
    consumer.close()
    return f"{config.kind}: {', '.join((*config.topics, *config.patterns))}"


def _models(settings: Settings) -> str:
    from detect.forecaster.lstm import Weights
    from rootcause.rankers.gnn import load_nets

    return f"{Weights.load().version}, {load_nets()[2]}"


def _clock(settings: Settings) -> str:
    now = time.time()
    if not 1_700_000_000 < now < 4_000_000_000:
        raise OSError(f"the clock says {time.ctime(now)}: set it")
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now))


def _allow(settings: Settings) -> str:
    from remediate.catalogue import Catalogue

    catalogue = Catalogue()
    own = settings.repair.actions_dir is not None
    unknown = sorted({a for rule in settings.repair.allow for a in rule.actions if a not in catalogue and not own})
    if unknown:
        raise OSError(f"[[repair.allow]] names actions that do not exist: {', '.join(unknown)}")
    count = sum(len(rule.actions) for rule in settings.repair.allow)
    return f"mode {settings.repair.mode}; {count} (service, action) pairs allowed" if count else "nothing is allowed"
