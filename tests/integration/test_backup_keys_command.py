"""`longbox backup keys`: made once, never overwritten, rotated without rewriting what older backups need."""

import datetime as dt
from pathlib import Path

import pytest

from cli.main import main
from resources.keys import (
    KeysUnreadableError,
    RecoveryKeys,
    ServerKeys,
    StreamKey,
    make_keys,
    rotate_keys,
)
from tests.s3_server import S3Server


def exit_code(*arguments: str) -> object:
    with pytest.raises(SystemExit) as ended:
        main(["backup", "keys", *arguments])
    return ended.value.code or 0


def test_keys_are_made_once_rotated_and_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    server, recovery = tmp_path / "server.json", tmp_path / "safe" / "recovery.json"
    (tmp_path / "objects").mkdir()
    monkeypatch.setenv("LONGBOX_OBJECT_STORE", (tmp_path / "objects").as_uri())
    monkeypatch.setenv("LONGBOX_BACKUP_KEYS", str(server))
    monkeypatch.setenv("LONGBOX_BACKUP_RECOVERY_KEYS", str(recovery))

    assert exit_code("init") == 0
    assert "WITHOUT THIS FILE NO BACKUP CAN BE RESTORED" in capsys.readouterr().err
    assert {path.stat().st_mode & 0o777 for path in (server, recovery)} == {0o600}
    made = server.read_bytes(), recovery.read_bytes()
    assert exit_code("init") == 2
    assert "is not overwritten" in capsys.readouterr().err
    assert (server.read_bytes(), recovery.read_bytes()) == made

    old, key = ServerKeys.load(server), StreamKey.new()
    wrapped = old.wrap(key)
    assert exit_code("rotate") == 0
    capsys.readouterr()
    assert exit_code("show") == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith(old.recovery_key_id) and "new backups use it" not in first
    assert second.startswith(ServerKeys.load(server).recovery_key_id) and "new backups use it" in second
    # what was encrypted before is opened by the same file
    opened = RecoveryKeys.load(recovery).unwrap(wrapped, old.recovery_key_id)
    assert opened.serialised() == key.serialised()


def test_recovery_keys_under_a_kms_open_and_rotate_with_it_alone(
    s3_server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    import boto3

    if not s3_server.is_moto:
        pytest.skip("the S3 server of LONGBOX_TEST_S3_ENDPOINT has no key management")
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    made = boto3.session.Session().client("kms").create_key()["KeyMetadata"]
    now = dt.datetime.now(dt.UTC)
    server, recovery = tmp_path / "server.json", tmp_path / "recovery.json"
    make_keys(server, recovery, now, f"aws-kms://{made['Arn']}")
    assert "private" not in recovery.read_text(encoding="utf-8")
    key, first = StreamKey.new(), ServerKeys.load(server)
    wrapped = first.wrap(key)
    rotate_keys(server, recovery, now)
    for keys, sealed in ((first, wrapped), (again := ServerKeys.load(server), again.wrap(key))):
        opened = RecoveryKeys.load(recovery).unwrap(sealed, keys.recovery_key_id)
        assert opened.serialised() == key.serialised()
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with pytest.raises(KeysUnreadableError, match="check the KMS"):
        RecoveryKeys.load(recovery)
