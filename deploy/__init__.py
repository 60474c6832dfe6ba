"""Where Longbox runs: one folder a way of deploying it.

`local` is one machine without Docker, `compose` containers, `systemd` services; `prepare` makes the latter two ready,
`reverse-proxy` puts a login in front of the UI. Add a folder for a new way; keep what runs out of here, it lives in
`pipelines`.
"""
