"""What a system declares: `system.yaml` read into a typed catalogue, and that catalogue held against PostgreSQL.

`model` is the vocabulary, `loader` reads and checks files, `check` compares them with a database, `shape`
reads a table's columns, `ddl` makes tables declared in YAML, `digest` hashes tables for comparison, `schema`
is for editors, `job_names` names the daily jobs. Every stage may import this package; it imports no other stage.
"""
