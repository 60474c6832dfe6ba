"""The receiver of the local stack comes with it, comes back when killed, goes with it; the asset tells how it is."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import dagster as dg

from assets.platform.wal import wal_definitions
from deploy.local import wal
from deploy.local.processes import ProcessId, wait_until
from deploy.local.stack import Stack
from pipelines.backup import routine, setup
from pipelines.backup.model import RestoreRequest
from pipelines.backup.restore import restore
from pipelines.backup.spool import note_store_fault
from pipelines.backup.watch import WalState, look
from resources.settings import PROJECT_ROOT, Settings
from tests.backup_cluster import one_value


def look_at(stack: Stack) -> WalState:
    settings = Settings.load(stack.environ)
    return look(settings, setup.opener(settings))


def receiver(stack: Stack) -> ProcessId | None:
    return next((part.process for part in stack.state.parts if part.name == wal.NAME), None)


def wait_received(stack: Stack) -> None:
    def is_received() -> bool | None:
        stack.restart_ended()
        return True if look_at(stack).slot.holder_pid is not None else None

    assert wait_until(is_received, seconds=60, poll_seconds=0.2), tail_of(stack)


def tail_of(stack: Stack) -> str:
    return (stack.home.logs / "wal-receiver.log").read_text(encoding="utf-8")


def observed(settings: Settings) -> tuple[dict[str, object], dict[str, bool]]:
    """Metadata and checks of the job that looks."""
    resources = {"settings": dg.ResourceDefinition(lambda _: settings)}
    parts = dg.Definitions.merge(
        wal_definitions(), dg.Definitions(resources=resources, executor=dg.in_process_executor)
    )
    result = parts.resolve_job_def("wal_observation").execute_in_process()
    [event] = result.asset_observations_for_node("platform__wal")
    checks = {one.check_name: one.passed for one in result.get_asset_check_evaluations()}
    return {name: value.value for name, value in event.metadata.items()}, checks


def longbox(stack: Stack, *arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-P", "-m", "cli.main", *arguments]
    env = {**stack.environ, "PYTHONPATH": str(PROJECT_ROOT)}
    return subprocess.run(command, cwd=stack.home.path, env=env, capture_output=True, text=True)


def test_the_receiver_comes_and_goes_with_the_stack_and_what_it_ships_is_restored(home: Path) -> None:
    environ = {"PATH": os.environ["PATH"], "LONGBOX_WAL_SHIP_SECONDS": "1"}
    with Stack(home, dagster=False, migrate=True, environ=environ, is_durable=False) as stack:
        wait_received(stack)
        settings = Settings.load(stack.environ)
        with routine.platform_database(settings) as database:
            made = routine.make_backup(settings, database, "full", warn=lambda _: None)
        assert made.window is not None

        first = receiver(stack)
        assert first is not None
        first.signal(signal.SIGKILL, whole_group=True)
        assert wait_until(lambda: None if first.is_alive() else True, seconds=20)
        assert wait_until(lambda: revived(stack, first), seconds=60, poll_seconds=0.2)
        # until then the slot is in use by what the killed one left
        assert wait_until(lambda: True if has_begun_again(stack) else None, seconds=60), tail_of(stack)
        wait_received(stack)

        second = longbox(stack, "wal", "receive")
        assert (second.returncode, second.stderr.count("\n")) == (2, 1), second.stderr
        assert "another receiver works in" in second.stderr

        entries = one_value(settings.postgres_url, "SELECT count(*) FROM longbox.ledger")
        assert wait_until(lambda: beats(settings) or None, seconds=30)
        found = wait_until(lambda: young(stack, made.window.until), seconds=60, poll_seconds=0.2)
        assert found and found.open_gaps == (), tail_of(stack)

        described, checks = observed(settings)
        assert described["is_received"] is True and described["open_gaps"] == 0
        assert float(str(described["newest_restorable_age_seconds"])) < 900
        assert checks == {"within_rpo": True, "no_gaps": True, "slot_alive": True}
        status = longbox(stack, "wal", "status")
        assert (status.returncode, "newest restorable moment: 2" in status.stdout) == (0, True), status
        assert receiver_health(stack) == "healthy"
        note_store_fault(settings.wal_spool, "no space left\n(on the disk)")
        assert receiver_health(stack) == "the store takes no WAL: no space left (on the disk)"
        status = longbox(stack, "wal", "status")
        assert (status.returncode, "the store takes no WAL: no space" in status.stdout) == (1, True), status
        note_store_fault(settings.wal_spool, "")
        last = receiver(stack)
    assert last is not None and not last.is_alive()
    assert [path.name for path in settings.wal_spool.rglob("*") if path.is_file()] == ["receiver"]

    said: list[object] = []
    scratch = settings.home / "restored"

    def check(url: str) -> None:
        said.append(one_value(url.replace("/postgres?", "/longbox?"), "SELECT count(*) FROM longbox.ledger"))

    repository = setup.open_stored_repository(settings)
    request = RestoreRequest(scratch, is_durable=False)
    restore(repository, request, setup.opener(settings), check=check)
    assert said == [entries]


def receiver_health(stack: Stack) -> str:
    parts = json.loads(longbox(stack, "status", "--json").stdout)["parts"]
    return next(str(part["health"]) for part in parts if part["part"] == wal.NAME)


def has_begun_again(stack: Stack) -> bool:
    _, _, after = tail_of(stack).partition("ended 1 pg_receivewal that a killed receiver left")
    return "receiving WAL of cluster" in after


def revived(stack: Stack, first: ProcessId) -> bool | None:
    stack.restart_ended()
    return True if receiver(stack) != first else None


def beats(settings: Settings) -> bool:
    return bool(one_value(settings.postgres_url, "SELECT count(*) > 0 FROM longbox.heartbeats"))


def young(stack: Stack, after: object) -> WalState | None:
    found = look_at(stack)
    is_later = found.newest_restorable is not None and found.newest_restorable > after  # type: ignore[operator]
    return found if is_later else None
