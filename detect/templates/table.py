"""The compiled lookup's arrays: from keys to template numbers, and which places may be values."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import numpy as np

from detect.templates.lexer import MAX_TOKENS
from detect.templates.scan import MAX_MASKS, slot_of

_SMALLEST: Final = 1 << 12


class Table:
    """Open addressing at most half full. Cost: 20 bytes a slot; rebuilt by `refill` when it is too small."""

    def __init__(self) -> None:
        self.masks = np.zeros((MAX_TOKENS + 1, MAX_MASKS), np.uint64)
        self.mask_counts = np.zeros(MAX_TOKENS + 1, np.int64)
        self._known_masks: dict[int, set[int]] = {}
        self.refill([])

    def refill(self, pairs: Iterable[tuple[int, int, int]]) -> None:
        """Hold these (key, number, mask) and no others. Masks stay: one too many costs time and no result."""
        pairs = list(pairs)
        size = _SMALLEST
        while size < 4 * len(pairs):
            size *= 2
        self.keys = np.zeros(size, np.uint64)
        self.numbers = np.zeros(size, np.int32)
        self.places = np.zeros(size, np.uint64)
        self._filled = 0
        for entry in pairs:
            self.put(*entry)

    @property
    def is_full(self) -> bool:
        """Time to `refill`."""
        return 2 * self._filled > len(self.keys)

    def put(self, key: int, number: int, mask: int) -> None:
        """Enter a key, or point it elsewhere."""
        wide = np.uint64(key)
        slot = slot_of(self.keys, wide)
        if self.keys[slot] == 0:
            self.keys[slot] = wide
            self._filled += 1
        self.numbers[slot] = number
        self.places[slot] = mask

    def add_mask(self, tokens: int, mask: int) -> None:
        """Lines of so many tokens may have values at these places. The fewest places first, so that which other
        groups there are decides nothing; beyond MAX_MASKS the line goes the slow way."""
        known = self._known_masks.setdefault(tokens, set())
        if mask in known:
            return
        known.add(mask)
        kept = sorted(known, key=lambda m: (m.bit_count(), m))[:MAX_MASKS]
        self._known_masks[tokens] = set(kept)
        self.masks[tokens, : len(kept)] = np.array(kept, np.uint64)
        self.mask_counts[tokens] = len(kept)
