"""A browser's accounts and synced resources: YAML, migrations, a synthetic sample; no rule in Python."""
