"""Adoption: tables that were there before Longbox, described without a change, and partitioned online when asked for.

`survey` reads a schema, `advice` judges what it read, `document` writes the system.yaml. `repartition` carries a
plain table over to a partitioned one while it is written to; `twin`, `keeping` and `switch` are its steps. Tables
that Longbox makes itself belong to the catalogue and to migrations.
"""
