"""URLs of object stores that name no place, or another one than they seem to."""

import pytest

from resources.errors import UserError
from resources.object_store import ObjectStore


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("s3://bucket/a//b", "empty path segment.*write it as in s3://bucket/prefix"),
        ("s3://bucket/data?version=1", "is written %3F"),
        ("s3://bucket/#1", "or %23"),
        ("file:///srv/a#b", "or %23"),
        ("ftp://host/data", "the scheme must be one of"),
    ],
)
def test_a_url_that_leads_elsewhere_than_it_says_is_refused(url: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        ObjectStore.from_url(url)
