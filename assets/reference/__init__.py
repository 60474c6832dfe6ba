"""The system `reference`: figures that other systems look up. Its tables are in system.yaml and migrations/."""
