"""Values kept in Redis: how keys are named, what a payload looks like, how entries are warmed and read.

The cache is never the truth (promise 6): everything here can be computed from PostgreSQL again. Which values are worth
keeping is a system's matter (`assets/<system>/warm.py`); tiers, invalidation and rate limits will live here too.
"""

from pipelines.caching.entries import CachedEntry, decode, encode, warm

__all__ = ["CachedEntry", "decode", "encode", "warm"]
