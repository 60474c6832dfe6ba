"""The comics system: marketplace sale prices of comic books, from landed files to cached market prices.

`system.yaml` declares it, `migrations/` makes its tables, `rules/` reads titles and conditions, `normalise`,
`aggregate` and `warm` are its stages, `assets` shows them to Dagster (nothing else here imports it).
"""
