"""Which keys a load may have entered already: a Bloom filter over the hashes of keys, whole columns at a time.

A no is certain, a yes is one to look up. As the hashes are random bits their own words serve as the filter's hash
functions. Bloom, Space/Time Trade-offs in Hash Coding with Allowable Errors, 1970.
"""

from typing import Any

import numpy as np

_WORDS = 2  # of 64 bits in a hash, each of which is a place in the filter
_LEAST, _MOST = (
    1 << 10,
    16 << 20,
)  # bytes; 10,000,000 keys in the most: one of 50 others is looked up for nothing


class KeyFilter:
    """Takes hashes as `binary.hashes` gives them: arrays of 16 bytes each."""

    def __init__(self, content_bytes: int) -> None:
        """For the keys of a file of `content_bytes`: a bit for every four bits of it, 16 MiB at most."""
        size = min(max(content_bytes // 32, _LEAST), _MOST)
        self._bytes = np.zeros(1 << (size - 1).bit_length(), np.uint8)

    def may_hold(self, hashes: Any) -> Any:
        """Of each hash whether it may have been added: an array of booleans."""
        places, bits = self._places(hashes)
        return ((self._bytes[places] & bits) != 0).all(axis=1)

    def add(self, hashes: Any) -> None:
        """Remember hashes."""
        places, bits = (array.ravel() for array in self._places(hashes))
        while len(
            places
        ):  # of those that share a byte one is written each time; ufunc.at takes four times as long
            self._bytes[places] |= bits
            left = (self._bytes[places] & bits) == 0
            places, bits = places[left], bits[left]

    def _places(self, hashes: Any) -> tuple[Any, Any]:
        """The bytes, and the bit in each, that stand for each hash: arrays of (hashes, words)."""
        words = np.ascontiguousarray(hashes).view("<u8").reshape(-1, _WORDS)
        places = (words >> np.uint64(3)) & np.uint64(len(self._bytes) - 1)
        return places.astype(np.intp), np.left_shift(np.uint8(1), (words & np.uint64(7)).astype(np.uint8))
