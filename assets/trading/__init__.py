"""The trading system: trades and candles land day by day, bars of four lengths and the gaps of candles come of them.

It is YAML and SQL alone: `system.yaml` says what its tables are for, `migrations/` makes them, `sample/` invents files.
"""
