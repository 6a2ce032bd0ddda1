"""A stream of JSON log lines of mixed systems, 150 to 200 bytes each, for the benchmarks.

Identifiers change in letters as well as in digits (hex, hosts, paths, users, pods), or with `letters=False` in digits
alone, which is kind to every cache that deletes digits. Seeded: the same arguments give the same bytes.

With `whole`, every letter of such values changes: hosts lose their domains, files their endings, paths their folders,
so that no form gives them away and a miner has to learn from the lines what varies.

With `data`, a directory of loghub samples (`<System>/<System>_2k.log_structured_corrected.csv`), the lines are real
ones of these systems, some hundred templates, in which what the templates call variable is made up anew for each
line. Without it they are 40 events written here; that is kind to a miner that compares a line with all templates of
its length, so the two streams are told apart in every report.
"""

from __future__ import annotations

import functools
import json
import random
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

EVENTS: dict[str, tuple[str, ...]] = {
    "gateway": (
        "GET {path} HTTP/1.1 status {status} bytes {int} duration {ms} ms upstream {host}:{port}",
        "upstream {host}:{port} timed out after {ms} ms while reading response header",
        "client {ip} closed keepalive connection after {int} requests",
        "rate limit of {int} requests/s exceeded by client {ip}, zone api",
        "reloading configuration generation {int} from {path}"),
    "checkout": (
        "order {uuid} of user {user} paid {amount} EUR by card in {ms} ms",
        "order {uuid} rejected: card of user {user} declined with code {int}",
        "cart {hex} has {int} items worth {amount} EUR",
        "retrying payment {hex} attempt {int} of 5 after {ms} ms backoff",
        "inventory reservation {uuid} expired for sku {sku}"),
    "sshd": (
        "Failed password for invalid user {user} from {ip} port {port} ssh2",
        "Accepted publickey for {user} from {ip} port {port} ssh2: RSA SHA256:{hex}",
        "pam_unix(sshd:session): session opened for user {user} by (uid={int})",
        "Received disconnect from {ip}: 11: Bye Bye [preauth]",
        "Connection closed by {ip} port {port} [preauth]"),
    "datanode": (
        "Receiving block blk_{int} src: /{ip}:{port} dest: /{ip}:{port}",
        "PacketResponder {int} for block blk_{int} terminating",
        "Verification succeeded for blk_{int} in volume {path}",
        "Served block blk_{int} to /{ip} in {ms} ms",
        "Deleting block blk_{int} file {path}"),
    "kubelet": (
        "Pulled image {host}/shop/web:{version} for pod {pod} in {ms}ms",
        "Liveness probe of pod {pod} failed: HTTP probe failed with statuscode: {status}",
        "Started container {hex} of pod {pod}",
        "Volume {uuid} attached to node {host} at {path}",
        "Evicting pod {pod}: node was low on resource memory, usage {int}Ki"),
    "executor": (
        "Finished task {int}.0 in stage {int}.0 (TID {int}) in {ms} ms on {host} ({int}/{int})",
        "Block broadcast_{int} stored as values in memory (estimated size {amount} KB, free {amount} MB)",
        "Getting {int} non-empty blocks out of {int} blocks in {ms} ms",
        "Lost executor {int} on {host}: remote RPC client disassociated",
        "Told master about block rdd_{int}_{int} of application_{int}_{int}"),
    "postgres": (
        "duration: {ms}.{int} ms  statement: SELECT balance FROM accounts WHERE id = {int}",
        "process {int} still waiting for ShareLock on transaction {int} after {ms} ms",
        "checkpoint complete: wrote {int} buffers ({amount}%); write={amount} s, sync={amount} s",
        "connection authorized: user={user} database=shop application_name=worker-{hex}",
        "could not receive data from client {host}: Connection reset by peer"),
    "kernel": (
        "usb {int}-{int}: new high-speed USB device number {int} using xhci_hcd",
        "Out of memory: Killed process {int} ({user}) total-vm:{int}kB, anon-rss:{int}kB",
        "device veth{hex} entered promiscuous mode",
        "EXT4-fs (dm-{int}): mounted filesystem {uuid} with ordered data mode",
        "TCP: request_sock_TCP: Possible SYN flooding on port {port}. Sending cookies."),
}
LEVELS = ("INFO", "INFO", "INFO", "INFO", "DEBUG", "WARN", "ERROR")
_CONSTANTS = frozenset({"true", "false", "null", "none", "root", "bytes", "fatal", "http", "https", "socks", "internal"})
_START_SECONDS = 1_790_000_000
_SYLLABLES = ("ka", "ro", "mi", "tel", "an", "vor", "su", "lin", "ed", "bra", "ost", "wy", "ner", "ul", "gan", "pha")


def _name(dice: random.Random, syllables: int) -> str:
    return "".join(dice.choices(_SYLLABLES, k=syllables))


def _slots(dice: random.Random, *, letters: bool) -> dict[str, list[str]]:
    """Pools of a few hundred fresh values for each kind of identifier."""
    def number(below: int) -> str:
        return str(dice.randrange(below))

    def hexadecimal(n: int) -> str:
        return f"{dice.getrandbits(4 * n):0{n}x}" if letters else "a" + "".join(dice.choices("0123456789", k=n - 1))

    def name(kind: str) -> str:
        return _name(dice, 3) if letters else f"{kind}{number(10**4)}"

    makers: dict[str, Callable[[], str]] = {
        "int": lambda: number(10**dice.randrange(1, 7)), "ms": lambda: number(5000), "port": lambda: number(65536),
        "status": lambda: dice.choice(("200", "404", "503")), "amount": lambda: f"{dice.randrange(10**5) / 100:.2f}",
        "version": lambda: f"v{number(9)}.{number(30)}.{number(9)}", "sku": lambda: f"SKU-{number(10**6)}",
        "ip": lambda: ".".join(number(256) for _ in range(4)), "hex": lambda: hexadecimal(12),
        "uuid": lambda: "-".join(hexadecimal(n) for n in (8, 4, 4, 4, 12)), "user": lambda: name("user"),
        "host": lambda: f"{name('node')}-{number(99)}.{name('zone')}.internal",
        "path": lambda: f"/var/{name('lib')}/{name('d')}/{hexadecimal(8)}",
        "pod": lambda: f"web-{hexadecimal(10)}-{hexadecimal(5)}"}
    return {slot: [make() for _ in range(400)] for slot, make in makers.items()}


def lines(count: int, *, letters: bool = True, seed: int = 0, start: int = 0, data: Path | None = None,
          whole: bool = False) -> Iterator[tuple[float, str, str, str]]:
    """(seconds, service, level, message) of `count` lines from number `start` on; 20,000 lines a second of event time."""
    dice = random.Random(f"{seed} {start} {letters}")
    if data is not None:
        yield from _real_lines(count, dice, start, _real_events(data, whole=whole), letters=letters)
        return
    events = [(service, text.replace("{", "\0").replace("}", "\0").split("\0"))
              for service, texts in EVENTS.items() for text in texts]
    slots: dict[str, list[str]] = {}
    for n in range(start, start + count):
        if n % 2000 == 0 or not slots:
            slots = _slots(dice, letters=letters)
        service, parts = dice.choice(events)
        message = "".join([slots[part][int(dice.random() * 400)] if odd % 2 else part for odd, part in enumerate(parts)])
        yield _START_SECONDS + n / 20_000, service, LEVELS[int(dice.random() * 7)], message


@functools.cache
def _real_events(data: Path, *, whole: bool) -> list[tuple[str, list[str]]]:
    """(system, text parts, constant and variable ones in turn) of every line whose template fits it."""
    import pandas as pd

    found = []
    for file in sorted(data.glob("*/*_structured_corrected.csv")):
        table = pd.read_csv(file, keep_default_na=False, dtype=str)
        for content, template in zip(table["Content"], table["EventTemplate"], strict=True):
            constants = template.split("<*>")
            fits = re.fullmatch("(.*?)".join(map(re.escape, constants)), content, re.DOTALL)
            if fits is not None:
                parts = [constants[0]]
                for value, constant in zip(fits.groups(), constants[1:], strict=True):
                    for changes, piece in ([(True, value)] if whole and _is_identifier(value) else _pieces(value)):
                        parts += [piece, ""] if changes else []
                        parts[-1] += "" if changes else piece
                    parts[-1] += constant
                found.append((file.parent.name, parts))
    if not found:
        raise SystemExit(f"{data}: no <System>/<System>_2k.log_structured_corrected.csv")
    return found


def _real_lines(count: int, dice: random.Random, start: int, events: list[tuple[str, list[str]]], *,
                letters: bool) -> Iterator[tuple[float, str, str, str]]:
    tables: list[dict[int, int]] = []
    for n in range(start, start + count):
        if n % 1000 == 0 or not tables:
            tables = [_substitution(dice, letters=letters) for _ in range(200)]
        system, parts = dice.choice(events)
        message = "".join([part.translate(tables[int(dice.random() * 200)]) if odd % 2 else part
                           for odd, part in enumerate(parts)])
        yield _START_SECONDS + n / 20_000, system, LEVELS[int(dice.random() * 7)], message


def _is_identifier(value: str) -> bool:
    return any(c.isdigit() or c in "/._-@" for c in value)


def _pieces(value: str) -> Iterator[tuple[bool, str]]:
    """What of a value may change (True) and what stays. All digits change, and letters wherever they stand with digits
    or make a word of four or more: names of users, hosts, files, tasks. What says what kind of thing it is stays: the
    ending of a host or file, units and other short words, months, constants like true and null."""
    for word in re.split(r"(\s+)", value):
        pieces = re.split(r"([./@:_\-]+)", word)
        for at, piece in enumerate(pieces):
            is_ending = at == len(pieces) - 1 and at > 1 and pieces[at - 1] == "." and len(piece) <= 4
            is_name = len(piece) > 3 and piece.isalnum() and not is_ending and piece.lower() not in _CONSTANTS
            yield is_name or any(c.isdigit() for c in piece), piece


def _substitution(dice: random.Random, *, letters: bool) -> dict[int, int]:
    """Digits for digits; letters for letters, those of hexadecimal numbers among themselves."""
    def shuffled(characters: str) -> dict[int, int]:
        return {ord(c): ord(dice.choice(characters)) for c in characters}

    table = shuffled("0123456789")
    if letters:
        table |= shuffled("abcdef") | shuffled("ABCDEF") | shuffled("ghijklmnopqrstuvwyz") | shuffled("GHIJKLMNOPQRSTUVWYZ")
    return table


def json_lines(count: int, *, letters: bool = True, seed: int = 0, start: int = 0, data: Path | None = None,
               whole: bool = False) -> Iterator[bytes]:
    """The same as an application writes them."""
    for seconds, service, level, message in lines(count, letters=letters, seed=seed, start=start, data=data, whole=whole):
        stamp = datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        yield json.dumps({"timestamp": stamp, "level": level, "service": service, "message": message}).encode()


_CLASSES = ("0123456789", "abcdef", "ABCDEF", "ghijklmnopqrstuvwyz", "GHIJKLMNOPQRSTUVWYZ")

_STAMP = b"2000-00-00T00:00:00"


def endless_blocks(lines_per_block: int, *, seed: int = 0, data: Path | None = None) -> Iterator[bytes]:
    """Blocks of JSON lines without end, at a cost of some nanoseconds a line: 100,000 lines over and over, each time
    with other identifiers. Their characters stand as bytes beyond ASCII, which every round maps anew."""
    dice = random.Random(f"{seed} endless")
    letters = "".join(_CLASSES)
    hide = {ord(c): 0x80 + i for i, c in enumerate(letters)}
    rows = [line for _, line in zip(range(100_000), _hidden_lines(hide, seed, data), strict=False)]
    blocks = [b"\n".join(rows[i:i + lines_per_block]) for i in range(0, len(rows), lines_per_block)]
    seconds = float(_START_SECONDS)
    while True:
        shown = b"".join(dice.choice(of).encode() for of in _CLASSES for _ in of)
        table = bytes(range(0x80)) + shown + bytes(range(0x80 + len(shown), 0x100))
        for block in blocks:
            seconds += lines_per_block / 20_000
            yield block.translate(table).replace(_STAMP, datetime.fromtimestamp(seconds, UTC).isoformat()[:19].encode())


def _hidden_lines(hide: dict[int, int], seed: int, data: Path | None) -> Iterator[bytes]:
    dice = random.Random(f"{seed} hidden")
    if data is not None:
        events = _real_events(data, whole=False)
    else:
        slots = _slots(dice, letters=True)
        events = [(service, [slots[part][0] if odd % 2 else part for odd, part in enumerate(re.split(r"[{}]", text))])
                  for service, texts in EVENTS.items() for text in texts]
    while True:
        service, parts = dice.choice(events)
        message = "".join([part.translate(hide) if odd % 2 else part for odd, part in enumerate(parts)])
        stamp = f"{_STAMP.decode()}.{dice.randrange(1000):03d}Z"
        yield json.dumps({"timestamp": stamp, "level": dice.choice(LEVELS), "service": service, "message": message},
                         ensure_ascii=False).encode("latin-1")
