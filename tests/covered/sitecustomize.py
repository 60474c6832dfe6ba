"""Python runs this first in each process that tests start with `covered_lines.environment()`: their lines count too.

SlipCover sums up what lies in its folder when the session ends. A process that is killed leaves nothing there.
"""

import atexit
import json
import os
import sys
import uuid
from pathlib import Path

_FOLDER = os.environ.get("SLIPCOVER_COVERAGE_DIR")


def _count() -> None:
    import slipcover

    sources = [Path(__file__).parents[2] / name for name in os.environ["SLIPCOVER_SOURCE"].split(",")]
    counter = slipcover.Slipcover(
        d_miss_threshold=sys.maxsize >> 32,  # it ends before that would pay
        exclude_lines=os.environ["SLIPCOVER_EXCLUDE_LINES"].split("\n"),
    )
    slipcover.ImportManager(counter, slipcover.FileMatcher(sources=sources)).__enter__()
    process = os.getpid()

    def leave() -> None:
        if os.getpid() != process or not os.path.isdir(str(_FOLDER)):
            return  # a fork that ends by itself, or a process that outlived the session
        covered = counter.get_coverage()
        if covered["files"]:
            name = f"coverage-gw-{uuid.uuid4().hex}.json"
            written = Path(str(_FOLDER)) / f"{name}.new"
            written.write_text(json.dumps(covered), encoding="utf-8")
            written.rename(written.with_name(name))

    atexit.register(leave)


if _FOLDER:
    _count()
