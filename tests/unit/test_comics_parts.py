"""Parts of the comics cover every id once."""

import itertools
import uuid

from assets.comics.parts import all_parts, one_part
from pipelines.normalisation.locks import PARTS


def test_the_parts_hold_every_id_once_and_the_one_part_is_all_of_them():
    parts = all_parts()
    assert len(parts) == PARTS > 1
    assert parts[0].first.int == 0
    assert parts[-1].last.int == (1 << 128) - 1
    assert all(after.first.int == before.last.int + 1 for before, after in itertools.pairwise(parts))
    whole = one_part()
    assert (whole.first, whole.last) == (parts[0].first, parts[-1].last)


def test_ids_in_order_as_text_are_in_order_as_numbers():
    # PostgreSQL compares uuids by their bytes, a part is bounded by numbers
    ids = [uuid.UUID(int=number << 96) for number in (0, 1, 9, 10, 255, 1 << 31)]
    assert sorted(ids) == sorted(ids, key=str) == sorted(ids, key=lambda each: each.bytes)
