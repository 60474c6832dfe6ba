"""The lines of `pipelines` and `resources` that the tests ran, as SlipCover counted them in pytest's workers.

`make test` starts pytest under SlipCover, which leaves the sum of its workers, and of the processes that they start
with `environment()`, in a folder that it names in the environment. What SlipCover prints itself would come after
pytest's last line, and fail without a word.
"""

import io
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

LEAST_PERCENT = 95.0
# A line that was run so often once it is known takes the counting out of all known lines. That walks through every
# function of ours and costs 0.1 s; SlipCover's own 50 times had it do so through the whole session.
RUNS_OF_A_KNOWN_LINE = 5000


def count_patiently() -> None:
    """Set how often a known line is run before its counting is taken out, for all that this worker imports later."""
    counter = getattr(sys.modules.get("slipcover.pytest_plugin"), "_slipcover_instance", None)
    if counter is not None:
        counter.d_miss_threshold = RUNS_OF_A_KNOWN_LINE


def environment() -> dict[str, str]:
    """What makes a process count its lines; empty when none are counted.

    Give it to a process that ends by itself and runs what no test runs in its own process: it takes half a second more
    to import our packages, and one that is killed leaves no count.
    """
    counting = {name: value for name, value in os.environ.items() if name.startswith("SLIPCOVER_")}
    return {**counting, "PYTHONPATH": str(Path(__file__).parent / "covered")} if counting else {}


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
    if not merged.exists():
        return None
    covered: dict[str, Any] = json.loads(merged.read_text(encoding="utf-8"))
    if not shutil.which("pgbackrest"):  # its tests were skipped, and say so
        import slipcover

        covered["files"] = {
            name: file for name, file in covered["files"].items() if "pgbackrest" not in Path(name).name
        }
        slipcover.merge_coverage(covered, {"files": {}})  # sums them up anew
    return covered


count_patiently()
