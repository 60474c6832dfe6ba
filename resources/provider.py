"""What a provider of managed PostgreSQL says and does, by commands or a file of the user's own.

Commands run without a shell, with this process's environment (a provider's tool finds its credentials there) and
LONGBOX_SNAPSHOT_ID. What their answers mean is `pipelines.backup.external`'s.
"""

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from resources.errors import LongboxError
from resources.setting_values import postgres_url, redact

EVIDENCE_SECONDS = 300.0
RESTORE_SECONDS = 4 * 3600.0


class ProviderError(LongboxError):
    """A command failed, or the file cannot be read; nothing was recorded."""


@dataclass(frozen=True)
class Provider:
    """The user's commands. Empty: there is none."""

    evidence_command: tuple[str, ...] = ()
    evidence_file: Path | None = None
    restore_command: tuple[str, ...] = ()
    discard_command: tuple[str, ...] = ()

    @property
    def can_restore(self) -> bool:
        """Whether a drill can be made, and cleaned up after."""
        return bool(self.restore_command and self.discard_command)

    def evidence(self) -> str:
        """The JSON text. Raises `ProviderError`."""
        if self.evidence_command:
            return _output(self.evidence_command, {}, EVIDENCE_SECONDS)
        if self.evidence_file is None:
            raise ProviderError(
                "nothing says which snapshots there are; set LONGBOX_EXTERNAL_EVIDENCE_COMMAND or "
                "LONGBOX_EXTERNAL_EVIDENCE_FILE"
            )
        try:
            return self.evidence_file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ProviderError(
                f"{self.evidence_file} cannot be read ({error}); see who writes it"
            ) from error

    def restore(self, snapshot_id: str) -> str:
        """Restore a snapshot beside the live server; the URL of what was restored. Raises `ProviderError`."""
        said = _output(self.restore_command, {"LONGBOX_SNAPSHOT_ID": snapshot_id}, RESTORE_SECONDS)
        lines = [line.strip() for line in said.splitlines() if line.strip()]
        try:
            return postgres_url(lines[-1] if lines else "")
        except ValueError as error:
            shown = redact(lines[-1])[:100] if lines else ""
            raise ProviderError(
                f"the last line that {self.restore_command[0]} printed, {shown!r}, {error}; it must be the URL of the "
                "restored server"
            ) from error

    def discard(self, snapshot_id: str) -> None:
        """Remove what `restore` made. Raises `ProviderError`."""
        _output(self.discard_command, {"LONGBOX_SNAPSHOT_ID": snapshot_id}, RESTORE_SECONDS)


def _output(command: tuple[str, ...], variables: dict[str, str], seconds: float) -> str:
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
            env={**os.environ, **variables},
        )
    except subprocess.TimeoutExpired as error:
        raise ProviderError(f"{command[0]} did not end within {seconds:.0f} s and was killed") from error
    except OSError as error:
        raise ProviderError(
            f"{command[0]} cannot be run ({error.strerror}); see LONGBOX_EXTERNAL_*"
        ) from error
    if done.returncode != 0:
        said = "; ".join(line.strip() for line in done.stderr.splitlines()[-3:] if line.strip())
        raise ProviderError(
            f"{command[0]} failed with exit code {done.returncode}: {redact(said) or 'it said nothing'}"
        )
    return done.stdout
