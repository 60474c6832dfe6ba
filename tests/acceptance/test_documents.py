"""Pages of the documentation, executed: what they tell a reader to type works, and prints what they say."""

import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

from deploy.local import privileges
from resources.settings import PROJECT_ROOT
from tests.documents import run_page


def test_the_tutorial_carries_a_csv_to_a_chart(home: Path) -> None:
    state = home / "longbox"
    environ = {"LONGBOX_HOME": str(state)}
    try:
        run_page(PROJECT_ROOT / "docs/tutorial/README.md", home, environ)
        chart = (home / "cafe/chart.svg").read_text(encoding="utf-8")
        assert len(list(ElementTree.fromstring(chart).iter("{http://www.w3.org/2000/svg}rect"))) == 3
        shown = (PROJECT_ROOT / "docs/images/cafe-chart.svg").read_text(encoding="utf-8")
        assert chart == shown.rstrip("\n"), "the page shows another chart than its script draws"
    finally:
        down = [sys.executable, "-m", "cli.main", "down"]
        subprocess.run(
            down, cwd=PROJECT_ROOT, env={"PATH": "/usr/bin:/bin", **environ}, check=True, capture_output=True
        )
        shutil.rmtree(privileges.relocated_folder(state), ignore_errors=True)
