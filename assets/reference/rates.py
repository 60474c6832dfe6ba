"""Exchange rates, read only when their file is another one than last time: the history takes seconds to parse.

The mark of the file stands with the asset's results in `longbox.day_results`, under the day of the newest rate.
What a load does is in `pipelines.normalisation.fx`.
"""

import datetime as dt
import hashlib
from pathlib import Path
from typing import cast

from pipelines.monitoring.days import record_day
from pipelines.normalisation.fx import FxLoad, bundled_file, load_rates
from resources.database import Database
from resources.sql import Queries

ASSET = "reference/fx_rates"


def load_rates_of_new_file(database: Database, file: Path | None, run_id: str | None) -> FxLoad:
    """`load_rates`, unless `file` (None: the bundled one) was loaded last and every rate it left is still there.

    `rows_read` is 0 when nothing had to be read. Raises `FxFileError`.
    """
    mark = _mark(bundled_file() if file is None else file)
    known, newest_on = _known(database)
    with database.connection() as connection:
        row = connection.execute(Queries.of(__package__)["file_known"], {"asset": ASSET}).fetchone()
    if newest_on is not None and row == (mark, known):
        return FxLoad(rows_read=0, rows_written=0, newest_on=newest_on)
    load = load_rates(database, file, run_id)
    counts = {"file_mark": mark, "rates": _known(database)[0]}
    record_day(database, ASSET, load.newest_on, "complete", counts, [], run_id)
    return load


def count_rates(database: Database) -> int:
    """How many rates there are."""
    return _known(database)[0]


def _known(database: Database) -> tuple[int, dt.date | None]:
    with database.connection() as connection:
        row = connection.execute(Queries.of(__package__)["rates_known"]).fetchone()
    return cast("tuple[int, dt.date | None]", row)


def _mark(file: Path) -> int:
    """A number (60 bits) that tells files apart by content; 0 for one that cannot be read, which the load explains."""
    try:
        return int(hashlib.sha256(file.read_bytes()).hexdigest()[:15], 16)
    except OSError:
        return 0
