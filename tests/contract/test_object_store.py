"""One suite for every object store: a local directory and a real S3 API keep and tell the same things."""

import base64
import hashlib
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import date

import pytest

from deploy.local.external import check_object_store
from pipelines.catalog.loader import load_catalog
from pipelines.ingestion import land_file
from resources.errors import (
    LongboxError,
    ObjectMissingError,
    ObjectStoreError,
    ObjectStoreUnavailableError,
    UserError,
)
from resources.object_store import ObjectStore
from resources.probes import probe_store
from tests.http_proxy import http_proxy_for
from tests.proxy import proxy_for
from tests.s3_server import new_bucket_name
from tests.shop import csv_of, make_shop, open_shop

STRANGE_NAMES = [
    "a b.csv",
    "ünï.csv",
    "100%.csv",
    "x%2Fy.csv",
    "a#b?c.csv",
    "p+q&r=s.csv",
    "z" * 200 + ".csv",
]


@pytest.fixture(params=["file", "s3"])
def url(request):
    return request.getfixturevalue("object_store_url" if request.param == "file" else "s3_url")


@pytest.fixture
def store(url):
    return ObjectStore.from_url(url)


def test_what_was_put_is_read_back_and_told(store):
    store.put("landing/a/b.csv", b"hello")
    info = store.head("landing/a/b.csv")
    assert info is not None
    assert (info.path, info.size_bytes) == ("landing/a/b.csv", 5)
    assert b"".join(store.read("landing/a/b.csv")) == b"hello"


def test_a_local_file_is_put_whole(store, tmp_path):
    (tmp_path / "big").write_bytes(bytes(range(256)) * 40_000)
    store.put("big", tmp_path / "big")
    assert b"".join(store.read("big")) == (tmp_path / "big").read_bytes() == store.fetch("big")
    assert max(map(len, store.read("big"))) < 8 << 20, "an object is streamed, not held"


def test_the_tag_changes_with_the_content_and_only_then_with_nothing_else_read(store):
    store.put("a", b"one")
    first = store.head("a")
    assert store.head("a") == first
    store.put("a", b"two")
    assert store.head("a").e_tag != first.e_tag


@pytest.mark.parametrize("name", STRANGE_NAMES)
def test_strange_names_are_kept_as_they_are(store, name):
    store.put(f"d/{name}", b"x")
    assert [info.path for info in store.list("d")] == [f"d/{name}"]
    assert b"".join(store.read(f"d/{name}")) == b"x"
    store.delete(f"d/{name}")
    assert list(store.list("d")) == []


def test_listing_is_ordered_whole_and_within_its_folder(store):
    for number in range(1100):
        store.put(f"many/{number:05d}", b"")
    store.put("manyother/x", b"")
    assert [info.path for info in store.list("many")] == [f"many/{number:05d}" for number in range(1100)]
    assert store.list_folders("") == ["many", "manyother"]
    store.put("z", b"")
    assert store.list_level("") == (["z"], ["many", "manyother"]) and store.list_level("manyother") == (
        ["x"],
        [],
    )
    store.put("deep/er/x", b"")
    assert store.has_objects("deep")


def test_what_is_absent_is_told_as_absent(store):
    assert store.head("no/such") is None
    assert list(store.list("no")) == []
    assert store.list_folders("no") == []
    assert store.list_level("no") == ([], [])
    store.delete("no/such")
    with pytest.raises(ObjectMissingError, match="no/such"):
        list(store.read("no/such"))
    with pytest.raises(ObjectMissingError, match="no/such"):
        store.fetch("no/such")


def test_a_landing_day_loads_from_it_once(url, database_url, tmp_path):
    shop = open_shop(database_url, url, tmp_path)
    shop.land("2026-10-30", "a b.csv", csv_of(("north", "1", "chair", "10.00", "2026-10-29")))
    first, again = shop.load("2026-10-30"), shop.load("2026-10-30")
    shop.close()
    assert (first.loaded_rows, first.rows_written, again.loaded_rows, again.bytes_read) == (1, 1, 1, 0)


def write_at_once(store, path, files):
    """Put every file to `path` in the same moment; which of them was written."""
    start = threading.Barrier(len(files))

    def write(file):
        start.wait()
        return store.put_new(path, file)

    with ThreadPoolExecutor(len(files)) as threads:
        return [*threads.map(write, files)]


@pytest.fixture
def local(tmp_path):
    """moto's server looks and writes in two steps: what it does with several at once says nothing of S3."""
    return ObjectStore.from_url((tmp_path / "store").as_uri())


@pytest.fixture
def late(s3_url, monkeypatch):
    """An S3 store whose first look at an object comes before the object does."""
    store, looks = ObjectStore.from_url(s3_url), []
    head = store.head

    def look(path):
        looks.append(path)
        return head(path) if len(looks) > 1 else None

    monkeypatch.setattr(store, "head", look)
    return store


def test_what_came_to_s3_since_it_was_looked_for_stays(late, tmp_path):
    (tmp_path / "mine").write_text("mine")
    late.put("new", b"theirs")
    assert not late.put_new("new", tmp_path / "mine")
    assert late.fetch("new") == b"theirs"


def test_a_file_of_a_name_that_came_to_s3_since_it_was_looked_for_does_not_land(late, tmp_path):
    feed = load_catalog([make_shop(tmp_path)]).systems["shop"].feeds["sales"]
    (tmp_path / "sales.csv").write_text("mine")
    path = f"{feed.prefix}2026-10-05/sales.csv"
    late.put(path, b"theirs")
    with pytest.raises(UserError, match="has landed already with other content"):
        land_file(late, feed, tmp_path / "sales.csv", date(2026, 10, 5))
    assert late.fetch(path) == b"theirs"


def test_of_several_that_are_new_at_one_path_at_once_one_is_written_and_stays(local, tmp_path):
    files = [tmp_path / str(number) for number in range(4)]
    for file in files:
        file.write_text(file.name)
    for turn in range(5):
        (first,) = (n for n, written in enumerate(write_at_once(local, f"new/{turn}", files)) if written)
        assert local.fetch(f"new/{turn}") == files[first].read_bytes()
        assert not local.put_new(f"new/{turn}", files[0])
        assert local.fetch(f"new/{turn}") == files[first].read_bytes()


def test_a_large_file_is_new_where_nothing_is_and_goes_up_in_parts(store, tmp_path):
    file = tmp_path / "large"
    file.write_bytes(bytes(range(256)) * (33 << 12))
    assert store.put_new("large", file)
    assert b"".join(store.read("large")) == file.read_bytes()
    file.write_bytes(b"other")
    assert not store.put_new("large", file)
    assert store.head("large").size_bytes == 33 << 20


def test_of_files_of_one_name_that_land_at_once_one_lands(local, tmp_path):
    feed = load_catalog([make_shop(tmp_path)]).systems["shop"].feeds["sales"]
    files = [tmp_path / place / "sales.csv" for place in "abc"]
    for file in files:
        file.parent.mkdir()
        file.write_text(file.parent.name)
    start = threading.Barrier(len(files))

    def land(file):
        start.wait()
        try:
            return land_file(local, feed, file, date(2026, 10, 5))
        except LongboxError as error:
            assert "landed" in str(error)
            return None

    with ThreadPoolExecutor(len(files)) as threads:
        ((path, file),) = (
            (path, file) for path, file in zip(threads.map(land, files), files, strict=True) if path
        )
    assert local.fetch(path) == file.read_bytes()
    assert land_file(local, feed, file, date(2026, 10, 5)) == path, "the same content again is landed already"


@pytest.mark.parametrize("wrong", ["ftp://x/y", "/just/a/path", "file://host/path"])
def test_a_url_that_is_none_says_what_would_be_right(wrong):
    with pytest.raises(UserError, match="file:///"):
        ObjectStore.from_url(wrong)


def test_a_disk_that_fails_while_a_local_file_is_read_is_a_fault_to_try_again(tmp_path):
    (tmp_path / "sales.csv").symlink_to("/proc/self/mem")  # which opens and cannot be read
    with pytest.raises(
        ObjectStoreUnavailableError, match=r"could not read 'sales.csv': .*Input/output error"
    ):
        list(ObjectStore.from_url(tmp_path.as_uri()).read("sales.csv"))


def test_a_store_that_is_away_is_a_fault_to_try_again(s3_url, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    away = ObjectStore.from_url(s3_url, retries=0)
    with pytest.raises((ObjectStoreUnavailableError, ObjectStoreError)) as caught:
        list(away.list("x"))
    assert caught.value.retryable


def test_a_store_that_did_not_answer_is_asked_once_until_it_does(s3_endpoint, s3_url, monkeypatch):
    """A run asks hundreds of times: with each one's retries, and 30 s for each, it would hang for hours."""
    with proxy_for(s3_endpoint) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url(s3_endpoint))
        store = ObjectStore.from_url(s3_url, retries=3)
        store.put("a", b"one")
        proxy.is_refusing = True
        proxy.cut()
        for asked_before, ask in ((0, lambda: store.head("a")), (4, lambda: store.put("a", b"two")),
                                  (5, lambda: [*store.list("")]), (6, lambda: [*store.read("a")])):  # fmt: skip
            assert proxy.refused == asked_before
            with pytest.raises(ObjectStoreUnavailableError, match="check that the store can be reached"):
                ask()
        proxy.is_refusing = False
        assert store.fetch("a") == b"one"
        proxy.is_refusing = True
        proxy.cut()
        with pytest.raises(ObjectStoreUnavailableError):
            store.head("a")
        assert proxy.refused == 7 + 4, "it answered since: a passing fault is tried again"


@pytest.fixture
def requests(s3_endpoint, s3_url, monkeypatch):
    """The headers, names in small letters, of every request to the S3 store of `s3_url`."""
    seen = []
    with http_proxy_for(s3_endpoint) as proxy:
        proxy.header_for = lambda headers: seen.append({k.lower(): v for k, v in headers.items()}) or {}
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        yield seen


def test_what_is_in_memory_goes_up_in_one_request_that_the_server_can_check(s3_url, requests):
    """Of a killed upload in several requests parts would stay that no listing shows, and that are paid for."""
    store, data = ObjectStore.from_url(s3_url), bytes(range(256)) * (20 << 12)
    store.put("plain", data)
    store.put("sealed", memoryview(data), is_sealed=True)
    plain, sealed = requests
    assert plain["x-amz-content-sha256"] == hashlib.sha256(data).hexdigest()
    assert base64.b64decode(plain["x-amz-checksum-sha256"]) == hashlib.sha256(data).digest()
    assert sealed["x-amz-content-sha256"] == "UNSIGNED-PAYLOAD"
    assert len(base64.b64decode(sealed["x-amz-checksum-crc64nvme"])) == 8
    assert store.fetch("plain") == store.fetch("sealed") == data


def test_a_file_is_new_also_in_a_store_that_knows_no_conditional_requests(
    s3_endpoint, s3_url, monkeypatch, tmp_path
):
    file = tmp_path / "sales.csv"
    file.write_text("one")
    with http_proxy_for(s3_endpoint) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        store = ObjectStore.from_url(s3_url, retries=0)
        # as Backblaze B2 answers them
        proxy.answer = lambda method, path, number: 501 if (method, number) == ("PUT", 1) else None
        assert store.put_new("sales.csv", file)
        assert store.fetch("sales.csv") == b"one"
        assert not store.put_new("sales.csv", file)
        proxy.answer = lambda method, path, number: 503 if method == "PUT" else None
        with pytest.raises(ObjectStoreUnavailableError, match=r"could not write 'other.csv': .*503"):
            store.put_new("other.csv", file)


def test_a_file_whose_upload_was_not_answered_has_landed(s3_endpoint, s3_url, monkeypatch, tmp_path):
    """The driver asks again, and is told that the file is there: which is the one that it has put there itself."""
    feed = load_catalog([make_shop(tmp_path)]).systems["shop"].feeds["sales"]
    file = tmp_path / "sales.csv"
    file.write_text("one")
    with http_proxy_for(s3_endpoint) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        proxy.answer_lost = lambda method, path, number: (method, number) == ("PUT", 1)
        store = ObjectStore.from_url(s3_url)
        path = land_file(store, feed, file, date(2026, 10, 5))
        assert proxy.counts["PUT"] == 2
        assert store.fetch(path) == b"one"


def test_a_bucket_that_is_not_there_is_told_by_name_and_looking_for_it_does_not_make_it(s3_url):
    """SeaweedFS makes the bucket of whatever is put."""
    missing = f"s3://{new_bucket_name('missing')}/data"
    for look in (probe_store, check_object_store, lambda url: list(ObjectStore.from_url(url).list(""))):
        with pytest.raises(LongboxError, match="bucket does not exist; make the bucket"):
            look(missing)
