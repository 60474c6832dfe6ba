"""TLS with certificate validation: the pipeline works through it; a server that cannot prove its name is refused."""

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from deploy.local import external
from deploy.local.errors import ExternalServerError
from resources.database import Database
from resources.errors import LongboxError
from tests.comics_market import open_market, sale
from tests.conftest import new_home, remove_home
from tests.tls import Certificates, TlsFront, running_with_tls, system_postgres


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates.made_in(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def front(database_url: str, certificates: Certificates) -> Iterator[TlsFront]:
    opened = TlsFront(urlsplit(database_url).port or 5432, certificates)
    yield opened
    opened.close()


def through(url: str, port: int, root: Path, host: str = "localhost") -> str:
    """`url` by way of `port`, and only if the server there proves to be `host`."""
    parts = urlsplit(url)
    return f"postgresql://{parts.username}:{parts.password}@{host}:{port}{parts.path}?sslmode=verify-full&sslrootcert={root}"


def test_the_pipeline_works_over_tls_with_a_validated_certificate(
    database_url, object_store_url, front, certificates
):
    market = open_market(through(database_url, front.port, certificates.root), object_store_url)
    try:
        market.set_rates("2026-10-05")
        load = market.land("2026-10-06", *(sale(price=f"{10 + n}") for n in range(40)))
        market.run("2026-10-06")
        assert (
            load.counts()["loaded_rows"],
            market.rows("SELECT count(*) FROM comics.pricing_data_normalized"),
        ) == (
            40,
            [(40,)],
        )
        with market.database.connection() as connection:
            assert connection.pgconn.ssl_in_use
    finally:
        market.close()
    assert front.plain_connections == 0


@pytest.mark.parametrize(
    ("root", "host"),
    [("other_root", "localhost"), ("root", "127.0.0.1")],
    ids=["unknown root", "another name"],
)
def test_a_server_that_cannot_prove_its_name_is_refused_and_nothing_is_sent_in_clear(
    database_url, front, certificates, root, host
):
    url = through(database_url, front.port, getattr(certificates, root), host)
    with (
        Database(url, connect_timeout_seconds=5) as database,
        pytest.raises(LongboxError, match="certificate"),
    ):
        with database.connection():
            pass
    with pytest.raises(ExternalServerError, match="certificate") as refused:
        external.check_postgres(url, "LONGBOX_POSTGRES_URL")
    assert str(urlsplit(url).password) not in str(refused.value)
    assert front.plain_connections == 0


@pytest.fixture(scope="module")
def debian(certificates: Certificates) -> Iterator[int]:
    programs = system_postgres()
    if programs is None:
        pytest.skip("no PostgreSQL of Debian's packages in /usr/lib/postgresql (apt install postgresql)")
    folder = new_home()
    try:
        with running_with_tls(programs, folder, certificates) as port:
            yield port
    finally:
        remove_home(folder)


def test_debians_postgresql_is_reached_over_its_own_tls(debian, certificates):
    url = through("postgresql://longbox:unused@localhost/postgres", debian, certificates.root)
    with Database(url, role=None) as database, database.connection() as connection:
        row = connection.execute("SELECT version FROM pg_stat_ssl WHERE pid = pg_backend_pid()").fetchone()
        assert row == ("TLSv1.3",)
        number = connection.info.server_version
    if number >= 170000:
        assert external.check_postgres(url, "LONGBOX_POSTGRES_URL")
    else:  # an old release is told apart from one that cannot be reached
        with pytest.raises(ExternalServerError, match="Longbox needs 17 or newer"):
            external.check_postgres(url, "LONGBOX_POSTGRES_URL")


def test_debians_postgresql_with_an_unknown_certificate_is_refused(debian, certificates):
    url = through("postgresql://longbox:unused@localhost/postgres", debian, certificates.other_root)
    with pytest.raises(ExternalServerError, match="certificate"):
        external.check_postgres(url, "LONGBOX_POSTGRES_URL")


def test_a_database_that_was_never_migrated_says_so(debian, certificates):
    url = through("postgresql://longbox:unused@localhost/postgres", debian, certificates.root)
    with (
        Database(url, connect_timeout_seconds=1) as database,
        pytest.raises(LongboxError, match="longbox migrate"),
    ):
        with database.connection():
            pass
