"""Child processes that never outlive their parent, and what /proc knows about them."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


def die_with_parent(sign: int = signal.SIGKILL) -> Callable[[], None]:
    """A `preexec_fn`: the kernel sends `sign` to the child when the thread that started it ends.

    Must be used from a thread that lives as long as the parent (its main thread).
    """
    parent = os.getpid()

    def prepare() -> None:
        _libc.prctl(_PR_SET_PDEATHSIG, sign)
        if os.getppid() != parent:  # the parent died between fork and prctl
            os._exit(1)

    return prepare


def spawn(args: Sequence[str], *, log: IO[bytes], fds: Sequence[int] = (), user: int | None = None,
          sign: int = signal.SIGKILL, cwd: str | None = None) -> subprocess.Popen[bytes]:
    """Start a child in its own session, bound to our life; output appended to `log`."""
    extra: dict[str, Any] = {"user": user, "group": user, "extra_groups": []} if user is not None else {}
    return subprocess.Popen(args, stdin=subprocess.DEVNULL, stdout=log, stderr=log, pass_fds=tuple(fds), cwd=cwd,
                            start_new_session=True, preexec_fn=die_with_parent(sign), **extra)


def listening_socket() -> socket.socket:
    """A TCP socket that listens on a free port of 127.0.0.1; its port is taken from here on."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(("127.0.0.1", 0))
    sock.listen(256)
    return sock


def free_port() -> int:
    """A port that was free a moment ago, for servers that can't inherit a socket."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def rss_bytes(pid: int) -> int | None:
    """Resident bytes; None if there is no such process."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE_BYTES
    except (OSError, IndexError, ValueError):
        return None


def cpu_seconds(pid: int) -> float | None:
    """CPU used so far, user and system; None if there is no such process or it is a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else (int(fields[11]) + int(fields[12])) / _TICKS_PER_SECOND


def write_atomic(path: Path, data: bytes) -> None:
    """Readers see the old content or the new, never a part."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_bytes(data)
    temporary.replace(path)
