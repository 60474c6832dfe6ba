"""Made-up sales of comic books as a marketplace exports them: the same seed and number give the same bytes."""

import csv
import datetime as dt
import random
from pathlib import Path

HEADER = (
    "marketplace", "listing_id", "title", "condition", "price", "currency", "sold_at", "updated_at", "seller", "url",
    "format", "quantity",
)  # fmt: skip
LANDING_DAY = dt.date(2026, 10, 31)
TITLES = (
    "Amazing Spider-Man",
    "Uncanny X-Men",
    "Detective Comics",
    "Batman",
    "The Walking Dead",
    "Saga",
    "Spawn",
)
_GRADES = ("CGC 9.8", "CGC 9.6", "NM", "VF/NM", "FN", "raw", "")
_MONEY = ("USD", "USD", "USD", "GBP", "EUR", "JPY")


def write_sales(
    path: Path, rows: int, *, days: int = 28, seed: int = 1, bad: float = 0, repeated: float = 0,
    until: dt.date = LANDING_DAY,
) -> None:  # fmt: skip
    """Write `rows` sales of the last `days` days before `until` as CSV.

    `bad` of them cannot be loaded, `repeated` of them are an earlier sale once more.
    """
    chance = random.Random(seed)
    first = dt.datetime.combine(until - dt.timedelta(days=days), dt.time())
    earlier: list[tuple[str, ...]] = []
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(HEADER)
        for number in range(rows):
            if earlier and chance.random() < repeated:
                writer.writerow(chance.choice(earlier))
                continue
            row = _sale(chance, seed * 100_000_000 + number, first, days)
            if chance.random() < bad:
                row = _spoilt(chance, row)
            elif repeated and len(earlier) < 10_000:
                earlier.append(row)
            writer.writerow(row)


def write_large(path: Path, rows: int, *, days: int = 28) -> None:
    """Write `rows` sales quickly: blocks of the same sales, in each under other numbers."""
    size = min(rows, 100_000)
    write_sales(path, size, days=days)
    header, _, block = path.read_bytes().partition(b"\n")
    first = _seed_digits(1).encode()
    with path.open("wb") as file:
        file.write(header + b"\n")
        for seed in range(1, -(-rows // size) + 1):
            part = block if seed * size <= rows else b"".join(block.splitlines(keepends=True)[: rows % size])
            digits = _seed_digits(seed).encode()
            file.write(
                part.replace(b"ebay," + first, b"ebay," + digits).replace(b"/itm/" + first, b"/itm/" + digits)
            )


def _seed_digits(seed: int) -> str:
    """How the numbers of a seed's sales begin."""
    return f"{seed * 100_000_000:012d}"[:4]


def _sale(chance: random.Random, number: int, first: dt.datetime, days: int) -> tuple[str, ...]:
    sold = first + dt.timedelta(seconds=chance.randrange(days * 86_400))
    updated = sold + dt.timedelta(seconds=chance.randrange(86_400))
    grade = chance.choice(_GRADES)
    title = f"{chance.choice(TITLES)} #{chance.randrange(1, 700)} {grade}".strip()
    return (
        "ebay", f"{number:012d}", title, grade, f"{chance.randrange(100, 500_000) / 100:.2f}", chance.choice(_MONEY),
        sold.isoformat() + "Z", updated.isoformat() + "Z", f"seller{chance.randrange(20_000)}",
        f"https://marketplace.example/itm/{number:012d}", chance.choice(("auction", "fixed price")), "1",
    )  # fmt: skip


def _spoilt(chance: random.Random, row: tuple[str, ...]) -> tuple[str, ...]:
    place, value = chance.choice(
        ((4, "n/a"), (4, "-1.00"), (6, "yesterday"), (2, ""), (6, "2199-01-01T00:00:00Z"))
    )
    return (*row[:place], value, *row[place + 1 :])
