"""What both Kafka clients say when they can't go on; each names what to look at."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from ingest.errors import TransportError
from ingest.transports.config import TransportConfig

_ANYTHING = "bootstrap_servers and security"
# What a client tells -> where to look; and whether trying again is in vain.
_CAUSES = tuple((re.compile(pattern, re.IGNORECASE), look, is_fatal) for pattern, look, is_fatal in (
    (r"certificate.verify|unknown.ca|self.signed", "security: ca (the authority that signed the brokers' certificates)",
     True),
    (r"alert.*certificate|bad_certificate|certificate.required|handshake_failure",
     "security: cert and key (the brokers ask for a client certificate that they know)", True),
    (r"pem lib|ssl\.key|bad decrypt|key values mismatch|private key", "security: key, and key_password_env if it is encrypted",
     True),
    (r"sasl.?authentication|authentication failed|invalid credentials",
     "security: username, password_env or password_file, and mechanism", True),
    (r"sasl.?mechanism|mechanism handshake|illegal.?sasl", "security: protocol and mechanism", True),
    (r"fenced", "group_id: another member has our id; does a copy of [service] data_dir run elsewhere?", True),
    (r"topic.?authorization|topic.*not authorized", "security: username; it needs READ and DESCRIBE on the topics", True),
    (r"group.?authorization|group.*not authorized", "security: username and group_id; it needs READ on the group", True),
    (r"ssl|invalid frame|invalid.?receive", "bootstrap_servers and security: protocol", False),
))


def cause(texts: Iterable[str]) -> tuple[str, str, bool]:
    """Of all that a client told, the line that says most; what to look at; and whether trying again is in vain."""
    told = [text for text in texts if text]
    for pattern, look, is_fatal in _CAUSES:
        for text in told:
            if pattern.search(text):
                return text, look, is_fatal
    return (told[-1] if told else ""), _ANYTHING, False


def refused(config: TransportConfig, why: str, *others: str) -> TransportError:
    """The cluster can't be reached, or does not let us in. `others` are further lines that the client told."""
    said, look, _ = cause([*others, why])
    # A client repeats where and how long after: of no use to those who read it.
    said = re.sub(r"\s*\(after \d+ms.*$|\s*\(_ssl\.c:\d+\)|, \d+ identical error.*$", "", said or why)
    return TransportError(f"Kafka at {config.bootstrap_servers} ({config.protocol}): {said}. Check [ingest.kafka] "
                          f"{look}.", is_transient=False)


def require_settings(config: TransportConfig) -> None:
    """Raises TransportError (reason "configuration") if no broker is named, or for a key that a client would ask a
    person to unlock."""
    if not config.bootstrap_servers.strip():
        raise TransportError("[ingest.kafka] bootstrap_servers is not set: name a broker as host:port",
                             reason="configuration", is_transient=False)
    for name, value in (("ca", config.ca), ("cert", config.cert), ("key", config.key)):
        if value and not Path(value).is_file():
            raise TransportError(f"[ingest.kafka] security: {name} = {value}: no such file", reason="configuration",
                                 is_transient=False)
    if config.key and not config.key_password and "ENCRYPTED" in Path(config.key).read_text(errors="replace"):
        raise TransportError(f"[ingest.kafka] security: key = {config.key} is encrypted: set key_password_env",
                             reason="configuration", is_transient=False)


def too_large(topic: str, value: bytes) -> TransportError:
    """A record that no retry will bring in."""
    return TransportError(f"Kafka: a record of {len(value)} bytes for topic '{topic}' is larger than Kafka takes "
                          "(1 MB unless max.message.bytes says otherwise)", reason="too_large", is_transient=False)


def not_allowed(config: TransportConfig, topic: str, why: str) -> TransportError:
    """A record for a topic that this user may not write to."""
    return TransportError(f"Kafka at {config.bootstrap_servers}: topic '{topic}': {why}. Check [ingest.kafka] security: "
                          f"username ('{config.username}'); it needs WRITE on the topic.", is_transient=False)
