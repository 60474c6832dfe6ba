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
