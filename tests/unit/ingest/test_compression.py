"""Every compression gives the bytes back, and no value costs more than the limit."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable

import cramjam
import pytest
import zstandard
from hypothesis import example, given
from hypothesis import strategies as st

from ingest.compression import expand, unsnap_block
from ingest.errors import DecodeError

LIMIT = 1_000_000


def _zstd(data: bytes, *, is_sized: bool = True) -> bytes:
    return zstandard.ZstdCompressor(write_content_size=is_sized).compress(data)


WAYS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress, "zlib": zlib.compress, "zlib-fast": lambda d: zlib.compress(d, 1),
    "zlib-best": lambda d: zlib.compress(d, 9), "zstd": _zstd, "zstd-unsized": lambda d: _zstd(d, is_sized=False),
    "snappy-framed": lambda d: bytes(cramjam.snappy.compress(d))}
SEVERAL = ("gzip", "zstd", "zstd-unsized", "snappy-framed")
TEXT = b"a line like any other, 0123456789\n" * 300


@pytest.mark.parametrize("way", WAYS)
@given(data=st.binary(max_size=2000))
@example(data=TEXT)
def test_what_went_in_comes_out(way: str, data: bytes) -> None:
    data = b"." + data  # not a magic number by chance
    assert expand(WAYS[way](data), LIMIT) == data


@pytest.mark.parametrize("way", SEVERAL)
def test_members_one_after_the_other_are_one_value(way: str) -> None:
    assert expand(WAYS[way](TEXT) + WAYS[way](b"and more"), LIMIT) == TEXT + b"and more"


def test_two_layers_and_no_more() -> None:
    twice = gzip.compress(_zstd(TEXT))
    assert expand(twice, LIMIT) == TEXT
    assert expand(gzip.compress(twice), LIMIT) == _zstd(TEXT)


def test_padding_and_skippable_frames_are_left_out() -> None:
    assert expand(gzip.compress(TEXT) + bytes(512), LIMIT) == TEXT
    assert expand(_zstd(TEXT) + b"\x5a\x2a\x4d\x18\x03\x00\x00\x00abc" + _zstd(b"x"), LIMIT) == TEXT + b"x"


@pytest.mark.parametrize("way", WAYS)
def test_a_bomb_is_refused_by_its_size(way: str) -> None:
    with pytest.raises(DecodeError) as refused:
        expand(WAYS[way](bytes(60 * LIMIT)), LIMIT)
    assert refused.value.reason == "too_large"


@pytest.mark.parametrize("way", WAYS)
def test_a_value_cut_off_anywhere_is_broken(way: str) -> None:
    whole = WAYS[way](TEXT)
    for end in range(11, len(whole)):
        with pytest.raises(DecodeError) as refused:
            expand(whole[:end], LIMIT)
        assert refused.value.reason == "bad_compression", end


@pytest.mark.parametrize("way", WAYS)
@given(at=st.integers(11, 2**16), byte=st.integers(0, 255))
def test_a_flipped_byte_is_broken_or_harmless(way: str, at: int, byte: int) -> None:
    whole = bytearray(WAYS[way](TEXT))
    whole[at % len(whole)] = byte
    try:
        assert len(expand(bytes(whole), LIMIT)) <= LIMIT
    except DecodeError as error:
        assert error.reason in ("bad_compression", "too_large")


@pytest.mark.parametrize("value", [b"x^2 + y^2", b"x\x01", b"(a plain line)", b"\xff", b"", b"{}", b"x\xda\xad text"])
def test_what_only_looks_like_it_is_left_as_it_is(value: bytes) -> None:
    assert expand(value, LIMIT) == value


def test_a_snappy_block_of_120_bytes_is_no_zlib() -> None:
    data = bytes(range(1, 41)) + bytes(range(41, 121))
    block = b"\x78\x9c" + data[:40] + b"\xf0\x4f" + data[40:]  # two literals, as an encoder may cut them
    assert unsnap_block(block, LIMIT) == data
    assert expand(block, LIMIT) == block


@given(data=st.binary(min_size=1, max_size=2000))
def test_snappy_blocks(data: bytes) -> None:
    block = bytes(cramjam.snappy.compress_raw(data))
    assert unsnap_block(block, LIMIT) == data
    assert unsnap_block(block[:-1], LIMIT) is None


def test_a_snappy_block_that_declares_too_much_is_refused_before_it_is_unpacked() -> None:
    block = bytes(cramjam.snappy.compress_raw(bytes(60 * LIMIT)))
    with pytest.raises(DecodeError) as refused:
        unsnap_block(block, LIMIT)
    assert refused.value.reason == "too_large"
    assert unsnap_block(b"\xff\xff\xff\xff\x0f\xf0\x01ab", 2**40) is None  # 4 GiB out of nine bytes


@given(value=st.binary(max_size=200))
def test_random_bytes(value: bytes) -> None:
    for head in (b"", b"\x1f\x8b", b"\x78\x9c", b"\x28\xb5\x2f\xfd", b"\xff\x06\x00\x00sNaPpY"):
        try:
            assert len(expand(head + value, LIMIT)) <= LIMIT
        except DecodeError as error:
            assert error.reason in ("bad_compression", "too_large")
    unsnap_block(value, LIMIT) if value[:3] != b"\xff\xff\xff" else None
