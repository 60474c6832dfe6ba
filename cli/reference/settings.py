"""Every environment variable: the page, and the example file of deploy/compose."""

from cli.reference.markdown import NOTE, code, table
from resources.settings import SETTINGS, Setting

_SECRETS = """\
# Passwords. deploy/compose/new-env.sh fills in random ones. Letters and digits only: they become part of URLs.
DATABASE_PASSWORD=
DAGSTER_DATABASE_PASSWORD=
BACKUP_DATABASE_PASSWORD=
CACHE_PASSWORD=
S3_ACCESS_KEY=
S3_SECRET_KEY=

# Where the UI listens on this machine. It has no login: see docs/how-to/put-the-ui-behind-a-login.md.
UI_PORT=3000
# Folder of system folders of your own; it is /srv/systems in the containers.
SYSTEMS_FOLDER=./systems
"""
_HEAD = """\
# The environment of deploy/compose. Copy it to .env beside it, which is never committed and never part of the image.
# Made from the code by `make reference`.

"""
_SETTINGS = """
# Every setting of Longbox (docs/reference/settings.md). compose.yaml sets those that lead to its own services; a line
# here without its # goes to code location, webserver and daemon.
"""


def settings_page() -> str:
    """Every environment variable."""
    rows = [(code(s.name), s.description, s.default, code(s.example)) for s in SETTINGS]
    return "\n".join(
        [
            "# Settings\n",
            "All are environment variables, all are optional: what is not set is the local stack.",
            NOTE,
            *table(("variable", "what it is", "unless set", "example"), rows),
        ]
    )


def environment_example() -> str:
    """deploy/compose/.env.example: the passwords, then every setting, as a comment."""
    return _HEAD + _SECRETS + _SETTINGS + "".join(_commented(setting) for setting in SETTINGS)


def _commented(setting: Setting) -> str:
    return f"\n# {setting.description} Unless set: {setting.default}.\n# {setting.name}={setting.example}\n"
