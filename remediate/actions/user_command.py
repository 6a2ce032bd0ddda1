"""A user's action as a command: an argument list, never a shell."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import shlex
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from remediate.actions.base import ActionError, Effect, Probe
from remediate.actions.user_base import Call, Declared, OwnAction
from remediate.actions.user_slots import MAX_EFFECT_CHARS, SLOT, Condition, effect_reader, fill_argument

MAX_OUTPUT_BYTES: Final = 256 * 1024
_PASSED_ON: Final = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR")


@dataclass(frozen=True)
class CommandLine:
    """`argv` with slots as whole elements; `env` are names of environment variables to pass on besides
    PATH, HOME, locale and TMPDIR. OPSMEND_KEY (the idempotency key) is always set."""

    argv: tuple[str, ...]
    env: tuple[str, ...] = ()


@dataclass(frozen=True)
class CommandProbe:
    """`done_when`: CEL over `exit_code`, `body` (standard output, if it is JSON), `output` and `run`."""

    line: CommandLine
    done_when: str


@dataclass(frozen=True)
class Ended:
    """How a command ended. Output beyond 256 KiB is read and dropped."""

    exit_code: int
    stdout: str
    stderr: str = field(repr=False)


class CommandAction(OwnAction):
    """Success is exit code 0 and an `effect` that says that something was done. Its last line of output is
    the effect where no JSONPath is given. After the time-out the whole process group is killed."""

    def __init__(self, declared: Declared, line: CommandLine, probe: CommandProbe | None) -> None:
        super().__init__(declared)
        self._line, self._probe = line, probe
        self._effect = effect_reader(declared.effect) if declared.effect else None
        self._done_when = Condition(probe.done_when) if probe else None

    def describe(self, params: Mapping[str, Any]) -> str:
        return shlex.join(fill_argument(a, params) for a in self._line.argv)

    def _do(self, call: Call) -> Effect:
        ended = execute(self.name, self._line, call)
        if ended.exit_code != 0:
            said = (ended.stderr.strip() or ended.stdout.strip())[-200:]
            raise ActionError(f"{self.name}: exit code {ended.exit_code}: {said}", reason="exit_code")
        if self._effect is not None:
            return self._effect(_json(ended.stdout))
        lines = ended.stdout.strip().splitlines()
        return Effect(lines[-1][:MAX_EFFECT_CHARS] if lines else "exit code 0", True)

    def _look(self, call: Call) -> Probe:
        if self._probe is None or self._done_when is None:
            return Probe(False)
        ended = execute(self.name, self._probe.line, call)
        values = {"exit_code": ended.exit_code, "output": ended.stdout.strip(), "body": _json(ended.stdout)}
        is_done = self._done_when.holds(values, key=call.key, started_ns=call.started_ns)
        return Probe(is_done, f"exit code {ended.exit_code}")


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def execute(name: str, line: CommandLine, call: Call) -> Ended:
    """Run to its end. Raises ActionError: not found, may not, or `timeout` after killing its group."""
    argv = [fill_argument(a, call.params) for a in line.argv]
    env = {n: os.environ[n] for n in (*_PASSED_ON, *line.env) if n in os.environ} | {"OPSMEND_KEY": call.key}
    try:
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                   env=env, start_new_session=True)
    except (OSError, ValueError) as error:
        raise ActionError(f"{name}: {argv[0]} can't be started: {type(error).__name__}", reason="no_command") from error
    in_time = False
    try:
        out, err, in_time = _read(process, time.monotonic() + call.timeout_seconds)
    finally:
        if not in_time:
            _kill_group(process)
        process.wait()
        for stream in (process.stdout, process.stderr):
            if stream is not None:
                stream.close()
    if not in_time:
        raise ActionError(f"{name}: not done after {call.timeout_seconds:g} s, killed", reason="timeout",
                          is_transient=True)
    return Ended(process.returncode, out.decode(errors="replace"), err.decode(errors="replace"))


def _has_ended(process: subprocess.Popen[bytes]) -> bool:
    """Without reaping it, so that its process group's number can't be given to somebody else meanwhile."""
    return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _read(process: subprocess.Popen[bytes], deadline: float) -> tuple[bytes, bytes, bool]:
    """Both outputs, bounded, and whether the command ended in time. What it left running on purpose (a
    service that it started) is not waited for, even if that holds the pipes open."""
    kept: dict[str, bytearray] = {"out": bytearray(), "err": bytearray()}
    with selectors.DefaultSelector() as selector:
        for stream, name in ((process.stdout, "out"), (process.stderr, "err")):
            assert stream is not None
            os.set_blocking(stream.fileno(), False)
            selector.register(stream, selectors.EVENT_READ, name)
        while True:
            has_ended = _has_ended(process)  # asked before reading: what it wrote last is still read
            if time.monotonic() > deadline and not has_ended:
                return bytes(kept["out"]), bytes(kept["err"]), False
            ready = selector.select(0.0 if has_ended else 0.05) if selector.get_map() else []
            for key, _ in ready:
                part = os.read(key.fd, 65536)
                if not part:
                    selector.unregister(key.fileobj)
                kept[key.data] += part[:max(0, MAX_OUTPUT_BYTES - len(kept[key.data]))]
            if has_ended and (not ready or time.monotonic() > deadline):
                return bytes(kept["out"]), bytes(kept["err"]), True
            if not ready and not has_ended and not selector.get_map():
                time.sleep(0.02)


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


def new_line(argv: Sequence[str], env: Sequence[str], params: Mapping[str, str]) -> CommandLine:
    """A checked command line. Raises ValueError: empty, a slot as program or inside an element."""
    if not argv or not argv[0]:
        raise ValueError("argv is empty")
    if SLOT.search(argv[0]):
        raise ValueError("the program can't be a slot")
    for element in argv[1:]:
        if SLOT.search(element) and not SLOT.fullmatch(element):
            raise ValueError(f"a slot must be a whole element of argv, not part of '{element}'")
    return CommandLine(tuple(argv), tuple(env))
