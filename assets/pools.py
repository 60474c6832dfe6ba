"""Concurrency pools: heavy steps of one pool never run at the same time, whatever runs they belong to.

The limit of each is `concurrency.pools.default_limit` in dagster.yaml (1); raise one with
`dagster instance concurrency set POOL N`. A step holds its pool only while it works and never waits for a second one,
so that no two runs can wait for each other. https://docs.dagster.io/guides/operate/managing-concurrency
"""

INGEST = "ingest"
"""Loading landed files: bound by PostgreSQL's writing."""

DERIVE = "derive"
"""Normalising and aggregating: two at once of a table would only wait for each other's locks."""

UPKEEP = "upkeep"
"""Maintenance, retention, archive, backup: what reads or rewrites whole tables."""
