"""What the texts of a comics marketplace mean: pure functions from a text to facts, no I/O, nothing raised.

`condition` reads a grade (with `grades`, `hedges`), `title` a series, issue and variant (with `issues`, `lots`,
`variants`), `keys` makes their identities, `text` cleans what sellers write.
Change a rule here and raise `RULE_VERSION`: rows normalised under an older one can then be found and done again.
"""

RULE_VERSION = 1
