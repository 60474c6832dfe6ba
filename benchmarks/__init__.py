"""Benchmarks: `make bench`. Thin scripts over one small harness; nothing here is a test, and no test asserts a time.

`harness` gives a durable server of the run's own, fresh databases, timings and the table that is printed; `ingestion`
measures loading beside a bare COPY; `peers` loads the same rows with other libraries. Figures are compared only within
one run: a machine's speed varies more between runs than most changes do.
"""
