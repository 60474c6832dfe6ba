"""Expiry never removes what a policy keeps, what something kept builds on, or what the WAL window needs."""

import datetime as dt

from hypothesis import given
from hypothesis import strategies as st

from pipelines.backup.expiry import Policy, plan_expiry
from pipelines.backup.model import BackupRecord
from pipelines.backup.wal import SEGMENT_BYTES, Inventory, segment_name

NOW = dt.datetime(2026, 11, 21, tzinfo=dt.UTC)


def record(number: int, age_hours: int, parent: str | None) -> BackupRecord:
    at = NOW - dt.timedelta(hours=age_hours)
    lsn = (10_000 - age_hours) * SEGMENT_BYTES
    kind = "full" if parent is None else "incremental"
    return BackupRecord(
        f"b{number:03d}", kind, "postgres", "1", 180006, 1, lsn, lsn + 1, at, at, parent, (), None, "k", "",
        SEGMENT_BYTES, "u",
    )  # fmt: skip


@st.composite
def histories(draw: st.DrawFn) -> list[BackupRecord]:
    ages = sorted(
        draw(st.lists(st.integers(0, 24 * 500), min_size=1, max_size=25, unique=True)), reverse=True
    )
    found: list[BackupRecord] = []
    for number, age in enumerate(ages):
        is_full = not found or draw(st.booleans())
        found.append(record(number, age, None if is_full else found[-1].backup_id))
    return found


policies = st.builds(Policy, *[st.integers(0, 40) for _ in range(3)], *[st.integers(0, 8) for _ in range(4)])


@given(histories(), policies)
def test_what_is_kept_can_be_restored_and_dependents_go_first(records: list[BackupRecord], policy: Policy):
    hours = range(10_000 - records[0].start_lsn // SEGMENT_BYTES + 3, -1, -1)
    names = {(1, segment_name(1, 10_000 - hour, SEGMENT_BYTES)): f"wal-{hour}" for hour in hours}
    plan = plan_expiry(records, Inventory(SEGMENT_BYTES, names), policy, NOW)
    known = {one.backup_id: one for one in records}

    assert set(plan.kept) | set(plan.expired) == set(known) and not set(plan.kept) & set(plan.expired)
    assert all(known[name].parent_id in (None, *plan.kept) for name in plan.kept)
    assert records[-1].backup_id in plan.kept
    fulls = [one.backup_id for one in records if one.kind == "full"]
    assert set(fulls[-max(1, policy.minimum_fulls) :]) <= set(plan.kept)
    for place, name in enumerate(plan.expired):
        assert not any(known[later].parent_id == name for later in plan.expired[place + 1 :])
    start = NOW - dt.timedelta(days=policy.wal_days)
    before = [one for one in records if one.ended_at <= start] or records[:1]
    assert before[-1].backup_id in plan.kept
    needed = {f"wal-{10_000 - number}" for number in range(before[-1].start_lsn // SEGMENT_BYTES, 10_001)}
    assert not needed & set(plan.wal)


def inventory_of(records: list[BackupRecord]) -> Inventory:
    """Whole segments from a little before the oldest backup to the newest moment."""
    first = min(one.start_lsn for one in records) // SEGMENT_BYTES - 3
    names = {(1, segment_name(1, number, SEGMENT_BYTES)): f"wal-{number}" for number in range(first, 10_001)}
    return Inventory(SEGMENT_BYTES, names)


@given(histories(), policies, st.sets(st.integers(0, 24)))
def test_a_damaged_backup_never_takes_the_place_of_a_sound_one(
    records: list[BackupRecord], policy: Policy, damaged: set[int]
):
    bad = {one.backup_id for number, one in enumerate(records) if number in damaged}
    parents = {one.backup_id: one.parent_id for one in records}
    usable, inventory = [], inventory_of(records)
    for one in records:
        chain, at = set(), one.backup_id
        while at is not None:
            chain.add(at)
            at = parents[at]
        usable += [one] if not chain & bad else []
    plan = plan_expiry(records, inventory, policy, NOW, bad)

    without = plan_expiry(records, inventory, policy, NOW)
    assert set(without.kept) <= set(plan.kept) and set(plan.wal) <= set(without.wal)
    alone = plan_expiry(usable, inventory, policy, NOW)
    assert set(alone.kept) <= set(plan.kept) and (not usable or set(plan.wal) <= set(alone.wal))
    fulls = [one.backup_id for one in usable if one.kind == "full"]
    assert set(fulls[-max(1, policy.minimum_fulls) :]) <= set(plan.kept)


def test_what_lost_its_base_is_no_base_of_the_window_either():
    sound, orphan, young = record(1, 24 * 20, None), record(2, 24 * 15, "gone"), record(3, 24, None)
    records = [sound, orphan, young]
    plan = plan_expiry(records, inventory_of(records), Policy(0, 0, 14, 0, 0, 0, 1), NOW)
    assert sound.backup_id in plan.kept
    assert plan.kept_from == sound.start_lsn
    assert f"wal-{sound.start_lsn // SEGMENT_BYTES}" not in plan.wal


def test_while_a_record_cannot_be_read_no_wal_goes_that_only_its_backup_may_start_from():
    young, old = record(3, 24 * 10, None), record(1, 24 * 20, None)
    policy = Policy(wal_days=14)
    inventory = inventory_of([old, young])
    alone = plan_expiry([young], inventory, policy, NOW)
    assert alone.wal and alone.kept_from == young.start_lsn
    unread = plan_expiry([young], inventory, policy, NOW, is_partly_read=True)
    assert (unread.wal, unread.kept_from) == ((), None)
    both = plan_expiry([old, young], inventory, policy, NOW, is_partly_read=True)
    assert both.kept_from == old.start_lsn


def test_the_policy_that_is_used_keeps_what_is_promised():
    policy = Policy()
    assert policy.full_days >= 30 and policy.incremental_days >= 7 and policy.wal_days >= 14
    assert min(policy.daily, policy.weekly, policy.monthly) > 0 and policy.minimum_fulls >= 2
