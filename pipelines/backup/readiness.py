"""How ready for recovery this platform is: what can be restored, to when, how fast, and when that was last proved."""

import datetime as dt
from collections.abc import Iterable
from dataclasses import dataclass

from pipelines.backup.drill import DrillResult, drill_results
from pipelines.backup.engine import BackupSource
from pipelines.backup.model import Window
from pipelines.backup.protection import Protection
from pipelines.backup.reach import CopyReach

RPO = dt.timedelta(minutes=15)
RTO = dt.timedelta(minutes=5)
LONGEST_WITHOUT_FULL = dt.timedelta(hours=30)  # a daily one that failed once and was not repeated
LONGEST_WITHOUT_PROOF = dt.timedelta(hours=48)  # two days' drills


@dataclass(frozen=True)
class Readiness:
    """The state of one repository at a moment."""

    now: dt.datetime
    window: Window | None
    backups: int
    stored_bytes: int
    last_full: dt.datetime | None
    last_proof: DrillResult | None
    last_drill: DrillResult | None
    protections: tuple[Protection, ...] = ()
    limits: tuple[str, ...] = ()
    copies: tuple[CopyReach, ...] = ()

    def problems(self) -> dict[str, str]:
        """What is overdue, by cause; empty when all is well."""
        found = {}
        if self.window is None:
            return {"none": "there is no backup: nothing can be restored"}
        if self.now - self.window.until > RPO:
            found["rpo"] = (
                f"the newest restorable moment is {_ago(self.now - self.window.until)} old, the goal is {_ago(RPO)}: "
                "see whether the WAL receiver runs and whether backups fail"
            )
        for copy in self.copies:
            age = copy.age_seconds(self.now)
            if age is None or age > RPO.total_seconds():
                reason = f"leads to {_ago(dt.timedelta(seconds=age))} ago" if age is not None else copy.fault
                found[f"copy:{copy.store}"] = (
                    f"the copy in {copy.store} {reason}, the goal is {_ago(RPO)}: see what the WAL receiver says of it"
                )
        if self.last_full is None or self.now - self.last_full > LONGEST_WITHOUT_FULL:
            old = f"is {_ago(self.now - self.last_full)} old" if self.last_full else "does not exist"
            found["full"] = f"the last full backup {old}; run the job backup_full"
        proven = self.last_proof.began_at if self.last_proof else None
        if proven is None or self.now - proven > LONGEST_WITHOUT_PROOF:
            old = f"was {_ago(self.now - proven)} ago" if proven else "never happened"
            found["drill"] = f"the last drill that succeeded {old}; run the job restore_drill"
        return found

    def as_markdown(self) -> str:
        """A page for people."""
        if self.window is None:
            return "**Nothing can be restored: there is no backup.**"
        size = f"{self.stored_bytes / 1e6:,.1f} MB"
        how = "any moment" if self.window.is_from_wal else "the end of each backup"
        lines = [
            "| Question | Answer |",
            "|---|---|",
            f"| What can be restored | {how}, from {self.backups} backup(s), {size} stored |",
            f"| From when | {self.window.first:%Y-%m-%d %H:%M:%S} UTC |",
            f"| To when | {self.window.until:%Y-%m-%d %H:%M:%S} UTC, {_ago(self.now - self.window.until)} ago |",
        ]
        for copy in self.copies:
            until = (
                f"{copy.until:%Y-%m-%d %H:%M:%S} UTC, {_ago(self.now - copy.until)} ago"
                if copy.until
                else copy.fault
            )
            lines.append(f"| To when, from the copy {copy.store} alone | {until} |")
        if self.last_proof is None:
            lines.append("| Proved when | **never** |")
        else:
            proof = self.last_proof
            lines += [
                f"| How fast | {proof.rto_seconds:.1f} s at the last drill (goal: {_ago(RTO)}) |",
                f"| Proved when | {proof.began_at:%Y-%m-%d %H:%M:%S} UTC, by restoring "
                f"{proof.moment:%Y-%m-%d %H:%M:%S} UTC, {proof.compared} comparisons |",
            ]
        lines += [f"| Safe from deletion | {one.store}: {one.text} |" for one in self.protections]
        if self.last_drill is not None and not self.last_drill.is_proven:
            lines.append(f"| **The last drill failed** | {'; '.join(self.last_drill.faults)} |")
        lines += [f"| Not proved | {limit} |" for limit in self.limits]
        lines += [f"| **Overdue** | {problem} |" for problem in self.problems().values()]
        return "\n".join(lines)


def readiness(source: BackupSource, now: dt.datetime, protections: Iterable[Protection] = ()) -> Readiness:
    """Look at the backups; writes nothing."""
    records = source.catalogue().sound
    drills = drill_results(source.repository)
    return Readiness(
        now,
        source.window(),
        len(records),
        sum(record.stored_bytes for record in records),
        max((record.ended_at for record in records if record.kind == "full"), default=None),
        next((one for one in reversed(drills) if one.is_proven), None),
        drills[-1] if drills else None,
        tuple(protections),
        source.limits,
        source.copies(),
    )


def _ago(span: dt.timedelta) -> str:
    seconds = max(0.0, span.total_seconds())
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
