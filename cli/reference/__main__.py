"""`python -m cli.reference`: writes every page. Starts a PostgreSQL of its own for the tables, in a temporary home."""

import os
import shutil
import tempfile
from pathlib import Path

import psycopg

from cli.reference import PAGES, TABLES_FOLDER, table_pages
from deploy.local import privileges
from deploy.local.stack import Stack
from pipelines.catalog.loader import load_catalog, system_folders
from resources.settings import PROJECT_ROOT


def main() -> None:
    """Write the pages; pages of systems that are gone are removed. Needs no running stack and touches none."""
    for name in [name for name in os.environ if name.startswith("LONGBOX_")]:
        del os.environ[name]  # the pages describe the bundled systems, not this shell's
    home = Path(tempfile.mkdtemp(prefix="longbox-reference-")).resolve()
    home.chmod(0o755)  # PostgreSQL's own user enters it when this runs as root
    try:
        stack = Stack(
            home, dagster=False, migrate=True, environ={"PATH": os.environ["PATH"]}, is_durable=False
        )
        with stack, psycopg.connect(stack.settings.postgres_url) as connection:
            tables = table_pages(connection, load_catalog(system_folders(stack.settings)))
    finally:
        shutil.rmtree(home, ignore_errors=True)
        shutil.rmtree(privileges.relocated_folder(home), ignore_errors=True)
    for file in (PROJECT_ROOT / TABLES_FOLDER).glob("*.md"):
        file.unlink()
    for path, text in {**{name: page() for name, page in PAGES.items()}, **tables}.items():
        target = PROJECT_ROOT / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
        print(f"wrote {path}")


if __name__ == "__main__":
    main()
