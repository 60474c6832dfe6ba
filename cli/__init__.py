"""The `longbox` command: one thin file a command, each with `register(app)`; `main` lists them.

A command parses its arguments, calls one function of a stage or of `deploy.local`, and prints. Work is imported
inside the command, so that `longbox --help` starts at once.
"""
