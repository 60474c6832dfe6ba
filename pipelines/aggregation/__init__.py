"""Aggregates that YAML declares: kept equal to all current rows of their table, whatever lands late or is corrected.

`statements` turns an `Aggregate` of the catalogue into SQL, `job` recomputes the groups that landing days touched.
Statistics with rules of their own (windows, outliers) are a system's Python and SQL, not another measure here.
"""

from pipelines.aggregation.job import AggregateJob, AggregateResult, aggregate_days

__all__ = ["AggregateJob", "AggregateResult", "aggregate_days"]
