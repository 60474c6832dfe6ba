"""How a row lives: plain Python and SQL, one package a stage, never Dagster.

Read top to bottom: catalog (what a system declares) -> migration -> ingestion -> normalisation ->
aggregation -> caching. Stages do not import each other; what two need lives in `resources` or `catalog`.
"""
