"""Settings: what is read, what is refused with which words, what is never shown, what the local stack fills in."""

import json
from pathlib import Path

import pytest

from resources.errors import UserError
from resources.setting_values import redact, without_secret
from resources.settings import PROJECT_ROOT, SETTINGS, Settings, StackNotRunningError, unknown_variables


def test_nothing_set_means_the_project_folder_and_the_local_stack(tmp_path: Path) -> None:
    settings = Settings.load({})
    assert settings.home == PROJECT_ROOT / ".longbox"
    assert settings.object_store == (PROJECT_ROOT / ".longbox" / "objects").as_uri()
    assert settings.backup_store == settings.object_store
    assert settings.systems == settings.alert_urls == settings.postgres_replica_urls == ()
    away = Settings.load({"LONGBOX_HOME": str(tmp_path)})
    for read in (lambda: away.postgres_url, lambda: away.redis_url, lambda: away.dagster_postgres_url):
        with pytest.raises(StackNotRunningError, match="longbox up"):
            read()


def test_an_unset_url_comes_from_the_state_file_of_the_running_stack(tmp_path: Path) -> None:
    settings = Settings.load({"LONGBOX_HOME": str(tmp_path), "LONGBOX_REDIS_URL": "redis://cache/0"})
    urls = {
        "postgres": "postgresql://a@h/longbox",
        "dagster_postgres": "postgresql://a@h/dagster",
        "redis": "redis://x",
    }
    settings.state_file.write_text(json.dumps({"urls": urls}))
    assert settings.postgres_url == "postgresql://a@h/longbox"
    assert settings.dagster_postgres_url == "postgresql+psycopg2://a@h/dagster"
    assert settings.redis_url == "redis://cache/0"
    settings.state_file.write_text(json.dumps({"urls": {}}))
    with pytest.raises(StackNotRunningError, match="LONGBOX_POSTGRES_URL"):
        _ = settings.postgres_url
    settings.state_file.write_text("{half")
    with pytest.raises(UserError, match="longbox down"):
        _ = settings.postgres_url


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg", "postgresql+psycopg2"])
def test_every_spelling_of_a_postgresql_url_is_taken(scheme: str) -> None:
    url = f"{scheme}://u:p%40ss@h:1/d"
    settings = Settings.load({"LONGBOX_POSTGRES_URL": url, "LONGBOX_DAGSTER_POSTGRES_URL": url})
    assert settings.postgres_url == "postgresql://u:p%40ss@h:1/d"
    assert settings.dagster_postgres_url == "postgresql+psycopg2://u:p%40ss@h:1/d"


def test_lists_are_split_as_their_content_allows(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir()
    two.mkdir()
    settings = Settings.load(
        {
            "LONGBOX_SYSTEMS": f"{one}:{two}:",
            "LONGBOX_ALERT_URLS": "mailto://u:p@h?to=a@x.org,b@x.org, slack://t/o/k",
            "LONGBOX_POSTGRES_REPLICA_URLS": "postgresql://a/d,postgres://b/d",
            "LONGBOX_BACKUP_COPY_STORES": "s3://a/x/, gs://b",
        }
    )
    assert settings.systems == (one, two)
    assert settings.alert_urls == ("mailto://u:p@h?to=a@x.org,b@x.org", "slack://t/o/k")
    assert settings.postgres_replica_urls == ("postgresql://a/d", "postgresql://b/d")
    assert settings.backup_copy_stores == ("s3://a/x", "gs://b")


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("LONGBOX_POSTGRES_URL", "host=db dbname=x", "is not a URL"),
        ("LONGBOX_POSTGRES_URL", "mysql://db/x", "scheme 'mysql' where postgresql is wanted"),
        ("LONGBOX_POSTGRES_URL", "postgresql://db", "names no database"),
        ("LONGBOX_DAGSTER_POSTGRES_URL", "postgresql://u:pa/ss@db/x", "percent-encoded"),
        ("LONGBOX_REDIS_URL", "http://cache", "must start with redis://"),
        ("LONGBOX_OBJECT_STORE", "/srv/objects", "file:///srv/objects"),
        ("LONGBOX_OBJECT_STORE", "file://srv/objects", "three slashes"),
        ("LONGBOX_OBJECT_STORE", "s3:///prefix", "names no bucket"),
        ("LONGBOX_BACKUP_STORE", "ftp://host", "must start with"),
        ("LONGBOX_SYSTEMS", "/no/such/folder", "does not exist"),
        ("LONGBOX_FX_RATES", "/no/such/file", "is no file"),
        ("LONGBOX_ALERT_URLS", "console", "no URL"),
        ("LONGBOX_UI_PORT", "80000", "no port from 1 to 65535"),
        ("LONGBOX_REDIS_PORT", "-1", "no port from 1 to 65535"),
        ("LONGBOX_DEBUG", "maybe", "1 or 0"),
        ("LONGBOX_DAGSTER_HISTORY_DAYS", "1", "no number of days from"),
        ("LONGBOX_WAL_SHIP_SECONDS", "61", "no number of seconds from 1 to 60"),
        ("LONGBOX_WAL_SPOOL_MAX_BYTES", "63MB", "no size of 64MB or more"),
        ("LONGBOX_WAL_SLOT_MAX_BYTES", "much", "no size of 64MB or more"),
        ("LONGBOX_BACKUP_ENGINE", "tar", "is 'tar' where "),
        ("LONGBOX_PGBACKREST_STANZA", "my shop", "no plain name"),
        ("LONGBOX_EXTERNAL_RESTORE_COMMAND", "restore 'it", "is no command"),
        ("LONGBOX_HOME", __file__, "is not a folder"),
    ],
)
def test_a_wrong_value_is_refused_with_its_name_the_fault_and_an_example(
    name: str, value: str, why: str
) -> None:
    with pytest.raises(UserError) as caught:
        Settings.load({name: value})
    message = str(caught.value)
    assert message.startswith(f"{name} ")
    assert why in message
    assert f"for example {name}=" in message


def test_sizes_numbers_words_and_commands_are_read_as_they_are_meant() -> None:
    settings = Settings.load(
        {
            "LONGBOX_DAGSTER_HISTORY_DAYS": "400",
            "LONGBOX_WAL_SHIP_SECONDS": "5",
            "LONGBOX_WAL_SPOOL_MAX_BYTES": "2 gb",
            "LONGBOX_WAL_SLOT_MAX_BYTES": "64000000",
            "LONGBOX_DEBUG": "On",
            "LONGBOX_BACKUP_ENGINE": "pgbackrest",
            "LONGBOX_PGBACKREST_STANZA": "shop-1",
            "LONGBOX_EXTERNAL_DISCARD_COMMAND": "discard --name 'the copy'",
        }
    )
    assert (settings.dagster_history_days, settings.wal_ship_seconds, settings.is_debug) == (400, 5, True)
    assert (settings.wal_spool_max_bytes, settings.wal_slot_max_bytes) == (2 * 10**9, 64 * 10**6)
    assert (settings.backup_engine, settings.pgbackrest_stanza) == ("pgbackrest", "shop-1")
    assert settings.external_discard_command == ("discard", "--name", "the copy")


def test_a_blank_variable_is_an_unset_one() -> None:
    assert Settings.load({"LONGBOX_POSTGRES_URL": "  ", "LONGBOX_HOME": ""}) == Settings.load({})


def test_no_secret_is_ever_shown() -> None:
    secret = "s3cr3t"
    urls = {
        "LONGBOX_POSTGRES_URL": f"postgresql://u:{secret}@h/d",
        "LONGBOX_DAGSTER_POSTGRES_URL": f"postgresql://u:{secret}@h/d",
        "LONGBOX_POSTGRES_REPLICA_URLS": f"postgresql://u:{secret}@h/d",
        "LONGBOX_REDIS_URL": f"redis://:{secret}@h/0",
        "LONGBOX_ALERT_URLS": f"mailto://u:{secret}@h",
    }
    assert secret not in repr(Settings.load(urls))
    for name, url in urls.items():
        with pytest.raises(UserError) as caught:
            Settings.load({name: url.replace("@h", "@h:port").replace("mailto://", "")})
        assert secret not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://u:p@h:1/d", "postgresql://u:***@h:1/d"),
        ("postgresql://u:p@ss@h/d", "postgresql://u:***@h/d"),
        ("redis://:p@h/0", "redis://:***@h/0"),
        ("postgresql://u@h/d?password=p&sslmode=require", "postgresql://u@h/d?password=***&sslmode=require"),
        ("s3://bucket/prefix", "s3://bucket/prefix"),
    ],
)
def test_a_redacted_url_keeps_all_but_its_secrets(url: str, shown: str) -> None:
    assert redact(url) == shown


def test_a_password_that_a_driver_quotes_is_hidden_in_both_its_spellings() -> None:
    said = without_secret('user "u" failed with p@ss (p%40ss)', "postgresql://u:p%40ss@h/d")
    assert said == 'user "u" failed with *** (***)'


def test_a_mistyped_variable_is_told_with_the_nearest_known_one() -> None:
    found = unknown_variables(
        {"LONGBOX_POSTGRESS_URL": "x", "LONGBOX_HOME": "x", "HOME": "x", "LONGBOX_QQQ": "x"}
    )
    assert found == {"LONGBOX_POSTGRESS_URL": "LONGBOX_POSTGRES_URL", "LONGBOX_QQQ": None}


def test_every_setting_is_described_for_the_documentation() -> None:
    assert len({setting.name for setting in SETTINGS}) == len(SETTINGS)
    for setting in SETTINGS:
        assert setting.name.startswith("LONGBOX_")
        assert setting.description.endswith(".")
        assert setting.default
        assert setting.example
