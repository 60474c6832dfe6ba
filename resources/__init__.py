"""With what the pipelines work: PostgreSQL, Redis, the object store, settings, the notifier.

Each resource is plain Python that runs without Dagster; `definitions.py` holds their Dagster faces.
Add a module here for a new service; keep business rules out, they belong to a stage in `pipelines`.
"""
