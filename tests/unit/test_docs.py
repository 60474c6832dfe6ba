"""The documentation says what the code does: generated pages are current, links lead somewhere, YAML loads."""

import re

import pytest
import yaml

from cli.reference import PAGES
from pipelines.catalog.loader import load_catalog
from resources.settings import PROJECT_ROOT

PROSE = sorted([*PROJECT_ROOT.glob("*.md"), *(PROJECT_ROOT / "docs").rglob("*.md")])


@pytest.mark.parametrize("name", PAGES)
def test_a_generated_page_is_current(name):
    remedy = "run `make reference` and commit what it writes"
    assert (PROJECT_ROOT / name).read_text(encoding="utf-8") == PAGES[name](), remedy


@pytest.mark.parametrize("page", PROSE, ids=lambda page: str(page.relative_to(PROJECT_ROOT)))
def test_every_link_to_a_file_leads_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)", page.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


@pytest.mark.parametrize("page", ["README.md", "docs/how-to/bring-your-own-table.md"])
def test_the_system_shown_in_the_docs_is_a_valid_one(page, tmp_path):
    text = (PROJECT_ROOT / page).read_text(encoding="utf-8")
    shown = next(block for block in re.findall(r"```yaml\n(.*?)```", text, re.DOTALL) if "system:" in block)
    (tmp_path / "system.yaml").write_text(shown, encoding="utf-8")
    assert load_catalog([tmp_path]).systems.keys() == {yaml.safe_load(shown)["system"]}


def test_every_page_that_says_it_is_run_is_run_by_a_test():
    tests = "".join(file.read_text(encoding="utf-8") for file in (PROJECT_ROOT / "tests").rglob("test_*.py"))
    for page in PROSE:
        if re.search(r"^```sh$", page.read_text(encoding="utf-8"), re.MULTILINE):
            names = (page.name, f"{page.parent.name}/{page.name}")
            is_run = names[page.name == "README.md"] in tests
            assert is_run, (
                f"no test runs {page.relative_to(PROJECT_ROOT)}; see tests/documents.py, or write `console`"
            )
