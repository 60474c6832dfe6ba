"""Blocks of incremental files go where pg_combinebackup would put them; a header that lies is refused."""

import os
import struct
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.backup.errors import DamagedError
from pipelines.backup.incremental import PREFIX, apply_changes

BLOCK = 64
NAME = "base/5/1000"
Changes = tuple[dict[int, bytes], int]  # blocks, truncation length


def block(number: int) -> bytes:
    """A block that no other number has."""
    return struct.pack("=Q", number) * (BLOCK // 8)


def incremental(changes: Changes) -> bytes:
    """The file as the server writes it."""
    blocks, truncation = changes
    header = struct.pack(f"=III{len(blocks)}I", 0xD3AE1F0D, len(blocks), truncation, *sorted(blocks))
    if blocks:
        header += bytes(-len(header) % BLOCK)
    return header + b"".join(blocks[number] for number in sorted(blocks))


def chain(folder: Path, full: bytes, later: list[Changes]) -> list[Path]:
    """Folders of a full backup and of incrementals."""
    folders = [folder / f"{number:03d}" for number in range(len(later) + 1)]
    for number, one in enumerate(folders):
        (one / "base/5").mkdir(parents=True)
        (one / "global").mkdir()
        if number == 0:
            (one / NAME).write_bytes(full)
        else:
            place = one / NAME
            place.with_name(PREFIX + place.name).write_bytes(incremental(later[number - 1]))
    return folders


def by_the_rules(full: bytes, later: list[Changes]) -> bytes:
    """What pg_combinebackup's manual and source say of each block, one after the other."""
    newest, truncation = later[-1]
    length = max(truncation, max(newest, default=-1) + 1)
    found = []
    for number in range(length):
        sources = [newest, *(one for one, _ in reversed(later[:-1]) if number < truncation)]
        whole = full[number * BLOCK : (number + 1) * BLOCK] if number < truncation else b""
        old = whole if len(whole) == BLOCK else bytes(BLOCK)
        found.append(next((one[number] for one in sources if number in one), old))
    return b"".join(found)


numbers = st.integers(0, 12)
one_incremental = st.tuples(
    st.dictionaries(numbers, st.integers(1000, 9999).map(block), max_size=12), st.integers(0, 14)
)


@settings(max_examples=300, deadline=None)
@given(full=st.integers(0, 12), later=st.lists(one_incremental, min_size=1, max_size=4))
def test_each_block_is_of_the_newest_backup_that_has_it(
    full: int, later: list[Changes], tmp_path_factory: pytest.TempPathFactory
):
    content = b"".join(block(number) for number in range(1, full + 1))
    folders = chain(tmp_path_factory.mktemp("chain"), content, later)
    wanted = by_the_rules(content, later)
    if apply_changes(folders, BLOCK):
        assert (folders[-1] / NAME).read_bytes() == wanted
        assert not list(folders[-1].rglob(f"{PREFIX}*"))
    else:  # to be linked by pg_combinebackup, as it is
        assert (folders[0] / NAME).read_bytes() == wanted


def test_a_file_begins_anew_where_a_later_backup_has_it_whole(tmp_path: Path):
    folders = chain(tmp_path, block(1) * 3, [({0: block(2)}, 3), ({1: block(3)}, 3)])
    (folders[1] / f"base/5/{PREFIX}1000").unlink()
    (folders[1] / NAME).write_bytes(block(4) * 3)
    assert apply_changes(folders, BLOCK) == 1
    assert (folders[-1] / NAME).read_bytes() == block(4) + block(3) + block(4)
    assert (folders[0] / NAME).read_bytes() == block(1) * 3


@pytest.mark.parametrize("damage", ["magic", "short", "long", "count", "number", "empty"])
def test_a_header_that_does_not_fit_its_file_is_refused_by_name(tmp_path: Path, damage: str):
    folders = chain(tmp_path, block(1) * 3, [({0: block(2), 1: block(3)}, 3)])
    path = folders[-1] / f"base/5/{PREFIX}1000"
    data = path.read_bytes()
    path.write_bytes(
        {
            "magic": b"\1" + data[1:],
            "short": data[:-1],
            "long": data + b"\0",
            "count": data[:4] + struct.pack("=I", 0xFFFFFFFF) + data[8:],
            "number": data[:12] + struct.pack("=I", 0xFFFFFFF0) + data[16:],
            "empty": b"",
        }[damage]
    )
    with pytest.raises(DamagedError, match=f"{PREFIX}1000"):
        apply_changes(folders, BLOCK)
    assert (folders[0] / NAME).read_bytes() == block(1) * 3


def test_an_incremental_file_without_a_whole_one_before_it_is_refused(tmp_path: Path):
    folders = chain(tmp_path, block(1), [({0: block(2)}, 1), ({0: block(3)}, 1)])
    (folders[1] / f"base/5/{PREFIX}1000").unlink()
    (folders[0] / NAME).unlink()
    with pytest.raises(DamagedError, match="no whole file to build on"):
        apply_changes(folders, BLOCK)


def test_a_block_that_did_not_reach_the_file_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folders = chain(tmp_path, block(1) * 3, [({1: block(2)}, 3)])
    write = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda handle, data, place: write(handle, bytes(len(data)), place))
    with pytest.raises(DamagedError, match="was not written as it is"):
        apply_changes(folders, BLOCK)
