"""How far a landing day is, told by the clock and not by the file."""

import datetime as dt

from pipelines.ingestion.progress import DayProgress

DAY = dt.date(2026, 11, 20)


def test_thousands_of_files_are_told_by_the_clock() -> None:
    now, told = [0.0], list[str]()
    progress = DayProgress(DAY, told.append, lambda: now[0])
    for _ in range(100):
        now[0] += 0.25
        progress.file_done(2)
    assert told == [
        "2026-11-20: files done: 40 (80 rows)",
        "2026-11-20: files done: 80 (160 rows)",
    ]


def test_one_large_file_is_told_while_it_is_read() -> None:
    now, told = [0.0], list[str]()
    progress = DayProgress(DAY, told.append, lambda: now[0])
    progress.file_done(7)
    for rows in (20_000, 40_000):
        now[0] += 10.0
        progress.in_file("big.csv", rows)
    assert told == [
        "2026-11-20: files done: 1 (7 rows); big.csv: 20,000 rows so far",
        "2026-11-20: files done: 1 (7 rows); big.csv: 40,000 rows so far",
    ]
