"""The lines of `pipelines` and `resources` that the tests ran, as SlipCover counted them in pytest's workers.

`make test` starts pytest under SlipCover, which leaves the sum of its workers in a folder that it names in the
environment. What SlipCover prints itself would come after pytest's last line, and fail without a word.
"""

import io
import json
import os
from pathlib import Path
from typing import Any

LEAST_PERCENT = 95.0


def is_too_little() -> bool:
    """Whether lines were counted, and fewer than `LEAST_PERCENT` of them were run."""
    covered = _covered()
    return covered is not None and _percent(covered) < LEAST_PERCENT


def report() -> str:
    """A table of the files with lines that no test ran, and the sum; empty when nothing was counted."""
    covered = _covered()
    if covered is None:
        return ""
    import slipcover

    table = io.StringIO()
    slipcover.print_coverage(covered, outfile=table, skip_covered=True, missing_width=60)
    verdict = (
        "" if _percent(covered) >= LEAST_PERCENT else f", but at least {LEAST_PERCENT:.0f} % is asked for"
    )
    return f"{table.getvalue()}Coverage of pipelines and resources: {_percent(covered):.1f} %{verdict}\n"


def _percent(covered: dict[str, Any]) -> float:
    return float(covered["summary"]["percent_covered"])


def _covered() -> dict[str, Any] | None:
    folder = os.environ.get("SLIPCOVER_COVERAGE_DIR")
    if folder is None or "PYTEST_XDIST_WORKER" in os.environ:
        return None
    merged = Path(folder) / "merged.json"
    return json.loads(merged.read_text(encoding="utf-8")) if merged.exists() else None
