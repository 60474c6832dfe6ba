"""Sealed objects: any flipped bit or cut is found, with and without a key; the right key opens, a wrong one says so."""

import datetime as dt
import hashlib
from pathlib import Path

import pytest

from pipelines.backup.errors import DamagedError
from pipelines.backup.sealed import DIGEST_BYTES, Opener, SealedObject, Sealer, recovery_lock
from resources.errors import UserError
from resources.keys import RecoveryKeys, ServerKeys, WrongKeyError, make_keys, rotate_keys

NOW = dt.datetime(2026, 11, 21, tzinfo=dt.UTC)
NAME = "data/x/part-000001.sealed"


def keys_in(folder: Path) -> tuple[ServerKeys, RecoveryKeys]:
    return ServerKeys.load(folder / "server.json"), RecoveryKeys.load(folder / "recovery.json")


def opened(data: bytes, recovery: RecoveryKeys, name: str = NAME) -> bytes:
    sealed = SealedObject(name, data)
    return b"".join(sealed.plain(Opener(recovery).key_of(sealed.header)))


@pytest.fixture
def keys(tmp_path: Path) -> tuple[ServerKeys, RecoveryKeys]:
    make_keys(tmp_path / "server.json", tmp_path / "recovery.json", NOW)
    return keys_in(tmp_path)


def test_every_flipped_bit_and_every_cut_is_found_with_and_without_the_key(keys):
    server, recovery = keys
    whole = Sealer(recovery_lock(server), NAME).seal(b"a page of the cluster " * 50)
    assert opened(whole, recovery) == b"a page of the cluster " * 50
    for place in range(len(whole)):
        flipped = bytearray(whole)
        flipped[place] ^= 1 << place % 8
        for data in (bytes(flipped), whole[:place]):
            with pytest.raises(DamagedError, match=NAME):
                SealedObject(NAME, data)


def test_the_store_holds_no_plaintext_and_the_server_no_key_that_opens_it(keys):
    server, _ = keys
    word = b"4111111111111111"  # once, so that it would stand in the compressed frame as it is
    whole = Sealer(recovery_lock(server), NAME).seal(word)
    assert word not in whole
    with pytest.raises(WrongKeyError, match="recovery keys are not at hand"):
        Opener(server=server).key_of(SealedObject(NAME, whole).header)
    with pytest.raises(WrongKeyError):
        server.unwrap_state(SealedObject(NAME, whole).header.wrapped, "forged")


def test_an_object_under_another_name_is_refused(keys):
    server, recovery = keys
    whole = Sealer(recovery_lock(server), NAME).seal(b"x")
    with pytest.raises(DamagedError, match="stored under another name"):
        opened(whole, recovery, "data/x/part-000002.sealed")


def test_a_rotated_file_opens_old_and_new_and_the_old_file_names_the_key_it_lacks(keys, tmp_path: Path):
    server, old = keys
    before = Sealer(recovery_lock(server), NAME).seal(b"before")
    made = rotate_keys(tmp_path / "server.json", tmp_path / "recovery.json", NOW)
    server, rotated = keys_in(tmp_path)
    after = Sealer(recovery_lock(server), NAME).seal(b"after")
    assert (opened(before, rotated), opened(after, rotated)) == (b"before", b"after")
    with pytest.raises(WrongKeyError, match=made.key_id):
        opened(after, old)


def test_keys_are_never_overwritten_and_are_readable_by_their_owner_alone(keys, tmp_path: Path):
    with pytest.raises(UserError, match="not overwritten"):
        make_keys(tmp_path / "server.json", tmp_path / "other.json", NOW)
    assert {(tmp_path / name).stat().st_mode & 0o777 for name in ("server.json", "recovery.json")} == {0o600}


def test_a_key_is_due_after_ninety_days(keys):
    assert not keys[0].is_due(NOW + dt.timedelta(days=89)) and keys[0].is_due(NOW + dt.timedelta(days=90))


def test_what_somebody_changed_and_gave_a_fresh_checksum_is_refused_by_the_key(keys):
    server, recovery = keys
    whole = Sealer(recovery_lock(server), NAME).seal(b"a page of the cluster " * 50)
    body = whole[:-DIGEST_BYTES]
    for place in range(body.index(b"}") + 1, len(body)):
        changed = bytearray(body)
        changed[place] ^= 1 << place % 8
        forged = changed + hashlib.blake2b(changed, digest_size=DIGEST_BYTES).digest()
        with pytest.raises((DamagedError, WrongKeyError)):
            opened(bytes(forged), recovery)
