"""The campaigns system: social campaigns, their posts, and what the platforms count for each post hour by hour.

It is YAML and SQL alone: `system.yaml` says what its tables are for, `migrations/` makes them, `sample/` invents files.
"""
