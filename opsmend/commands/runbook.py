"""`opsmend runbook lint|list|test|diagram|run`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from opsmend.commands import output
from opsmend.commands.catalogue import ActionsDir, ConfigFile, catalogue_of, named, undo_of
from opsmend.commands.output import Json, mark

if TYPE_CHECKING:
    from remediate.catalogue import Catalogue
    from remediate.runbook import Runbook

app = typer.Typer(no_args_is_help=True, help="Runbooks: lint, list, test, diagram, run --dry-run.")
File = Annotated[Path, typer.Argument(help="A runbook.")]


def _catalogue(config: Path | None, directory: Path | None) -> Catalogue:
    from opsmend.config import load

    return catalogue_of(load(config), directory)


def _read(path: Path, catalogue: Catalogue) -> Runbook:
    from remediate.runbook import RunbookError, parse_runbook

    try:
        return parse_runbook(path.read_text(), str(path), catalogue)
    except OSError as error:
        raise RunbookError(f"{path}: {error.strerror}") from error


@app.command()
def lint(files: list[Path], config: ConfigFile = None, directory: ActionsDir = None, as_json: Json = False) -> None:
    """Refuse what could not run: unknown keys and actions, cycles, conditions that are none. Exit code 2 then."""
    from remediate.runbook import RunbookError

    catalogue = _catalogue(config, directory)
    rows: list[dict[str, Any]] = []
    for path in files:
        try:
            runbook = _read(path, catalogue)
            rows.append({"file": str(path), "ok": True, "name": runbook.name, "steps": runbook.order()})
        except RunbookError as error:
            rows.append({"file": str(path), "ok": False, "error": str(error)})
    if as_json:
        output.as_json(rows)
    else:
        for row in rows:
            said = f"{row['file']}: {row['name']}: {' -> '.join(row['steps'])}" if row["ok"] else row["error"]
            typer.echo(f"{mark(ok=row['ok'])} {output.printable(said)}")
    raise typer.Exit(0 if all(row["ok"] for row in rows) else 2)


@app.command("list")
def list_runbooks(runbooks: Annotated[Path | None, typer.Option("--runbooks", help="Your own runbooks.")] = None,
                  config: ConfigFile = None, directory: ActionsDir = None, as_json: Json = False) -> None:
    """How each action is done: the first runbook of it."""
    from opsmend.config import load
    from remediate.runbook import load_runbooks

    found = load_runbooks(_catalogue(config, directory), runbooks or load(config).repair.runbooks_dir)
    rows = [{"action": action, "runbook": runbook.name, "steps": runbook.order(), "when": getattr(runbook, "when", "")}
            for action, runbook in found.items()]
    if as_json:
        output.as_json(rows)
        return
    output.table(("action", "runbook", "steps"), [
        (r["action"], r["runbook"], " -> ".join(r["steps"])) for r in rows])


@app.command()
def test(file: File, cases: Annotated[Path | None, typer.Argument(help="Cases; none: tests/<file name> beside it.")] = None,
         config: ConfigFile = None, directory: ActionsDir = None, as_json: Json = False) -> None:
    """Rehearse a runbook against cases: is it chosen, which steps run, what is undone. Exit code 1 if one differs."""
    from opsmend.commands.rehearsal import check_case, read_cases

    catalogue = _catalogue(config, directory)
    runbook = _read(file, catalogue)
    found = [(case.case, check_case(runbook, catalogue, case))
             for case in read_cases(cases or file.parent / "tests" / file.name)]
    if as_json:
        output.as_json([{"case": name, "ok": not differs, "differs": differs} for name, differs in found])
    else:
        for name, differs in found:
            typer.echo(f"{mark(ok=not differs)} {output.printable('; '.join([name, *differs]))}")
    raise typer.Exit(1 if any(differs for _, differs in found) else 0)


@app.command()
def diagram(file: File, config: ConfigFile = None, directory: ActionsDir = None) -> None:
    """A Mermaid flow chart (GitHub and many editors draw it)."""
    output.result(flow_chart(_read(file, _catalogue(config, directory))))


def flow_chart(runbook: Runbook) -> str:
    """Steps, what they wait for, verification, undo, and what follows the verdict."""
    repair, after = runbook.phases()

    def text(words: str) -> str:
        return json.dumps(words.replace('"', "#quot;").replace("\n", " "), ensure_ascii=False)

    lines = ["flowchart TD", f"  start([{text(runbook.name)}])"]
    for name in (*repair, *after):
        step = runbook.steps[name]
        lines.append(f"  s_{_id(name)}[{text(f'{name}: {step.action}')}]")
        befores = [f"s_{_id(d)}" for d in step.depends_on] or ["verdict" if name in after else "start"]
        when = step.when or (runbook.when if befores == ["start"] else "")
        lines += [f"  {before} -->{f'|{text(when)}|' if when else ''} s_{_id(name)}" for before in befores]
    lines.append('  verdict{"verified?"}')
    ends = [n for n in repair if not any(n in runbook.steps[o].depends_on for o in repair)]
    lines += [f"  s_{_id(name)} --> verdict" for name in ends]
    if runbook.undo == "on_not_fixed":
        lines.append('  verdict -->|"not fixed"| undo["undo, last step first"]')
    return "\n".join(lines)


def _id(name: str) -> str:
    return "".join(c if c.isalnum() and c.isascii() else f"_{ord(c)}_" for c in name)


@app.command()
def run(file: File, service: Annotated[str, typer.Option(help="The service it would repair.")],
        dry_run: Annotated[bool, typer.Option("--dry-run", help="Needed: see below.")] = False,
        verdict: Annotated[Literal["fixed", "not_fixed", "cannot_tell"], typer.Option(help="Assume this.")] = "fixed",
        config: ConfigFile = None, directory: ActionsDir = None, as_json: Json = False) -> None:
    """What would be called, in order, for one service. In earnest a runbook runs only as a plan of the service, behind
    its gates (`opsmend plans approve`); so --dry-run is needed here."""
    from opsmend.commands.rehearsal import rehearse
    from opsmend.config import ConfigError

    if not dry_run:
        raise ConfigError("a runbook runs only as a plan, behind the gates: add --dry-run to see what it would do")
    catalogue = _catalogue(config, directory)
    runbook = _read(file, catalogue)
    incident = {"id": "dry-run", "severity": "critical", "services": [service], "kinds": [],
                "suspect": {"service": service, "kind": "service", "probability": 1.0, "kinds": []}}
    work = rehearse(runbook, catalogue, {"incident": incident}, verdict=verdict)
    if as_json:
        import msgspec

        output.as_json([msgspec.structs.asdict(d) for d in work.did])
        return
    for d in work.did:
        detail = d.call or d.why
        if d.what == "do":
            detail += f"  ({undo_of(named(catalogue, d.action))})"
        output.result(f"{d.what:7} {d.step:12} {detail}".rstrip())
