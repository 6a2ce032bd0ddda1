"""Runbooks: YAML to typed steps. A name that is not known is refused with its path and the nearest one."""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec

from ingest.errors import OpsmendError
from remediate.catalogue import Catalogue

SHIPPED = Path(__file__).resolve().parent / "runbooks"


class RunbookError(OpsmendError):
    """The runbook can't be used. Names file and place."""

    reason = "runbook"


class Retry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`attempts` in all; `backoff_seconds` between them."""

    attempts: int = 1
    backoff_seconds: float = 2.0


class Step(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"with_": "with"}):
    """One action. `with` may say "{target}"; everything else comes from the action itself."""

    action: str
    with_: dict[str, str] = {}
    depends_on: tuple[str, ...] = ()
    retry: Retry = Retry()


class Verify(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How long the system may settle, and how long it is then watched. Event time."""

    settle_seconds: float | None = None
    watch_seconds: float | None = None


class Runbook(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A DAG of steps. `undo` says what happens when the repair did not help."""

    name: str
    steps: dict[str, Step]
    title: str = ""
    verify: Verify = Verify()
    undo: Literal["on_not_fixed", "never"] = "on_not_fixed"

    def order(self) -> list[str]:
        """Step names so that each comes after what it depends on; by name where the DAG leaves a choice.

        Raises RunbookError on a cycle or an unknown step.
        """
        done: list[str] = []
        waiting = dict(sorted(self.steps.items()))
        while waiting:
            ready = [n for n, s in waiting.items() if all(d in done for d in s.depends_on)]
            if not ready:
                raise RunbookError(f"{self.name}: steps {', '.join(waiting)} wait for each other or for one that "
                                   "does not exist")
            done += ready
            for name in ready:
                del waiting[name]
        return done

    @property
    def main_action(self) -> str:
        """The action of the first step."""
        return self.steps[self.order()[0]].action

    def hash(self) -> str:
        """SHA-256 of what the runbook says."""
        return hashlib.sha256(msgspec.json.encode(self, order="sorted")).hexdigest()


def plan_hash(runbook: Runbook, target: str, params: Mapping[str, Any]) -> str:
    """SHA-256 of exactly what would run: an approval binds this."""
    body = {"runbook": runbook.hash(), "target": target, "params": params}
    return hashlib.sha256(msgspec.json.encode(body, order="sorted")).hexdigest()


def parse_runbook(text: str, where: str, catalogue: Catalogue) -> Runbook:
    """Raises RunbookError: not YAML, an unknown key, an action that is not in the catalogue, a cycle."""
    import yaml

    try:
        document = yaml.safe_load(text)
        runbook = msgspec.convert(document, Runbook)
    except (yaml.YAMLError, msgspec.ValidationError) as error:
        raise RunbookError(f"{where}: {error}") from error
    if not runbook.steps:
        raise RunbookError(f"{where}: no steps")
    for name, step in runbook.steps.items():
        if step.action not in catalogue:
            near = difflib.get_close_matches(step.action, [a.name for a in catalogue], n=1, cutoff=0.0)
            raise RunbookError(f"{where}: steps.{name}.action: no action '{step.action}'; did you mean '{near[0]}'?")
    runbook.order()
    return runbook


def load_runbooks(catalogue: Catalogue, own: Path | None = None) -> dict[str, Runbook]:
    """The shipped runbooks, those of `own`, and for every other action one of a single step.

    The key is the name of the main action: the planner chooses actions, and a runbook is how one is done.
    """
    found: dict[str, Runbook] = {}
    for directory in (SHIPPED, *([own] if own else [])):
        for path in sorted(directory.glob("*.yaml")):
            runbook = parse_runbook(path.read_text(), str(path), catalogue)
            found[runbook.main_action] = runbook
    for action in catalogue:
        if action.name not in found:
            found[action.name] = Runbook(name=action.name, steps={"do": Step(action.name)}, title=action.title)
    return found
