"""What commands print: results on stdout, everything else on stderr.

Text that came out of telemetry may hold escape sequences; nothing unprintable reaches a terminal.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
_QUIET = "OPSMEND_QUIET"


def set_quiet() -> None:
    """`--quiet`: from here on `note` says nothing (child processes included)."""
    os.environ[_QUIET] = "1"


def is_quiet() -> bool:
    return os.environ.get(_QUIET, "") not in ("", "0")


def note(text: str) -> None:
    """Something for people beside the result: stderr, unless `--quiet`."""
    if not is_quiet():
        typer.echo(printable(text), err=True)


def result(text: str) -> None:
    """One line of the result."""
    typer.echo(printable(text))


def as_json(value: object) -> None:
    """The result for programs. JSON escapes control characters by itself."""
    typer.echo(json.dumps(value, indent=2, default=str))


def table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Aligned columns; a header only where a person looks."""
    cells = [[printable(str(cell)) for cell in row] for row in rows]
    if cells and sys.stdout.isatty():
        cells.insert(0, [c.upper() for c in columns])
    widths = [max(len(row[i]) for row in cells) for i in range(len(columns))] if cells else []
    for row in cells:
        typer.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def mark(*, ok: bool) -> str:
    """✓ or ✕, coloured on a terminal unless NO_COLOR is set."""
    sign = "✓" if ok else "✕"
    if not sys.stdout.isatty() or os.environ.get("NO_COLOR"):
        return sign
    return f"\x1b[{32 if ok else 31}m{sign}\x1b[0m"


def printable(text: str) -> str:
    """Without control characters but line ends and our own colours of `mark`."""
    return "".join(c if c.isprintable() or c == "\n" else "\ufffd" for c in text)


def clock(value: object) -> str:
    """A time of the API (RFC 3339) as people read it: UTC, to the second."""
    try:
        return datetime.fromisoformat(str(value).replace("Z", "+00:00")).astimezone(UTC).strftime("%Y-%m-%d %H:%M:%SZ")
    except ValueError:
        return ""


def field(row: Mapping[str, Any], name: str) -> str:
    """A field for a table; "" for what is null."""
    value = row.get(name)
    return "" if value is None else str(value)
