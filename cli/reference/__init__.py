"""The reference pages that come from the code: `make reference` (or `python -m cli.reference`) writes them all.

One module a subject; each has functions that return the text of a page and touch nothing. `PAGES` are those that need
no server, `table_pages` those that are read from a migrated database. A test holds every page against the code. A new
page is one more entry here; prose that explains belongs to docs/how-to and docs/explanation.
https://diataxis.fr/reference/
"""

from collections.abc import Callable

from cli.reference.catalogue import system_yaml_page
from cli.reference.commands import commands_page
from cli.reference.definitions import assets_page, automation_page
from cli.reference.settings import environment_example, settings_page
from cli.reference.tables import TABLES_FOLDER, table_pages
from pipelines.catalog.schema import schema_text

PAGES: dict[str, Callable[[], str]] = {
    "docs/reference/settings.md": settings_page,
    "docs/reference/commands.md": commands_page,
    "docs/reference/system-yaml.md": system_yaml_page,
    "docs/reference/system.schema.json": schema_text,
    "docs/reference/assets.md": assets_page,
    "docs/reference/automation.md": automation_page,
    "deploy/compose/.env.example": environment_example,
}
"""Path in the project -> what makes its text."""

__all__ = ["PAGES", "TABLES_FOLDER", "table_pages"]
