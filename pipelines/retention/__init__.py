"""Retention: what is deleted because a policy says that it may go, in bounded batches, each with its ledger entry.

Today: the history of Dagster's own database, and notes of the platform that have served. Every statement repeats the
predicate that makes its rows deletable; a dry run tells what would go.
"""
