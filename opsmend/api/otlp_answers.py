"""What an OTLP/HTTP sender hears: an empty Export*ServiceResponse, or a google.rpc.Status, in its own encoding."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from starlette.responses import JSONResponse, Response

PROTOBUF: Final = "application/x-protobuf"
TYPES: Final = {PROTOBUF: PROTOBUF, "application/protobuf": PROTOBUF, "application/json": "application/json"}
"""Content types that are taken -> the one of the answer."""
_CODES: Final = {400: 3, 401: 16, 403: 7, 404: 5, 408: 4, 413: 3, 415: 3, 501: 12, 503: 14}
"""HTTP status -> google.rpc.Code; others are 13, INTERNAL."""


def success(content_type: str) -> Response:
    """All of it was taken: `partial_success` is unset. In protobuf an empty message is zero bytes."""
    return Response(b"", media_type=PROTOBUF) if content_type == PROTOBUF else JSONResponse({})


def failure(content_type: str, status: int, detail: str, headers: Mapping[str, str]) -> Response:
    """A google.rpc.Status {1: code, 2: message}."""
    code = _CODES.get(status, 13)
    if content_type != PROTOBUF:
        return JSONResponse({"code": code, "message": detail}, status, dict(headers))
    text = detail.encode(errors="replace")[:2000]
    body = b"\x08" + _varint(code) + b"\x12" + _varint(len(text)) + text
    return Response(body, status, dict(headers), media_type=PROTOBUF)


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)
