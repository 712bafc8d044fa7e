"""Downloads whose connection is cut: taken up again where they were, or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from polyvisor.agent.errors import ImageError
from polyvisor.agent.imports import downloads
from polyvisor.agent.imports.downloads import Request, download
from polyvisor.agent.imports.incoming import Incoming

from ..web_server import Answer, Web, web

CONTENT = bytes(range(256)) * 256


@pytest.fixture
def site() -> Iterator[Web]:
    with web() as found:
        yield found


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloads, "PAUSES", (0.0, 0.0))


def fetch(site: Web, tmp_path: Path) -> tuple[bytes, list[float]]:
    told: list[float] = []
    with Incoming(tmp_path, "ns", "c", 1 << 20, "it") as into:
        download(Request(site.url("/disk")), into, told.append)
    return (tmp_path / "ns/c/disk.img").read_bytes()[: len(CONTENT)], told


def ranges(site: Web) -> list[str]:
    return [asked.get("Range", "") for asked in site.asked]


def test_a_cut_download_goes_on_where_it_was(site: Web, tmp_path: Path) -> None:
    site.answers["/disk"] = Answer(CONTENT, tag='"one"', hang_up_after=30_000)
    found, told = fetch(site, tmp_path)
    assert found == CONTENT
    assert ranges(site) == ["", "bytes=30000-", "bytes=60000-"]
    assert {asked.get("If-Range") for asked in site.asked[1:]} == {'"one"'}
    assert (told, told[-1]) == (sorted(told), 1.0)


def test_without_progress_it_is_given_up(site: Web, tmp_path: Path) -> None:
    site.answers["/disk"] = Answer(CONTENT, tag='"one"', hang_up_after=30_000)

    class Stubborn(dict[str, Answer]):
        def get(self, path: str, default: Answer | None = None) -> Answer:  # type: ignore[override]
            first = len(site.asked) == 1
            return Answer(CONTENT, tag='"one"', hang_up_after=30_000 if first else 0)

    site.answers = Stubborn()
    with pytest.raises(ImageError, match="cannot be fetched after 30000 bytes") as failed:
        fetch(site, tmp_path)
    assert failed.value.retry
    assert ranges(site) == ["", "bytes=30000-", "bytes=30000-"]


@pytest.mark.parametrize("tag", ["", 'W/"weak"'])
def test_a_file_that_the_server_does_not_vouch_for_is_not_pieced_together(site: Web, tmp_path: Path, tag: str) -> None:
    site.answers["/disk"] = Answer(CONTENT, headers={"ETag": tag} if tag else {}, hang_up_after=30_000)
    with pytest.raises(ImageError, match="cannot be fetched after 30000 bytes"):
        fetch(site, tmp_path)
    assert ranges(site) == [""]


def test_a_file_that_changed_meanwhile_is_not_pieced_together(site: Web, tmp_path: Path) -> None:
    class Changing(dict[str, Answer]):
        def get(self, path: str, default: Answer | None = None) -> Answer:  # type: ignore[override]
            return Answer(CONTENT, tag=f'"{len(site.asked)}"', hang_up_after=30_000)

    site.answers = Changing()
    with pytest.raises(ImageError, match="cut after 30000 bytes, and the server does not go on from there") as failed:
        fetch(site, tmp_path)
    assert failed.value.retry


def with_key(url: str, tmp_path: Path) -> None:
    request = Request(url, {"X-Api-Key": "s3cret", "Cookie": "session=1"}, "user", "password")
    with Incoming(tmp_path, "ns", "c", 1 << 20, "it") as into:
        download(request, into, lambda _: None)


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_what_the_user_sends_stays_with_the_server_that_the_user_named(site: Web, tmp_path: Path, code: int) -> None:
    with web() as other:
        site.answers["/disk"] = Answer(code=code, headers={"Location": "/moved"})
        site.answers["/moved"] = Answer(code=code, headers={"Location": other.url("/stolen")})
        other.answers["/stolen"] = Answer(CONTENT)
        with_key(site.url("/disk"), tmp_path)
        for asked in site.asked:
            assert (asked["X-Api-Key"], asked["Cookie"]) == ("s3cret", "session=1")
            assert asked["Authorization"].startswith("Basic ")
        assert len(site.asked) == 2
        assert [sorted(asked.keys() & {"X-Api-Key", "Cookie", "Authorization"}) for asked in other.asked] == [[]]


def test_redirects_have_an_end(site: Web, tmp_path: Path) -> None:
    site.answers["/disk"] = Answer(code=302, headers={"Location": "/disk"})
    with pytest.raises(ImageError, match="more than 5 redirects"):
        with_key(site.url("/disk"), tmp_path)


def test_a_redirect_to_a_file_is_not_followed(site: Web, tmp_path: Path) -> None:
    site.answers["/disk"] = Answer(code=302, headers={"Location": "file:///etc/passwd"})
    with pytest.raises(ImageError):
        with_key(site.url("/disk"), tmp_path)
