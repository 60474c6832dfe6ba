"""Aggregates that YAML declares: kept equal to all current rows of their table, whatever lands late or is corrected.

`statements` turns an `Aggregate` of the catalogue into SQL, `job` recomputes the groups that landing days touched,
`taken_in` remembers what of them is in it; `gaps` keeps the list of what a series lacks, `views` refreshes materialised
views after their tables. Statistics with rules of their own (windows, outliers) are a system's Python and SQL, not
another measure here.
"""

from pipelines.aggregation.gaps import Gap, GapsJob, find_gaps
from pipelines.aggregation.job import AggregateJob, AggregateResult, aggregate_days
from pipelines.aggregation.views import ViewRefresh, refresh_view

__all__ = [
    "AggregateJob", "AggregateResult", "Gap", "GapsJob", "ViewRefresh", "aggregate_days", "find_gaps", "refresh_view",
]  # fmt: skip
