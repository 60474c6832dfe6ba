"""What exists: Dagster assets and their checks, thin, one folder a system; what they do is in `pipelines`.

`lifecycle` turns a system.yaml into assets, `partitions` holds the landing days, `jobs` what runs together. A system
with rules of its own adds an `assets.py` with `definitions(system, calendar)` to its folder.
"""
