"""A part of the stack that ends again and again is started ever more rarely, one that lived long at once."""

from typing import cast

from deploy.local.member import Member
from deploy.local.processes import Child


def test_what_cannot_run_is_started_ever_more_rarely_and_what_ran_long_at_once() -> None:
    now, starts = [0.0], list[float]()

    def start() -> Child:
        starts.append(now[0])
        return cast(Child, f"child {len(starts)}")

    member = Member("cache", cast(Child, "child 0"), (), False, start, clock=lambda: now[0])
    for now[0] in range(200):  # it ends at once, whenever it is started
        if member.is_due():
            member.start_again()
    assert starts == [5, 15, 35, 75, 135, 195]
    assert cast(str, member.child) == "child 6"
    now[0] += 3600  # and now it lived for an hour
    assert member.is_due()
    member.start_again()
    now[0] += 5
    assert member.is_due()


def test_what_nothing_works_without_is_never_started_anew() -> None:
    now = [0.0]
    member = Member("database", cast(Child, "child"), (), False, None, clock=lambda: now[0])
    now[0] += 3600
    assert not member.is_due()
