"""Values that their producers compressed: gzip, zlib, zstd and framed snappy, recognised by their first bytes.

Not Kafka's own compression of batches, which the client undoes. Two layers are taken off (a sender compresses what a
program had compressed before), no more; what comes out of each is never larger than the limit, whatever its header
claims, so that a bomb costs the limit and no more.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Final

import cramjam
import zstandard

from ingest.errors import DecodeError

_GZIP: Final = b"\x1f\x8b"
_ZSTD: Final = b"\x28\xb5\x2f\xfd"
_SNAPPY: Final = b"\xff\x06\x00\x00sNaPpY"
_ZLIB_LEVELS: Final = (0x01, 0x5E, 0x9C, 0xDA)
_LAYERS: Final = 2
_ZSTD_WINDOW: Final = 1 << 27  # zstd's own default for what is not long-range mode
_ZSTD_STEP: Final = 1024
"""Bytes of a frame of unknown size fed at once: none of them can grow beyond 32 MB."""


def expand(value: bytes, limit: int) -> bytes:
    """`value` without its compression; as it is if it has none.

    Raises DecodeError: "bad_compression" where the bytes are broken or end early, "too_large" beyond `limit` bytes.
    """
    for _ in range(_LAYERS):
        unpack = _unpacker(value)
        if unpack is None:
            break
        value = unpack(value, limit)
    if len(value) > limit:
        raise too_large(limit)
    return value


def too_large(limit: int) -> DecodeError:
    """The refusal of what is larger than it may be."""
    return DecodeError(f"value larger than {limit} bytes", reason="too_large")


def _unpacker(value: bytes) -> Callable[[bytes, int], bytes] | None:
    first = value[:1]
    if first == b"\x1f":
        return _gunzip if value[:2] == _GZIP else None
    if first == b"(":
        return _unzstd if value[:4] == _ZSTD else None
    if first == b"\xff":
        return _unsnappy if value[:10] == _SNAPPY else None
    if first == b"x" and len(value) > 2 and value[1] in _ZLIB_LEVELS:
        return _inflate
    return None


def _gunzip(value: bytes, limit: int) -> bytes:
    """The bytes of all members, at most `limit` + 1 of them."""
    parts, size = [], 0
    while value and size <= limit:
        unpack = zlib.decompressobj(wbits=31)
        try:
            part = unpack.decompress(value, limit + 1 - size)
        except zlib.error as error:
            raise DecodeError(f"broken gzip: {error}", reason="bad_compression") from error
        size += len(part)
        parts.append(part)
        if not unpack.eof and size <= limit:
            raise DecodeError("gzip ends early", reason="bad_compression")
        value = unpack.unused_data
        if not value.strip(b"\x00"):  # some writers pad to a block
            break
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _inflate(value: bytes, limit: int) -> bytes:
    """Two bytes are a weak mark: text may begin with "x^", and a snappy block of 120 bytes with 78 9c."""
    unpack = zlib.decompressobj()
    try:
        whole = unpack.decompress(value, limit + 1)
        if len(whole) > limit or (unpack.eof and not unpack.unused_data):
            return whole
        problem = "it ends early" if not unpack.eof else "bytes after its end"
    except zlib.error as error:
        problem = str(error)
    if _is_text(value) or _is_snappy_block(value):
        return value
    raise DecodeError(f"broken zlib: {problem}", reason="bad_compression")


def _is_text(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True


def _is_snappy_block(value: bytes) -> bool:
    return value[0] == 120 and unsnap_block(value, 120) is not None


def _unzstd(value: bytes, limit: int) -> bytes:
    """All frames, skippable ones left out."""
    parts, size = [], 0
    unpacker = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW)
    try:
        while value:
            if value[1:4] == b"\x2a\x4d\x18" and value[0] & 0xF0 == 0x50 and len(value) >= 8:
                value = value[8 + int.from_bytes(value[4:8], "little"):]
                continue
            declared = zstandard.get_frame_parameters(value).content_size
            is_sized = declared not in (zstandard.CONTENTSIZE_UNKNOWN, zstandard.CONTENTSIZE_ERROR)
            if is_sized and size + declared > limit:
                raise too_large(limit)
            frame = unpacker.decompressobj()
            step = len(value) if is_sized else _ZSTD_STEP  # zstd itself never writes more than it declared
            at = 0
            while not frame.eof:
                if at >= len(value):
                    raise DecodeError("zstd ends early", reason="bad_compression")
                part = frame.decompress(value[at:at + step])
                at += step
                size += len(part)
                if size > limit:
                    raise too_large(limit)
                parts.append(part)
            value = frame.unused_data + value[at:]
    except zstandard.ZstdError as error:
        raise DecodeError(f"broken zstd: {error}", reason="bad_compression") from error
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _unsnappy(value: bytes, limit: int) -> bytes:
    """Framed snappy: the sum of what its chunks declare is checked first."""
    at, size = 0, 0
    while at + 4 <= len(value):
        kind, length = value[at], int.from_bytes(value[at + 1:at + 4], "little")
        if kind == 0x00:
            size += _varint(value[at + 8:at + 13])[0]
        elif kind == 0x01:
            size += max(0, length - 4)
        at += 4 + length
    if size > limit:
        raise too_large(limit)
    if at != len(value):
        raise DecodeError("snappy ends early", reason="bad_compression")
    try:
        return bytes(cramjam.snappy.decompress(value, output_len=size))
    except cramjam.DecompressionError as error:
        raise DecodeError(f"broken snappy: {error}", reason="bad_compression") from error


def unsnap_block(value: bytes, limit: int) -> bytes | None:
    """The bytes of an unframed snappy block, as remote-write sends it; None if it is none.

    Raises DecodeError "too_large" where the block is one by its looks and declares more than `limit` bytes.
    """
    size, at = _varint(value)
    if not 0 < at < len(value) or value[at] & 3 != 0:  # the first element is a literal: there is nothing yet to copy
        return None
    if size > 24 * len(value):  # a copy of 64 bytes costs three: no true block declares as much
        return None
    if size > limit:
        raise too_large(limit)
    try:
        return bytes(cramjam.snappy.decompress_raw(value))
    except cramjam.DecompressionError:
        return None


def _varint(value: bytes) -> tuple[int, int]:
    """(number, bytes it takes) of a length of at most 32 bits; (0, 0) if it is none."""
    number = 0
    for at, byte in enumerate(value[:5]):
        number |= (byte & 127) << (7 * at)
        if byte < 128:
            return (number, at + 1) if number < 2**32 else (0, 0)
    return 0, 0
