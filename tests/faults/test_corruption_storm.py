"""Random damage to every kind of object in a repository: found by name, and no restore is ever a wrong database.

A bit is flipped, an object cut off, deleted, or replaced by an older one; then everything is read back, and a restore
is decided. For most damages the decision is taken to where a server would be started: the plan is made, and every part
and every segment that it needs is opened and compared. For a sample the whole restore runs and its tables are compared.
`make drills` damages 1,000 times; `--flips` and `--seed` set it.
"""

import collections
import dataclasses
import datetime as dt
import random
import shutil
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines.backup import copies, layout
from pipelines.backup.drill import Drill
from pipelines.backup.errors import WalMissingError
from pipelines.backup.ledger import Ledger
from pipelines.backup.model import RestoreRequest, format_lsn, parse_lsn
from pipelines.backup.planning import plan
from pipelines.backup.repository import Repository
from pipelines.backup.stream import read_parts
from pipelines.backup.truth import named_objects, record_truth
from pipelines.backup.verify import verify_repository
from pipelines.backup.wal import Inventory, WalArchive, segment_name
from pipelines.migration import migrate
from resources.database import Database
from resources.errors import LongboxError
from resources.keys import RecoveryKeys, ServerKeys
from resources.object_store import ObjectStore
from tests.backup_cluster import Backups, Cluster, fast_folder, new_backups, ship_wal
from tests.conftest import with_database
from tests.faults.storm_progress import tell_tenths

NAME = "longbox_damaged"
BEGINNING = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
ACTS = ("flip", "truncate", "delete", "swap")
KEY_FILES = ("server.json", "recovery.json")
WHOLE_RESTORES = 4  # at least; one in 25 of a long storm
MORE_TRIES = (
    20  # until one of them is restored: what is drawn depends on the sizes of objects, not on the seed alone
)


@dataclasses.dataclass(frozen=True)
class Known:
    """A moment, where WAL stood then, and what the tables held."""

    moment: dt.datetime
    lsn: int
    truth: str


@dataclasses.dataclass(frozen=True)
class Range:
    """What is shot at: a repository with its copy, every object as it was written, and what is true."""

    backups: Backups
    copy: ObjectStore
    keys: Path
    named: dict[str, str]
    known: tuple[Known, ...]
    ends: dict[str, Known]  # of each backup
    pristine: dict[str, bytes]
    older: dict[str, bytes]  # former versions of what is written more than once

    @property
    def repository(self) -> Repository:
        return self.backups.repository

    def names(self, kind: str) -> list[str]:
        """Objects of a kind, as the first words of their names say it."""
        return sorted(name for name in self.pristine if kind_of(name) == kind)

    def set_right(self) -> None:
        """Put every object back as it was; verifications are written by each reading back."""
        there = {info.path: info.size_bytes for info in self.repository.names()}
        for name in there.keys() - self.pristine.keys():
            self.repository.delete(name)
        for name, data in self.pristine.items():
            path = self.backups.path_of(name)
            if not path.exists() or path.read_bytes() != data:
                self.repository.put(name, data)


def kind_of(name: str) -> str:
    """Of what kind an object is."""
    if name.endswith(".partial.sealed"):
        return "partial segment"
    if name.endswith("manifest.sealed"):
        return "manifest"
    return name if name in (layout.COVERED, layout.KEPT) else name.partition("/")[0]


@pytest.fixture(scope="module")
def shooting_range(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Range]:
    """Two chains of backups, whole segments, an open one, witnesses, a drill and a copy; all of it sound."""
    folder, store = tmp_path_factory.mktemp("storm"), fast_folder("longbox-storm-")
    cluster.run(f"CREATE DATABASE {NAME}")
    url = with_database(cluster.url, NAME)
    migrate(url, [])
    for name in ("first", "copy"):
        (store / name).mkdir()
    made = new_backups(cluster, (store / "first").as_uri(), folder)
    copy = ObjectStore.from_url((store / "copy").as_uri())
    try:
        yield build(dataclasses.replace(made, part_bytes=1 << 18), copy, folder, url)
    finally:
        shutil.rmtree(store)
        shutil.rmtree(made.scratch, ignore_errors=True)
        cluster.run(f"DROP DATABASE {NAME} WITH (FORCE)")


def build(backups: Backups, copy: ObjectStore, folder: Path, url: str) -> Range:
    cluster, repository = backups.cluster, backups.repository
    known: list[Known] = []
    ends: dict[str, Known] = {}
    older: dict[str, bytes] = {}

    def write() -> None:
        cluster.write(5)
        known.append(now(cluster))

    with Database(url) as database:
        ledger = Ledger(database, cluster.system, "storm")
        for kind in ("full", "incremental", "full", "incremental"):
            record_truth(database, repository, ledger)
            write()
            ends[backups.engine.back_up(kind).backup_id] = known[-1]  # type: ignore[arg-type]
            write()
            cluster.run("SELECT pg_switch_wal()")
            write()
            ship_wal(backups)
            older.setdefault(layout.COVERED, read(backups, layout.COVERED))
        report = verify_repository(repository, backups.opener, True)
        Drill(database, repository, backups.opener, backups.scratch / "drill", ledger).run(seed=1)
        record_truth(database, repository, ledger)
        with database.session() as connection:
            named = named_objects(connection, ledger.relation, repository.store.url, BEGINNING)
    ship_wal(backups)
    # as the receiver does; a shorter one still is an older version of the open segment
    superseded = WalArchive(repository).inventory().superseded
    [partial] = [one.name for one in WalArchive(repository).inventory().partials.values()]
    older[partial] = read(backups, superseded[-1])
    for name in superseded:
        repository.delete(name)
    assert report.is_sound, report.faults
    copies.copy_repository(Repository(repository.store, repository.system_identifier, [copy]))
    pristine = {info.path: read(backups, info.path) for info in repository.names()}
    return Range(backups, copy, folder, named, tuple(known), ends, pristine, older)


def now(cluster: Cluster) -> Known:
    """What is true at this moment; nobody else writes to the table."""
    return Known(
        cluster.now(),
        parse_lsn(str(cluster.value("SELECT pg_current_wal_flush_lsn()::text"))),
        cluster.truth(),
    )


def read(backups: Backups, name: str) -> bytes:
    return backups.path_of(name).read_bytes()


@dataclasses.dataclass(frozen=True)
class Damage:
    """What was done to one object."""

    name: str
    act: str
    detail: str


def damage(at: Range, random_source: random.Random) -> Damage:
    """Do one thing to one object, of each kind as often as of any other."""
    while True:
        name = random_source.choice(at.names(random_source.choice(sorted({kind_of(n) for n in at.pristine}))))
        act = random_source.choice(ACTS)
        data = bytearray(at.pristine[name])
        if act == "swap":
            others = [other for other in at.names(kind_of(name)) if other < name]
            replacement = at.older.get(name)
            if replacement is None and not others:
                continue
            other = random_source.choice(others) if replacement is None else "its former version"
            at.repository.put(name, replacement or at.pristine[other])
            return Damage(name, act, other)
        if act == "delete":
            if name.startswith(layout.VERIFICATIONS):
                continue  # reading back writes it anew; without it the answer of `covers` is no
            at.repository.delete(name)
            return Damage(name, act, "")
        if act == "flip":
            bit = random_source.randrange(len(data) * 8)
            data[bit // 8] ^= 1 << bit % 8
            at.repository.put(name, data)
            return Damage(name, act, f"bit {bit}")
        size = random_source.randrange(len(data))
        at.repository.put(name, data[:size])
        return Damage(name, act, f"to {size} of {len(data)} bytes")


def wish(at: Range, random_source: random.Random, into: Path) -> tuple[RestoreRequest, Known]:
    """What somebody asks for, and what is true of it."""
    kind = random_source.choice(("latest", "moment", "backup"))
    if kind == "latest":
        return RestoreRequest(into, is_durable=False), at.known[-1]
    if kind == "backup":
        backup_id, known = random_source.choice(sorted(at.ends.items()))
        return RestoreRequest(into, backup_id=backup_id, is_durable=False), known
    first = at.ends[min(at.ends)]
    known = random_source.choice([one for one in at.known if one.moment > first.moment])
    return RestoreRequest(into, to=known.moment, is_durable=False), known


def opened(at: Range, repository: Repository, request: RestoreRequest, needed_lsn: int) -> dict[str, int]:
    """Decide a restore and open all that it needs: checksums of the plaintext by object. Raises what refuses it."""
    opener = at.backups.opener
    decided = plan(repository, request, opener)
    found = {}
    for record in decided.chain:
        for part in record.parts:
            found[part.name] = digest(b"".join(read_parts(repository, [part], opener)))
    if not decided.target.is_immediate:
        size = decided.record.wal_segment_bytes
        after = -(-decided.record.stop_lsn // size) * size
        if needed_lsn > after:
            archive = WalArchive(repository, size)
            for name in wal_objects(decided.inventory, after, needed_lsn):
                found[name] = digest(archive.read(name, opener))
    return found


def wal_objects(inventory: Inventory, from_lsn: int, to_lsn: int) -> list[str]:
    """Objects that hold [from_lsn, to_lsn) of timeline 1. Raises `WalMissingError` if they do not reach so far."""
    end, size = inventory.end_lsn(1, from_lsn), inventory.segment_bytes
    if end < to_lsn:
        raise WalMissingError(f"WAL after {format_lsn(end)} is missing")
    segments = (segment_name(1, number, size) for number in range(from_lsn // size, -(-to_lsn // size)))
    return [name for segment in segments if (name := inventory.object_of(1, segment))]


def digest(data: bytes) -> int:
    return zlib.crc32(data)


@pytest.fixture(scope="module")
def reference(shooting_range: Range) -> dict[str, int]:
    """Checksums of all plaintext, while nothing is damaged."""
    at = shooting_range
    found = {}
    for backup_id in at.ends:
        into = at.backups.scratch / "never"
        found |= opened(at, at.repository, RestoreRequest(into, backup_id=backup_id), 0)
    archive = WalArchive(at.repository)
    for name in [
        name for name in at.pristine if name.startswith(layout.WAL) and name.endswith(layout.SEALED)
    ]:
        found[name] = digest(archive.read(name, at.backups.opener))
    return found


def test_any_damage_is_found_by_name_and_no_restore_is_a_wrong_database(
    shooting_range: Range, reference: dict[str, int], request: pytest.FixtureRequest
):
    at, flips = shooting_range, int(request.config.getoption("--flips"))
    random_source = random.Random(int(request.config.getoption("--seed")))
    both = Repository(at.repository.store, at.repository.system_identifier, [at.copy])
    every = max(1, flips // max(WHOLE_RESTORES, flips // 25))
    tally: collections.Counter[str] = collections.Counter()
    began = time.monotonic()
    for number in range(flips + MORE_TRIES):
        if number >= flips and tally["restored"]:
            break
        done = damage(at, random_source)
        report = verify_repository(at.repository, at.backups.opener, True, named=at.named)
        assert done.name in {fault.name for fault in report.faults}, f"{done} passed unnoticed"
        tally[f"{done.act} {kind_of(done.name)}"] += 1

        into = at.backups.scratch / f"restored-{number}"
        wanted, known = wish(at, random_source, into)
        is_whole = number % every == 0 or number >= flips
        outcome = outcome_of(at, wanted, known, reference, done, is_whole=is_whole)
        tally[outcome] += 1
        # with a sound copy there is nothing to refuse
        if outcome.startswith("refused") or number % 10 == 0:
            tally["met from the copy"] += 1
            assert differences(reference, opened(at, both, wanted, known.lsn)) == [], done
        at.set_right()
        tell_tenths(number + 1, flips, "damages")
    assert verify_repository(at.repository, at.backups.opener, True, named=at.named).is_sound
    assert tally["restored"] > 0 and (flips < 40 or tally["refused"] > 0)
    tell(number, time.monotonic() - began, tally)


def outcome_of(
    at: Range,
    wanted: RestoreRequest,
    known: Known,
    reference: dict[str, int],
    done: Damage,
    *,
    is_whole: bool,
) -> str:
    """How a restore from the damaged store alone ended; fails the test if it could be a wrong database."""
    try:
        if not is_whole:
            assert differences(reference, opened(at, at.repository, wanted, known.lsn)) == [], (done, wanted)
            return "opened"
        asked = {"to": wanted.to, "backup_id": wanted.backup_id}
        assert at.backups.restored_truth(**asked) == known.truth, (done, wanted)
        return "restored"
    except LongboxError as error:
        assert str(error)
        return "refused after a whole try" if is_whole else "refused"


def differences(reference: dict[str, int], found: dict[str, int]) -> list[str]:
    return [name for name, said in found.items() if reference[name] != said]


def tell(flips: int, seconds: float, tally: collections.Counter[str]) -> None:
    print(f"\n{flips} damages in {seconds:.0f} s, every one found by name, 0 wrong databases:")
    for what, count in sorted(tally.items()):
        print(f"  {count:>5}  {what}")


@pytest.mark.parametrize("file", KEY_FILES)
def test_a_damaged_file_of_keys_is_refused_and_never_makes_a_backup_for_nobody(
    shooting_range: Range, tmp_path: Path, file: str, request: pytest.FixtureRequest
):
    """A public key with a flipped bit still encrypts; nobody could ever open what it made."""
    random_source = random.Random(int(request.config.getoption("--seed")))
    sound = (shooting_range.keys / file).read_bytes()
    load = ServerKeys.load if file == "server.json" else RecoveryKeys.load
    path = tmp_path / file
    refused = 0
    for _ in range(int(request.config.getoption("--flips"))):
        data = bytearray(sound)
        bit = random_source.randrange(len(data) * 8)
        data[bit // 8] ^= 1 << bit % 8
        path.write_bytes(
            data if random_source.random() < 0.8 else sound[: random_source.randrange(len(sound) - 2)]
        )
        try:
            load(path)
        except LongboxError as error:
            assert file in str(error)
            refused += 1
        else:
            # white space between two fields holds nothing
            assert path.read_bytes().split() == sound.split() or chr(sound[bit // 8]).isspace()
    assert refused > 0
