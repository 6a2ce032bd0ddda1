"""The user's own actions: one YAML file each, in `[repair] actions_dir`. See docs/actions.md.

A file that can't be used is refused when it is loaded, with its path, the line and the nearest valid name.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Final, Literal, NoReturn, get_args

import msgspec

from detect.types import LOG_KINDS, SIGNAL_KINDS
from ingest.errors import OpsmendError
from remediate.actions.base import Action
from remediate.actions.user_base import ENTITIES, Declared, Kind, OwnAction
from remediate.actions.user_command import CommandAction, CommandProbe, new_line
from remediate.actions.user_slots import slots_in
from remediate.actions.user_webhook import HttpProbe, WebhookAction, new_request

KINDS: Final[tuple[str, ...]] = get_args(Kind)
_NAME: Final = re.compile(r"[a-z][a-z0-9_-]*(\.[a-z0-9_-]+)+")


class UserActionError(OpsmendError):
    """An action file can't be used. The message names file and line."""

    reason = "configuration"


class _Entity(msgspec.Struct, forbid_unknown_fields=True):
    entity: str


class _Request(msgspec.Struct, forbid_unknown_fields=True):
    url: str
    method: str = "POST"
    body: Any = None
    secret_env: str = ""


class _HttpProbe(msgspec.Struct, forbid_unknown_fields=True):
    url: str
    done_when: str
    method: str = "GET"
    body: Any = None
    secret_env: str = ""


class _CommandProbe(msgspec.Struct, forbid_unknown_fields=True):
    argv: list[str]
    done_when: str
    env: list[str] = []


class _Common(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    name: str
    title: str
    kind: str
    applies_when: list[str]
    params: dict[str, _Entity] = msgspec.field(default_factory=lambda: {"service": _Entity("service")})
    needs_change: bool = False
    disruption: Literal[0, 1, 2, 3] = 2
    effect: str = ""
    undo: str = "none"
    timeout_seconds: Annotated[float, msgspec.Meta(gt=0, le=600)] = 30.0


class _Webhook(_Common, kw_only=True):
    request: _Request
    probe: _HttpProbe | None = None


class _Command(_Common, kw_only=True):
    argv: list[str]
    env: list[str] = []
    probe: _CommandProbe | None = None


_FIELDS: Final[Mapping[str, type[msgspec.Struct]]] = {
    "http.webhook": _Webhook, "command": _Command, "http.webhook.request": _Request,
    "http.webhook.probe": _HttpProbe, "command.probe": _CommandProbe, "params": _Entity,
}


class _Document:
    """A parsed file that knows the line of each key."""

    def __init__(self, path: Path, text: str) -> None:
        import yaml

        self.path = path
        self.lines: dict[tuple[str, ...], int] = {}
        try:
            node = yaml.compose(text, Loader=yaml.SafeLoader)
            self.body = yaml.safe_load(text)
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            raise UserActionError(f"{path}:{mark.line + 1 if mark else 1}: not YAML: "
                                  f"{getattr(error, 'problem', None) or error}") from error
        if node is not None:
            self._walk(node, ())
        if not isinstance(self.body, dict):
            self.fail((), "an action file is a mapping of keys to values")

    def _walk(self, node: Any, at: tuple[str, ...]) -> None:
        self.lines.setdefault(at, node.start_mark.line + 1)
        if node.id == "mapping":
            for key, value in node.value:
                inner = (*at, str(key.value))
                if inner in self.lines:
                    self.fail(inner, f"'{key.value}' is given twice", line=key.start_mark.line + 1)
                self.lines[inner] = key.start_mark.line + 1
                self._walk(value, inner)
        elif node.id == "sequence":
            for i, value in enumerate(node.value):
                self._walk(value, (*at, str(i)))

    def fail(self, at: Sequence[str], what: str, *, line: int | None = None,
             cause: Exception | None = None) -> NoReturn:
        """Raise with path, line and the dotted place."""
        here = tuple(at)
        while line is None and here and here not in self.lines:
            here = here[:-1]
        line = line or self.lines.get(here, 1)
        place = f"{'.'.join(at)}: " if at else ""
        raise UserActionError(f"{self.path}:{line}: {place}{what}") from cause


def nearest(word: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?` or, where nothing is near, the known ones."""
    names = sorted(known)
    near = difflib.get_close_matches(word, names, n=1, cutoff=0.5)
    return f"; did you mean '{near[0]}'?" if near else f"; known are {', '.join(names)}"


def load_user_actions(directory: Path, built_in: Iterable[Action] = ()) -> list[Action]:
    """All `*.yaml` and `*.yml` of `directory`, by file name. `built_in` are actions that `undo` may name as well.

    Raises UserActionError for the first file that can't be used: none is loaded then.
    """
    if not directory.is_dir():
        raise UserActionError(f"{directory}: no such directory")
    files = sorted(p for p in directory.iterdir() if p.suffix in (".yaml", ".yml"))
    loaded = [_load(path) for path in files]
    by_name: dict[str, Action] = {a.name: a for a in built_in}
    for document, action, _ in loaded:
        if action.name in by_name:
            document.fail(("name",), f"another action is named '{action.name}'")
        by_name[action.name] = action
    for document, action, undo in loaded:
        if undo == "none":
            continue
        if undo == action.name:
            document.fail(("undo",), "an action can't undo itself")
        if undo not in by_name:
            document.fail(("undo",), f"no action '{undo}'" + nearest(undo, {*by_name, "none"} - {action.name}))
        other = by_name[undo]
        if isinstance(other, OwnAction) and not other.slots <= action.slots:
            document.fail(("undo",), f"'{undo}' needs parameters that this action does not have")
        action.undo_action = other
    return [action for _, action, _ in loaded]


def _load(path: Path) -> tuple[_Document, OwnAction, str]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeError) as error:
        raise UserActionError(f"{path}: can't be read: {type(error).__name__}") from error
    document = _Document(path, text)
    kind = document.body.get("kind")
    if kind not in KINDS:
        document.fail(("kind",), f"no kind '{kind}'" + nearest(str(kind), KINDS))
    _check_keys(document, kind)
    try:
        spec = msgspec.convert(document.body, _FIELDS[kind])
    except msgspec.ValidationError as error:
        what, _, at = str(error).partition(" - at `$")
        places = re.findall(r"[A-Za-z_][\w-]*|\d+", at) if at else []
        document.fail(places, what, cause=error)
    assert isinstance(spec, _Webhook | _Command)
    _check_values(document, spec)
    declared = Declared(
        name=spec.name, title=spec.title, applies_when=frozenset(spec.applies_when),
        params={n: p.entity for n, p in spec.params.items()}, needs_change=spec.needs_change,
        disruption=spec.disruption, timeout_seconds=spec.timeout_seconds, effect=spec.effect, undo=spec.undo)
    return document, _build(document, spec, declared), spec.undo


def _check_keys(document: _Document, kind: str) -> None:
    for at in sorted(document.lines, key=lambda a: (document.lines[a], a)):
        parent = {1: kind, 2: f"{kind}.{at[0]}", 3: at[0]}.get(len(at), "") if at else ""
        if len(at) == 3 and at[0] != "params":
            continue
        struct = _FIELDS.get(parent)
        if struct is not None and at and at[-1] not in struct.__struct_fields__ and not at[-1].isdigit():
            document.fail(at, "unknown key" + nearest(at[-1], struct.__struct_fields__))


def _check_values(document: _Document, spec: _Common) -> None:
    if not _NAME.fullmatch(spec.name) or len(spec.name) > 48:
        document.fail(("name",), f"'{spec.name}' is no action name; write it as 'shop.restart'")
    if not spec.applies_when:
        document.fail(("applies_when",), "empty: name the signals that call for this action")
    for i, signal in enumerate(spec.applies_when):
        if signal not in SIGNAL_KINDS:
            document.fail(("applies_when", str(i)), f"no signal kind '{signal}'" + nearest(signal, SIGNAL_KINDS))
    if set(spec.applies_when) <= LOG_KINDS and not spec.needs_change:
        document.fail(("applies_when",), "signals from logs alone can be forged by whoever can write a log line: "
                      "add another kind, or needs_change: true")
    for name, param in spec.params.items():
        if param.entity not in ENTITIES:
            document.fail(("params", name, "entity"), f"no entity '{param.entity}'" + nearest(param.entity, ENTITIES))
    for name in slots_in(spec.title):
        if name != "service":
            document.fail(("title",), f"'{{{name}}}' can't stand in a title; only '{{service}}' can")


def _build(document: _Document, spec: _Webhook | _Command, declared: Declared) -> OwnAction:
    section = "request" if isinstance(spec, _Webhook) else "argv"
    try:
        if isinstance(spec, _Webhook):
            r, p = spec.request, spec.probe
            _check_slots(document, ("request",), (r.url, r.body), declared)
            request, probe = new_request(r.method, r.url, r.body, r.secret_env), None
            if p is not None:
                section = "probe"
                _check_slots(document, ("probe",), (p.url, p.body), declared)
                probe = HttpProbe(new_request(p.method, p.url, p.body, p.secret_env or r.secret_env), p.done_when)
            section = "effect" if declared.effect else section
            return WebhookAction(declared, request, probe)
        _check_slots(document, ("argv",), spec.argv, declared)
        line, look = new_line(spec.argv, spec.env, declared.params), None
        if spec.probe is not None:
            section = "probe"
            _check_slots(document, ("probe",), spec.probe.argv, declared)
            look = CommandProbe(new_line(spec.probe.argv, spec.probe.env, declared.params), spec.probe.done_when)
        section = "effect" if declared.effect else section
        return CommandAction(declared, line, look)
    except ValueError as error:
        at = "probe" if str(error).startswith("no CEL") else section
        document.fail((at, "done_when") if str(error).startswith("no CEL") else (at,), str(error), cause=error)


def _check_slots(document: _Document, at: tuple[str, ...], template: Any, declared: Declared) -> None:
    if isinstance(template, str):
        for name in slots_in(template):
            if name not in declared.params:
                document.fail(at, f"no parameter '{name}'" + nearest(name, declared.params))
    elif isinstance(template, Mapping):
        _check_slots(document, at, list(template.values()), declared)
    elif isinstance(template, list | tuple):
        for item in template:
            _check_slots(document, at, item, declared)
