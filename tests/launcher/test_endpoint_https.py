"""Where a launcher uploads to by HTTPS, and as whom."""

from __future__ import annotations

import pytest

from polyvisor.launcher.endpoint.https import Access, put
from polyvisor.launcher.endpoint.owned import Refused


@pytest.mark.parametrize("url", ["http://host/folder/a", "https://other/folder/a", "https://host@other/a", "file:///a"])
def test_the_password_goes_to_the_host_of_the_connection_alone(url: str) -> None:
    with pytest.raises(Refused, match="an https address of the host host is expected"):
        put(Access("esx://root@host/", password="Pa55"), url, iter([b""]), 0)


def test_an_upload_is_verified_as_the_connection_is() -> None:
    assert Access("esx://root@host/").verified
    assert not Access("esx://root@host/?no_verify=1").verified


def test_the_user_is_that_of_the_uri_or_the_one_that_was_given() -> None:
    assert Access("esx://a%40b@host/", "c").user == "a@b"
    assert Access("esx://host/", "c", "Pa55").user == "c"
    assert "Pa55" not in repr(Access("esx://host/", "c", "Pa55"))
