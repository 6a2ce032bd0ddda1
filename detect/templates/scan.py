"""Many lines to template numbers: lex, hash, look up. Stops at the first line that nobody knows yet.

The table is open addressing with linear probing: `keys` [2^k] (0: free), `numbers` and `places` [2^k]. A line's key is the sum
of its tokens' shares plus its group's seed, values counting all alike. `masks` [MAX_TOKENS + 1, MAX_MASKS] tells by
the number of tokens which positions have turned into values somewhere: with their shares exchanged for a value's, a
line with a name that never occurred finds its template here as well. `places` is the mask that a key belongs to
(0: to lines as they are), so that masks of other groups find nothing.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from detect.templates.lexer import lex, wild_share
from ingest.compiled import compiled
from ingest.types import Bytes

MAX_MASKS: Final = 64
MASKABLE: Final = 64
"""Positions from here on never turn into values: a mask is one 64-bit number."""


@compiled("int64(uint64[::1], uint64)")
def slot_of(keys: NDArray[np.uint64], key: np.uint64) -> int:
    """Where a key is, or where it would go."""
    mask = len(keys) - 1
    slot = int(key >> np.uint64(20)) & mask
    while keys[slot] != key and keys[slot] != 0:
        slot = (slot + 1) & mask
    return slot


@compiled()
def masked_key(key: np.uint64, shares: NDArray[np.uint64], tokens: NDArray[np.int32], mask: np.uint64) -> np.uint64:
    """The key with these positions as values."""
    position = 0
    while mask:
        if mask & np.uint64(1):
            key = key - shares[position] + wild_share(position, tokens[position, 2] & 2 != 0)
        mask >>= np.uint64(1)
        position += 1
    return key


def _fingerprint() -> int:
    """Of the sources that are compiled into `scan`: numba's cache looks at this file alone."""
    folder = Path(__file__).parent
    return zlib.crc32(b"".join((folder / f"{name}.py").read_bytes() for name in ("classes", "atoms", "lexer")))


def _compile(fingerprint: int) -> Callable[..., int]:
    @compiled("int64(uint8[::1], int64[::1], int32[::1], uint64[::1], int64, uint64[::1], int32[::1], "
              "uint64[::1], uint64[:,::1], int64[::1], int32[:,::1], uint64[::1], uint64[::1], int32[::1])")
    def scan(buffer: Bytes, offsets: NDArray[np.int64], groups: NDArray[np.int32], seeds: NDArray[np.uint64], line: int,
             keys: NDArray[np.uint64], numbers: NDArray[np.int32], places: NDArray[np.uint64],
             masks: NDArray[np.uint64], mask_counts: NDArray[np.int64],
             tokens: NDArray[np.int32], shares: NDArray[np.uint64], found: NDArray[np.uint64],
             out: NDArray[np.int32]) -> int:
        """Fill `out` from `line` on; the first line that is not known, or the number of lines.

        `found` [2]: that line's key and its number of tokens; its tokens are in `tokens` and `shares`.
        """
        count = len(out) + 0 * fingerprint  # a free variable is part of the cache's key
        while line < count:
            n = lex(buffer, offsets[line], offsets[line + 1], tokens, shares)
            key = seeds[groups[line]]
            for i in range(n):
                key += shares[i]
            slot = slot_of(keys, key)
            if keys[slot] == 0:
                for m in range(mask_counts[n]):
                    other = slot_of(keys, masked_key(key, shares, tokens, masks[n, m]))
                    if keys[other] != 0 and places[other] == masks[n, m]:
                        slot = other
                        break
                if keys[slot] == 0:
                    found[0], found[1] = key, np.uint64(n)
                    return line
            out[line] = numbers[slot]
            line += 1
        return count

    return scan


scan = _compile(_fingerprint())
