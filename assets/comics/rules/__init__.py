"""What the texts of a comics marketplace mean: pure functions from a text to facts, no I/O, nothing raised.

`condition` reads a grade, `title` a series, issue and variant (with `lots` and `variants`), `keys` make the identities.
Change a rule here and raise `RULE_VERSION`: rows normalised under an older one can then be found and done again.
"""

RULE_VERSION = 1
