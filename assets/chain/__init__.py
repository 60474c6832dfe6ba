"""A blockchain-insight service's operations: YAML, migrations, a synthetic sample; no rule in Python."""
