"""A part of the stack that ends is started anew, but not faster than it can be told."""

from typing import cast

from deploy.local.member import Member
from deploy.local.processes import Child


def test_what_ends_again_and_again_is_started_anew_every_few_seconds() -> None:
    now, starts = [0.0], list[float]()

    def start() -> Child:
        starts.append(now[0])
        return cast(Child, f"child {len(starts)}")

    member = Member("cache", cast(Child, "child 0"), (), False, start, clock=lambda: now[0])
    for now[0] in range(20):  # it ends at once, whenever it is started
        if member.is_due():
            member.start_again()
    assert starts == [5, 10, 15]
    assert cast(str, member.child) == "child 3"


def test_what_nothing_works_without_is_never_started_anew() -> None:
    now = [0.0]
    member = Member("database", cast(Child, "child"), (), False, None, clock=lambda: now[0])
    now[0] += 3600
    assert not member.is_due()
