"""The filter of a load's own keys: never a no for one that was added, seldom a yes for another."""

import hashlib

import numpy as np
import pytest

from pipelines.ingestion.key_filter import KeyFilter


def hashes(numbers):
    return np.frombuffer(
        b"".join(hashlib.blake2b(str(number).encode(), digest_size=16).digest() for number in numbers), "V16"
    )


@pytest.mark.parametrize("content_bytes", [0, 300_000, 1 << 40])
def test_what_was_added_is_always_found(content_bytes):
    own_keys = KeyFilter(content_bytes)
    for first in range(0, 20_000, 4_000):
        added = hashes(range(first, first + 4_000))
        own_keys.add(added)
        assert own_keys.may_hold(hashes(range(first + 4_000))).all()


def test_few_others_are_taken_for_known_in_a_file_of_ordinary_rows():
    own_keys = KeyFilter(20_000 * 100)  # rows of 100 bytes
    assert not own_keys.may_hold(hashes(range(20_000))).any(), "nothing was added yet"
    own_keys.add(hashes(range(20_000)))
    assert own_keys.may_hold(hashes(range(20_000, 40_000))).mean() < 0.02


def test_no_rows_are_no_trouble():
    own_keys = KeyFilter(1 << 20)
    own_keys.add(hashes([]))
    assert own_keys.may_hold(hashes([])).shape == (0,)
