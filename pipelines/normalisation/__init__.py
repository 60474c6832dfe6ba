"""From a landed record to a comparable one: what a system's rules make of each current version.

`fx` loads the reference rates, `currency` converts with them, `engine` runs a system's rules over a landing day,
`locks` keep those who write the same table apart.
A system's own rules (what a title or a condition means) live in its folder under `assets`, not here.
"""
