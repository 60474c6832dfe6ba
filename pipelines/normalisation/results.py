"""What normalising tells: per landing day, per replay, and the failure of a day. Plain facts, no behaviour."""

import datetime as dt
from dataclasses import dataclass, field


@dataclass(frozen=True)
class NormalisedDay:
    """The account of a landing day: raw_rows = normalised + superseded + rejected + deleted rows (promise 2).

    `deleted_rows` are versions of records whose winning version is a tombstone, whichever of them won before.
    `rows_written` and `rows_deleted` are what this very run changed in the target, zero when nothing was new.
    `absent_rows` are touched records whose winning version is no longer in PostgreSQL; what stands of them was kept.
    """

    landing_day: dt.date
    raw_rows: int = 0
    normalised_rows: int = 0
    superseded_rows: int = 0
    rejected_rows: int = 0
    rows_written: int = 0
    rows_deleted: int = 0
    touched_groups: int = 0
    absent_rows: int = 0
    problems: tuple[str, ...] = ()
    deleted_rows: int = 0

    @property
    def outcome(self) -> str:
        """`complete` or `incomplete`."""
        return "incomplete" if self.problems else "complete"

    def counts(self) -> dict[str, int]:
        """The numbers of the day, by name."""
        return {
            "raw_rows": self.raw_rows,
            "normalised_rows": self.normalised_rows,
            "superseded_rows": self.superseded_rows,
            "rejected_rows": self.rejected_rows,
            "deleted_rows": self.deleted_rows,
            "rows_written": self.rows_written,
            "rows_deleted": self.rows_deleted,
            "touched_groups": self.touched_groups,
        }


@dataclass(frozen=True)
class DayFailure:
    """A landing day that could not be worked on, and why."""

    landing_day: dt.date
    error: Exception

    @property
    def outcome(self) -> str:
        """Always `failed`."""
        return "failed"


@dataclass(frozen=True)
class Replay:
    """Records that were normalised again since the facts or the rules behind them changed."""

    landing_day: dt.date
    records: int = 0
    rows_written: int = 0
    rows_deleted: int = 0
    touched_groups: int = 0
    facts: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Reconciliation:
    """The equation of a landing day, counted in the tables themselves. `problems` is empty when it holds."""

    landing_day: dt.date
    raw_rows: int
    normalised_rows: int
    superseded_rows: int
    rejected_rows: int
    deleted_rows: int
    problems: tuple[str, ...]
