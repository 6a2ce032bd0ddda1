"""Runbooks: YAML to typed steps. A name that is not known is refused with its path and the nearest one.

    name: roll-back-a-bad-release
    when: has(incident.suspect.change) && incident.suspect.change.kind == "rollout"
    steps:
      back: { action: release.rollback, retry: { attempts: 2, backoff_seconds: 5 } }
      tell: { action: notify, depends_on: [back], when: run.verdict != "fixed" }
    verify: { settle_seconds: 20, watch_seconds: 60 }
    undo: on_not_fixed
"""

from __future__ import annotations

import difflib
import hashlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec

from ingest.errors import OpsmendError
from remediate import conditions
from remediate.catalogue import Catalogue

SHIPPED = Path(__file__).resolve().parent / "runbooks"
AFTER_VERDICT = "run.verdict"
"""A step whose `when` speaks of it waits for verification (and undo)."""


class RunbookError(OpsmendError):
    """The runbook can't be used. Names file and place."""

    reason = "runbook"


class Retry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`attempts` in all; `backoff_seconds` between them."""

    attempts: int = 1
    backoff_seconds: float = 2.0


class Step(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"with_": "with"}):
    """One action. `with` may say "{target}"; everything else comes from the action itself.

    `when`: CEL over `incident` (see planner.facts) and `run`; false skips the step, an error stops the run.
    """

    action: str
    with_: dict[str, str] = {}
    depends_on: tuple[str, ...] = ()
    retry: Retry = Retry()
    when: str = ""

    @property
    def is_after_verdict(self) -> bool:
        """Whether it runs only once the verdict is known."""
        return AFTER_VERDICT in self.when


class Verify(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How long the system may settle, and how long it is then watched. Event time."""

    settle_seconds: float | None = None
    watch_seconds: float | None = None


class Runbook(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A DAG of steps. `undo` says what happens when the repair did not help.

    `when`: CEL over `incident`; a runbook whose condition does not hold, or can't be evaluated, is not proposed.
    """

    name: str
    steps: dict[str, Step]
    title: str = ""
    when: str = ""
    target: Literal["incident.suspect.service"] = "incident.suspect.service"
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

    def phases(self) -> tuple[list[str], list[str]]:
        """(steps of the repair, steps after its verdict), each in order. What depends on a step of the second
        phase is of the second phase."""
        repair: list[str] = []
        after: list[str] = []
        for name in self.order():
            step = self.steps[name]
            late = step.is_after_verdict or any(d in after for d in step.depends_on)
            (after if late else repair).append(name)
        return repair, after

    @property
    def main_action(self) -> str:
        """The action of the first step."""
        return self.steps[self.phases()[0][0]].action

    def hash(self) -> str:
        """SHA-256 of what the runbook says; the same after it was stored and read back (0 and 0.0 are one)."""
        read_back = msgspec.json.decode(msgspec.json.encode(self), type=Runbook)
        return hashlib.sha256(msgspec.json.encode(read_back, order="sorted")).hexdigest()


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
        raise RunbookError(f"{where}: {error}{_meant(str(error))}") from error
    _check(runbook, where, catalogue)
    return runbook


def _meant(message: str) -> str:
    """The nearest valid key to the one that msgspec does not know; "" for other messages."""
    unknown = re.search(r"unknown field `([^`]*)`", message)
    if unknown is None:
        return ""
    known = [field.encode_name for kind in (Runbook, Step, Retry, Verify) for field in msgspec.structs.fields(kind)]
    return f"; did you mean '{difflib.get_close_matches(unknown[1], known, n=1, cutoff=0.0)[0]}'?"


def _check(runbook: Runbook, where: str, catalogue: Catalogue) -> None:
    if not runbook.steps:
        raise RunbookError(f"{where}: no steps")
    for name, step in runbook.steps.items():
        if step.action not in catalogue:
            near = difflib.get_close_matches(step.action, [a.name for a in catalogue], n=1, cutoff=0.0)
            raise RunbookError(f"{where}: steps.{name}.action: no action '{step.action}'; did you mean '{near[0]}'?")
        if not (1 <= step.retry.attempts <= 10 and 0 <= step.retry.backoff_seconds <= 600):
            raise RunbookError(f"{where}: steps.{name}.retry: attempts 1 to 10, backoff_seconds 0 to 600")
    for place, text in (("when", runbook.when), *((f"steps.{n}.when", s.when) for n, s in runbook.steps.items())):
        if not text:
            continue
        try:
            conditions.check(text)
        except conditions.ConditionError as error:
            raise RunbookError(f"{where}: {place}: {error}") from error
    try:
        runbook.order()
    except RunbookError as error:
        raise RunbookError(f"{where}: {error}") from error
    if AFTER_VERDICT in runbook.when:
        raise RunbookError(f"{where}: when: there is no verdict before a run")
    if not runbook.phases()[0]:
        raise RunbookError(f"{where}: every step waits for the verdict of none")


class Runbooks(Mapping[str, Runbook]):
    """Action name -> how it is done. `choose` asks the conditions; `[...]` gives the first, whatever it says.

    The user's own come before the shipped ones, in the order of their file names.
    """

    def __init__(self, by_action: Mapping[str, tuple[Runbook, ...]]) -> None:
        self._by_action = dict(by_action)

    def __getitem__(self, action: str) -> Runbook:
        return self._by_action[action][0]

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_action)

    def __len__(self) -> int:
        return len(self._by_action)

    def choose(self, action: str, facts: Mapping[str, Any]) -> Runbook | None:
        """The first runbook of `action` whose condition holds; one that can't be evaluated does not hold."""
        for runbook in self._by_action.get(action, ()):
            try:
                if not runbook.when or conditions.holds(runbook.when, facts):
                    return runbook
            except conditions.ConditionError:
                continue
        return None

    def with_hash(self, action: str, runbook_hash: str) -> Runbook | None:
        """The one that a plan was made of; None if the files say something else by now."""
        return next((r for r in self._by_action.get(action, ()) if r.hash() == runbook_hash), None)


def load_runbooks(catalogue: Catalogue, own: Path | None = None) -> Runbooks:
    """The user's runbooks in `own`, the shipped ones, and for every other action one of a single step.

    A runbook belongs to the action of its first step: the planner chooses actions, and a runbook is how one is
    done. Raises RunbookError; also for two files of one directory with the same name, of which one could never run.
    """
    found: dict[str, list[Runbook]] = {}
    for directory in (*([own] if own else []), SHIPPED):
        names: dict[str, Path] = {}
        for path in sorted(directory.glob("*.y*ml")):
            runbook = parse_runbook(path.read_text(), str(path), catalogue)
            if runbook.name in names:
                raise RunbookError(f"{path}: the name '{runbook.name}' is taken by {names[runbook.name]}")
            names[runbook.name] = path
            same = found.setdefault(runbook.main_action, [])
            if directory is not SHIPPED and any(not r.when for r in same):
                raise RunbookError(f"{path}: would never run: an earlier runbook for {runbook.main_action} has no `when`")
            same.append(runbook)
    for action in catalogue:
        if not found.get(action.name):
            found[action.name] = [Runbook(name=action.name, steps={"do": Step(action.name)}, title=action.title)]
    return Runbooks({name: tuple(runbooks) for name, runbooks in found.items()})
