"""`longbox sample`: a SYNTHETIC marketplace feed of any size, with the faults of real feeds in known numbers.

`market` invents sales, `files` writes the marketplaces' formats, `feed` lays out landing days and plants the faults.
The same seed gives the same bytes. Nothing of it is real data, but for the names of comics.
"""

from assets.comics.sample.feed import generate

__all__ = ["generate"]
