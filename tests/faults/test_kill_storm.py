"""kill -9 at the steps of every stage, while other days of the same feeds are loaded by another process.

Every kill ends alike: the digest after the work is run again equals that of an undisturbed run, every file's account
is closed, and running once more changes nothing. `make faults` runs 200 kills; `--kills` and `--seed` set them.
"""

import gzip
import itertools
import random
import shutil
import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql

from pipelines.catalog.digest import digest_tables
from pipelines.catalog.loader import load_catalog
from tests import forks
from tests.comics_market import FOLDERS, day, file_of, open_market, sale
from tests.conftest import with_database
from tests.faults.kill_worker import KillAt, Place, run
from tests.faults.storm_progress import tell_tenths
from tests.shop import csv_of, open_shop

KILLED_DAYS, OTHER_DAYS = ("2026-10-26", "2026-10-27"), ("2026-10-28", "2026-10-29")
DAYS = (*KILLED_DAYS, *OTHER_DAYS)
WAIT_SECONDS = 180
NO_KILL = KillAt(None)


@dataclass(frozen=True)
class Storm:
    """A database that is ready but empty, files that are about to land, and what undisturbed work makes of them."""

    admin_url: str
    template: str
    landing: Path
    shop: Path
    folder: Path
    redis_url: str
    numbers: Iterator[int]

    def place(self) -> Place:
        """A clone of the database, and a store in which everything has landed."""
        name = f"storm_{next(self.numbers)}"
        with psycopg.connect(self.admin_url, autocommit=True) as connection:
            connection.execute(
                sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY file_copy").format(
                    sql.Identifier(name), sql.Identifier(self.template)
                )
            )
        store = self.folder / name
        shutil.copytree(self.landing, store)
        return Place(with_database(self.admin_url, name), self.redis_url, store.as_uri(), str(self.shop))

    def clear(self, place: Place) -> None:
        """Remove the clone and its store."""
        name = place.database_url.rpartition("/")[2].partition("?")[0]
        with psycopg.connect(self.admin_url, autocommit=True) as connection:
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
        shutil.rmtree(self.folder / name)


@pytest.fixture(scope="module")
def storm(
    stack: Any, postgres_admin_url: str, template_database: str, tmp_path_factory: pytest.TempPathFactory
) -> Storm:
    folder = tmp_path_factory.mktemp("storm")
    name = "storm_template"
    with psycopg.connect(postgres_admin_url, autocommit=True) as connection:
        connection.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY file_copy").format(
                sql.Identifier(name), sql.Identifier(template_database)
            )
        )
    landing = folder / "landed"
    landing.mkdir()
    url = with_database(postgres_admin_url, name)
    shop = open_shop(url, landing.as_uri(), folder)
    market = open_market(url, landing.as_uri())
    market.set_rates(*DAYS, "2026-09-30", "2026-08-31")
    land_sales(market)
    land_shop(shop)
    shop.close()
    market.close()
    return Storm(
        postgres_admin_url, name, landing, shop.folder, folder, stack.settings.redis_url, itertools.count()
    )


def land_sales(market: Any) -> None:
    """Four days of sales: late ones, corrections of other days, repetitions, bad rows, a truncated file."""
    sales = [
        sale(f"X-Men #{n % 12}", f"{10 + n}", f"2026-{8 + n % 3:02d}-{1 + n % 25:02d}T10:00:00Z", listing_id=f"s{n}",
             currency=("USD", "EUR", "GBP")[n % 3])
        for n in range(160)
    ]  # fmt: skip
    corrected = [row | {"price": "7.50", "updated_at": "2026-10-28T00:00:00Z"} for row in sales[:60:3]]
    moved = [
        row | {"sold_at": "2026-08-02T00:00:00Z", "updated_at": "2026-10-29T00:00:00Z"}
        for row in sales[1:50:7]
    ]
    bad = [sale(price="free", listing_id="bad1"), sale(price="-1", listing_id="bad2")]
    files = {
        DAYS[0]: {"a.csv": [*sales[:60], *sales[:5], *bad], "b.csv": sales[60:80]},
        DAYS[1]: {"a.csv": sales[80:120], "again.csv": sales[60:80]},
        DAYS[2]: {"a.csv": [*sales[120:160], *corrected]},
        DAYS[3]: {"a.csv": moved},
    }
    for landing_day, contents in files.items():
        for name, rows in contents.items():
            market.store.put(f"{market.feed.prefix}{landing_day}/{name}", file_of(rows))
    whole = gzip.compress(file_of(sales[:10]))
    market.store.put(f"{market.feed.prefix}{DAYS[1]}/cut.csv.gz", whole[: len(whole) // 2])


def land_shop(shop: Any) -> None:
    """The same days for the YAML-only system: sales of one day are corrected on the next."""
    for number, landing_day in enumerate(DAYS):
        first = [("north", f"{number}-{n}", "pen", f"{5 + n}", f"{landing_day}T09:00:00Z") for n in range(50)]
        again = [
            ("north", f"{number - 1}-{n}", "pen", "99", f"{landing_day}T08:00:00Z") for n in range(0, 30, 4)
        ]
        shop.land(
            landing_day,
            "a.csv",
            csv_of(*first, *(again if number % 2 else []), ("north", "", "pen", "1", "")),
        )


def kill_points(names: Sequence[str], kills: int, seed: int) -> list[KillAt]:
    """Each named step first, the first time it is made; then steps drawn by `seed`, before or after they are done."""
    draw = random.Random(seed)
    first = [names.index(name) + 1 for name in dict.fromkeys(names)]
    draw.shuffle(first)
    drawn = [draw.randrange(1, len(names) + 1) for _ in range(max(0, kills - len(first)))]
    return [KillAt(step, draw.random() < 0.5) for step in (*first, *drawn)[:kills]]


def finish(process: Any) -> int | None:
    process.join(WAIT_SECONDS)
    if process.exitcode is None:
        process.kill()
        process.join()
        pytest.fail("the work hung after a kill")
    return process.exitcode


def start(place: Place, days: Sequence[str], kill: KillAt = NO_KILL, steps_file: str | None = None) -> Any:
    return forks.start(run, place, days, kill, steps_file)


@dataclass(frozen=True)
class Outcome:
    """What the tables hold: contents, and the sums of every file's account."""

    digest: tuple[tuple[str, int, str], ...]
    accounts: tuple[tuple[Any, ...], ...]


def outcome(place: Place, shop: Path) -> Outcome:
    catalog = load_catalog([*FOLDERS, shop])
    with psycopg.connect(place.database_url) as connection:
        found = digest_tables(connection, catalog)
        accounts = connection.execute(
            "SELECT feed, sum(landed_rows), sum(loaded_rows), sum(duplicate_rows), sum(quarantined_rows), "
            "count(*) FILTER (WHERE status = 'quarantined') FROM longbox.loads JOIN longbox.feeds USING (feed_id) "
            "GROUP BY feed ORDER BY feed"
        ).fetchall()
    return Outcome(tuple((entry.table, entry.rows, entry.content_hash) for entry in found), tuple(accounts))


def assert_nothing_lost_or_doubled(place: Place) -> None:
    """Raw rows are the versions that the registry knows, one each; every day's equation closes."""
    with psycopg.connect(place.database_url) as connection:
        for table in ("comics.pricing_data_raw", "shop.sales"):
            doubled = sql.SQL(
                "SELECT count(*) FROM (SELECT key_hash, content_hash FROM {} GROUP BY 1, 2 HAVING count(*) > 1) twice"
            ).format(sql.Identifier(*table.split(".")))
            row = connection.execute(doubled).fetchone()
            assert row == (0,), table
        raw, known = (
            connection.execute(query).fetchone()
            for query in (
                "SELECT (SELECT count(*) FROM comics.pricing_data_raw) + (SELECT count(*) FROM shop.sales)",
                "SELECT count(*) FROM longbox.record_keys",
            )
        )
    assert raw == known
    market = open_market(place.database_url, place.store_url)
    try:
        for landing_day in DAYS:
            assert market.normaliser.reconcile(day(landing_day)).problems == ()
    finally:
        market.close()


def test_kills_at_every_step_lose_nothing_and_running_again_completes(
    storm: Storm, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    kills, seed = request.config.getoption("--kills"), request.config.getoption("--seed")
    place, steps = storm.place(), tmp_path / "steps"
    assert finish(start(place, KILLED_DAYS, steps_file=str(steps))) == 0
    names = steps.read_text().splitlines()
    assert finish(start(place, DAYS)) == 0
    undisturbed = outcome(place, storm.shop)
    storm.clear(place)
    struck: dict[str, int] = {}
    draw = random.Random(seed)
    for number, kill in enumerate(kill_points(names, kills, seed), start=1):
        again = KillAt(draw.randrange(1, len(names) + 1)) if draw.random() < 0.25 else None
        survive(storm, kill, again, undisturbed)
        name = names[(kill.step or 1) - 1]
        struck[name] = struck.get(name, 0) + 1
        tell_tenths(number, kills, "kills")
    missed = len(set(names) - set(struck))
    print(
        f"\n{kills} kills (seed {seed}) at {len(struck)} of {len(set(names))} named steps, {len(names)} steps in all"
    )
    assert kills < len(set(names)) or missed == 0


def survive(storm: Storm, kill: KillAt, again: KillAt | None, undisturbed: Outcome) -> None:
    """One kill, while other days are loaded, perhaps another when the work is run again; then it is let through."""
    place = storm.place()
    other = start(place, OTHER_DAYS)
    code = finish(start(place, KILLED_DAYS, kill))
    assert finish(other) == 0, f"the other process was disturbed by {kill}"
    assert code in (-signal.SIGKILL, 0), f"{kill} ended with {code}"  # 0: fewer steps beside another process
    if again is not None:
        assert finish(start(place, KILLED_DAYS, again)) in (-signal.SIGKILL, 0), again
    assert finish(start(place, DAYS)) == 0, f"running again after {kill} failed"
    found = outcome(place, storm.shop)
    assert found == undisturbed, f"after {kill}"
    assert_nothing_lost_or_doubled(place)
    storm.clear(place)
