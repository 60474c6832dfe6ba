"""Where Longbox runs: one folder a way of deploying it.

`local` is one machine without Docker. Add a folder for a new way; keep what runs out of here, it lives in `pipelines`.
"""
