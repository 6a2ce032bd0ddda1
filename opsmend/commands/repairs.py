"""`opsmend repairs show|mode|stop|resume`."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from opsmend.commands import output
from opsmend.commands.client import DEFAULT_URL, Token, Url, call, me
from opsmend.commands.output import Json, clock

app = typer.Typer(no_args_is_help=True, help="The mode and the kill switch.")


@app.command()
def show(url: Url = DEFAULT_URL, as_json: Json = False) -> None:
    """The mode, whether repairs are stopped, and who said so."""
    _tell(call("GET", url, "/api/v1/repairs"), as_json)


@app.command()
def mode(wanted: Annotated[Literal["observe", "suggest", "auto"], typer.Argument(metavar="observe|suggest|auto")],
         url: Url = DEFAULT_URL, token: Token = "", as_json: Json = False) -> None:
    """Change the mode; it is a row in the store and survives a restart."""
    _tell(call("PUT", url, "/api/v1/repairs", token, {"mode": wanted, "by": me()}), as_json)


@app.command()
def stop(url: Url = DEFAULT_URL, token: Token = "", as_json: Json = False) -> None:
    """The kill switch: nothing starts, and what runs stops before its next step."""
    _tell(call("PUT", url, "/api/v1/repairs", token, {"stopped": True, "by": me()}), as_json)


@app.command()
def resume(url: Url = DEFAULT_URL, token: Token = "", as_json: Json = False) -> None:
    """Allow repairs again."""
    _tell(call("PUT", url, "/api/v1/repairs", token, {"stopped": False, "by": me()}), as_json)


def _tell(control: dict[str, object], as_json: bool) -> None:
    if as_json:
        output.as_json(control)
        return
    stopped = "repairs are stopped" if control["stopped"] else "repairs are not stopped"
    output.result(f"mode {control['mode']}; {stopped} (by {control['changed_by']}, {clock(control['changed_at'])})")
