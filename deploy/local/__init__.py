"""The local stack: real PostgreSQL, Valkey and Dagster processes on one machine, on loopback, without Docker.

`stack.Stack` starts and stops it in phases, `supervisor` keeps watch over it, `report` tells how it is; each server
has its own module. Everything it keeps is in LONGBOX_HOME. Only `cli` and the tests import this package.
"""
