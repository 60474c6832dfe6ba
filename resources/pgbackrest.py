"""pgBackRest as a subprocess: its JSON, its exit codes, its words. What they mean for backups is `pipelines.backup`'s.

Under root it runs as the user that PostgreSQL would run as, who owns the cluster and the repository by custom.
https://pgbackrest.org/command.html
"""

import json
import os
import re
import shlex
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from resources.errors import LongboxError, UserError
from resources.postgres_programs import RunAs, server_user

_LOCKED = 50
_WORDS = re.compile(r"^(?:[\d: .-]*P\d+ +)?(?:ERROR|HINT): *", re.IGNORECASE)


class PgBackRestMissingError(UserError):
    """pgBackRest cannot be run here."""


class PgBackRestError(LongboxError):
    """pgBackRest failed; `code` is its exit code, `said` its own message."""

    def __init__(self, act: str, code: int, said: str) -> None:
        self.code, self.said = code, said
        super().__init__(f"pgbackrest {act} failed: {said or 'it said nothing'} (code {code})")

    @property
    def is_locked(self) -> bool:
        """Whether another pgBackRest works on the same stanza."""
        return self.code == _LOCKED


class PgBackRest:
    """Calls for one stanza."""

    def __init__(
        self, stanza: str, command: tuple[str, ...] = ("pgbackrest",), config: Path | None = None
    ) -> None:
        self.stanza, self._command, self._config = stanza, command, config
        self.run_as: RunAs | None = server_user(Path("/nonexistent"))

    def words(self, act: str, *options: str, operand: str | None = None) -> list[str]:
        """The command of one act."""
        config = [f"--config={self._config}"] if self._config else []
        words = [*self._command, f"--stanza={self.stanza}", *config, *options, act]
        return [*words, operand] if operand else words

    def restore_command(self, data: Path) -> str:
        """What a restored server in `data` fetches WAL with."""
        words = self.words("archive-get", f"--pg1-path={data}", "--no-archive-async", "--log-level-file=off")
        return shlex.join(words).replace("%", "%%") + ' %f "%p"'

    def run(self, act: str, *options: str, operand: str | None = None) -> str:
        """Its standard output. Raises `PgBackRestError`, `PgBackRestMissingError`."""
        words = self.words(act, *options, operand=operand)
        user = self.run_as.options() if self.run_as else {}
        try:
            done = subprocess.run(
                words, stdin=subprocess.DEVNULL, capture_output=True, text=True, cwd="/",
                env=_environment(), check=False, **user,
            )  # type: ignore[call-overload]  # fmt: skip
        except OSError as error:
            raise PgBackRestMissingError(
                f"{self._command[0]} cannot be run ({error.strerror}); install pgBackRest (`apt-get install "
                "pgbackrest`), or say how it is called with LONGBOX_PGBACKREST_COMMAND"
            ) from error
        if done.returncode != 0:
            raise PgBackRestError(act, done.returncode, _last_words(done.stderr or done.stdout))
        return str(done.stdout)

    def json(self, act: str, *options: str, operand: str | None = None) -> Any:
        """Its JSON. Raises as `run` does."""
        text = self.run(act, "--output=json", *options, operand=operand)
        try:
            return json.loads(text)
        except ValueError as error:
            raise PgBackRestError(act, 0, f"it did not answer with JSON: {text[:200]!r}") from error


def pgbackrest_variables(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """pgBackRest's own variables, where secrets of its repository may be."""
    return {name: value for name, value in environ.items() if name.startswith("PGBACKREST_")}


def _environment() -> dict[str, str]:
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR") if name in os.environ}
    return {"PATH": os.defpath, **kept, **pgbackrest_variables(), "LC_ALL": "C"}


def _last_words(text: str) -> str:
    lines = [_WORDS.sub("", line).strip() for line in text.splitlines() if line.strip()]
    return "; ".join(lines[-4:])
