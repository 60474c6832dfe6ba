"""Monitoring: what the platform knows about its own work. Today: the outcome of landing
days, whether they are complete in time, and what was not read.

Reads the platform's tables and the landing zone; it judges nothing about rows, which is the stages' own business.
"""
