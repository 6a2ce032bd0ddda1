"""`opsmend doctor`: what works here, and the remedy for what does not."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from importlib.metadata import packages_distributions
from pathlib import Path

import typer

from opsmend.commands import output
from opsmend.config import ConfigError, Settings, load

_OURS = ("ingest", "detect", "rootcause", "remediate", "llm")
_LISTEN_SECONDS = 3.0


@dataclass(frozen=True)
class Row:
    """One line of the table. `remedy` is empty where nothing has to be done."""

    check: str
    ok: bool
    detail: str
    remedy: str = ""


class Trouble(Exception):
    """A check that did not pass; says what to do about it."""

    def __init__(self, detail: str, remedy: str) -> None:
        super().__init__(detail)
        self.detail, self.remedy = detail, remedy


Check = Callable[[Settings], Iterable[tuple[str, str]]]


def run_doctor(config: Path | None, as_json: bool) -> int:
    """Prints a table. Exit code 0; 2 where the configuration is wrong; 3 where something can't be reached."""
    rows, code = examine(config)
    if as_json:
        output.as_json([asdict(row) for row in rows])
        return code
    width = max(len(row.check) for row in rows)
    for row in rows:
        typer.echo(f"{output.mark(ok=row.ok)} {row.check.ljust(width)}  {output.printable(row.detail)}")
        if row.remedy:
            typer.echo(f"  {''.ljust(width)}  -> {output.printable(row.remedy)}")
    return code


def examine(config: Path | None) -> tuple[list[Row], int]:
    """All checks; one that fails does not keep the others from being made."""
    from ingest.errors import OpsmendError

    try:
        settings = load(config)
    except ConfigError as error:
        return [Row("configuration", False, str(error), "correct it; `opsmend config schema` knows every key")], 2
    rows = [Row("configuration", True, str(config) if config else "no file: embedded transport, observe")]
    code = 0
    for name, check, trouble_code in _CHECKS:
        try:
            rows += [Row(f"{name} {what}".strip(), True, detail) for what, detail in check(settings)]
        except Trouble as error:
            rows.append(Row(name, False, error.detail, error.remedy))
        except (OpsmendError, OSError) as error:
            rows.append(Row(name, False, str(error)))
        if not rows[-1].ok:
            code = trouble_code if code == 0 else min(code, trouble_code)  # a wrong configuration comes first
    return rows, code


def _packages(settings: Settings) -> Iterable[tuple[str, str]]:
    owners = packages_distributions()
    strangers = [f"{name} also comes from {', '.join(set(owners[name]) - {'opsmend'})}" for name in _OURS
                 if set(owners.get(name, ["opsmend"])) - {"opsmend"}]
    if strangers:
        raise Trouble("; ".join(strangers), "give opsmend an environment of its own (venv, pipx, container)")
    yield "", f"Python {sys.version.split()[0]}, five packages of ours"


def _data_dir(settings: Settings) -> Iterable[tuple[str, str]]:
    try:
        settings.data_dir.mkdir(parents=True, exist_ok=True)
        probe = settings.data_dir / f".doctor-{os.getpid()}"
        probe.write_text("")
        probe.unlink()
    except OSError as error:
        raise Trouble(f"{settings.data_dir}: {error.strerror}",
                      "name a directory that this user may write to: [service] data_dir") from error
    free = os.statvfs(settings.data_dir)
    free_gb = free.f_bavail * free.f_frsize / 1e9
    if free_gb < 1:
        raise Trouble(f"{settings.data_dir}: {free_gb:.1f} GB left", "make room, or move [service] data_dir")
    yield "", f"{settings.data_dir} ({free_gb:.0f} GB free)"


def _store(settings: Settings) -> Iterable[tuple[str, str]]:
    import sqlalchemy as sa

    from opsmend.store.engine import open_engine
    from opsmend.store.outbox import last_seq

    engine = open_engine(settings.store_url)
    try:
        seq = last_seq(engine)
        with engine.begin() as connection:
            connection.execute(sa.text("SELECT 1"))  # takes the write lock, and gives it back
    except sa.exc.SQLAlchemyError as error:
        raise Trouble(f"{engine.url.render_as_string(hide_password=True)}: {error}",
                      "this user needs the right to write there; is another program holding it?") from error
    finally:
        engine.dispose()
    yield "", f"{engine.url.render_as_string(hide_password=True)} ({seq} events so far)"


def _transport(settings: Settings) -> Iterable[tuple[str, str]]:
    """Reached, and what speaks on it: as a group of its own, nothing is committed."""
    from ingest.transports.registry import open_consumer
    from ingest.types import Watermark
    from opsmend.compose import transport_config

    base = transport_config(settings)
    if base.kind != "embedded" and not base.bootstrap_servers:
        raise Trouble("no broker is named", 'set [ingest.kafka] bootstrap_servers = "host:9092"')
    consumer = open_consumer(replace(base, group_id=f"{base.group_id}-doctor"))
    consumer.start(Watermark())
    heard: dict[str, int] = {}
    deadline = time.monotonic() + (_LISTEN_SECONDS if base.kind != "embedded" else 0.5)
    try:
        while time.monotonic() < deadline and not set(base.topics) <= set(heard):
            for record in consumer.poll(5000, 250):
                heard[record.topic] = max(heard.get(record.topic, 0), record.timestamp_ms)
    finally:
        consumer.close()
    where = base.bootstrap_servers if base.kind != "embedded" else base.data_dir
    silent = [t for t in base.topics if t not in heard]
    yield "", f"{base.kind} at {where}: {', '.join((*base.topics, *base.patterns)) or 'no topics'}"
    if heard:
        yield "records", ", ".join(sorted(heard))
    if silent:
        yield "silent", f"{', '.join(silent)}: nothing to read yet"


def _models(settings: Settings) -> Iterable[tuple[str, str]]:
    from detect.forecaster.versions import ModelVersions
    from opsmend.forecasting.background import models_dir
    from rootcause.rankers.gnn import load_nets

    try:
        yield "", f"{ModelVersions(models_dir(settings.data_dir)).champion().version}, {load_nets()[2]}"
    except (OSError, ValueError, KeyError) as error:
        raise Trouble(f"model files: {error}", "install opsmend again, or `opsmend train forecaster|rootcause`") from error


def _clock(settings: Settings) -> Iterable[tuple[str, str]]:
    now = time.time()
    if not 1_700_000_000 < now < 4_000_000_000:
        raise Trouble(f"the clock says {time.ctime(now)}", "set it: event time and signatures need it")
    yield "", time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now))


def _rights(settings: Settings) -> Iterable[tuple[str, str]]:
    from opsmend.service import api_token

    token = api_token(settings)
    yield "", f"{settings.service.listen}, {'changes need the token' if token else 'localhost only, no token'}"


def _outlet(settings: Settings) -> Iterable[tuple[str, str]]:
    from opsmend.compose import transport_config
    from opsmend.config import secret
    from opsmend.config_sections import OUR_TOPICS
    from opsmend.outlet_webhook import WebhookReceiver

    for hook in settings.webhooks:
        receiver = WebhookReceiver(hook.url, secret("", hook.secret_env), hook.types, settings.service.tenant)
        receiver.close()
        yield "webhook", f"{receiver.name.split(':', 1)[1].rsplit(':', 1)[0]}{'' if hook.secret_env else ', not signed'}"
    if settings.outlet.topics and transport_config(settings).kind != "embedded":
        yield "topics", ", ".join(OUR_TOPICS)


def _actions(settings: Settings) -> Iterable[tuple[str, str]]:
    """What each allowed action may do; and that it has what it needs."""
    from opsmend.commands.catalogue import catalogue_of, may, named, undo_of
    from opsmend.compose import endpoints
    from remediate.actions.base import risk_of
    from remediate.runbook import load_runbooks

    catalogue = catalogue_of(settings)
    load_runbooks(catalogue, settings.repair.runbooks_dir)
    reach = endpoints(settings)
    wanted = list(dict.fromkeys(a for rule in settings.repair.allow for a in rule.actions))
    yield "", f"mode {settings.repair.mode}; {f'{len(wanted)} allowed' if wanted else 'nothing is allowed'}"
    for name in wanted:
        action = named(catalogue, name)
        if name.startswith(("process.", "release.")) and not reach.actuator_url:
            raise Trouble(f"{name} is allowed but there is no actuator", "set [actuator] url, see docs/actions.md")
        for variable in getattr(action, "secrets", ()):
            if not os.environ.get(variable):
                raise Trouble(f"{name} signs with {variable}, which is not set", f"export {variable}=whsec_...")
        allowed = "; ".join(f"{service} {how}" for service, how in may(settings, action))
        yield name, f"{allowed}; risk {risk_of(action, 0.0)}, {undo_of(action)}"


def _llm(settings: Settings) -> Iterable[tuple[str, str]]:
    from opsmend.config import secret

    if settings.llm is None:
        yield "", "none: works without"
        return
    secret("", settings.llm.api_key_env)
    if settings.llm.gguf is not None and not settings.llm.gguf.expanduser().exists():
        raise Trouble(f"{settings.llm.gguf}: no such file", "correct [llm] gguf")
    yield "", f"{settings.llm.model or settings.llm.gguf} at most {settings.llm.max_usd_per_day:g} USD a day"


# name, check, exit code where it fails
_CHECKS: tuple[tuple[str, Check, int], ...] = (
    ("packages", _packages, 2), ("clock", _clock, 2), ("data directory", _data_dir, 3), ("store", _store, 3),
    ("transport", _transport, 3), ("models", _models, 3), ("listen", _rights, 2), ("out", _outlet, 2), ("llm", _llm, 2),
    ("actions", _actions, 2))
