"""Options of pods/log: honoured or refused, none ignored."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from polyvisor.server.errors import Refusal
from polyvisor.server.log_options import LogOptions, limited, parse


def test_what_is_honoured() -> None:
    query = {"container": "c", "follow": "true", "tailLines": "3", "limitBytes": "10", "timestamps": "false"}
    assert parse(query) == LogOptions("c", True, 3, 10)
    assert parse({}) == LogOptions("", False, None, None)


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ({"timestamps": "true"}, "timestamps is not supported"),
        ({"sinceSeconds": "5"}, "sinceSeconds is not supported"),
        ({"sinceTime": "2026-01-01T00:00:00Z"}, "sinceTime is not supported"),
        ({"previous": "true"}, "previous is not supported"),
        ({"tailLines": "x"}, "tailLines: 'x' is not a number"),
        ({"limitBytes": "-1"}, "limitBytes: '-1' is not a number"),
    ],
)
def test_what_is_refused(query: dict[str, str], words: str) -> None:
    with pytest.raises(Refusal, match=words) as caught:
        parse(query)
    assert caught.value.code == 400


async def test_bytes_are_limited_across_chunks() -> None:
    read = []

    async def chunks() -> AsyncIterator[bytes]:
        for chunk in (b"abc", b"def", b"ghi"):
            read.append(chunk)
            yield chunk

    assert [one async for one in limited(chunks(), 4)] == [b"abc", b"d"]
    assert read == [b"abc", b"def"]
    assert b"".join([one async for one in limited(chunks(), None)]) == b"abcdefghi"
