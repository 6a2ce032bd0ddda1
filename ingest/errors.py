"""The error base of every stage.

It lives here because `ingest` is the one package that all others but `llm` may import.
"""


class OpsmendError(Exception):
    """Something went wrong that has a name.

    `reason` is a bounded word (used as a metric label, so never free text);
    `is_transient` says whether trying again can help.
    """

    reason: str = "internal"
    is_transient: bool = False

    def __init__(self, message: str, *, reason: str | None = None, is_transient: bool | None = None) -> None:
        super().__init__(message)
        if reason is not None:
            self.reason = reason
        if is_transient is not None:
            self.is_transient = is_transient


class DecodeError(OpsmendError):
    """The bytes of a record are not what their format promises. The record goes to the dead letters."""

    reason = "undecodable"


class TransportError(OpsmendError):
    """The transport can't be reached or refuses us."""

    reason = "transport"
    is_transient = True


class Backpressure(OpsmendError):
    """Full: try again after `retry_after_seconds`."""

    reason = "backpressure"
    is_transient = True

    def __init__(self, message: str, *, retry_after_seconds: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds
