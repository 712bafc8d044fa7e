from __future__ import annotations

import asyncio
import ssl
from datetime import timedelta

import pytest

from polyvisor.process.certificates import issue_client, issue_server, make_authority, parsed, signed_by
from polyvisor.process.pairs import load_pair
from polyvisor.process.serving import common_name

DAY = timedelta(days=1)


async def handshake(server: ssl.SSLContext, client: ssl.SSLContext, name: str) -> str:
    """Connect by TLS and return the client's common name as the server sees it."""
    seen: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.set_result(common_name(writer.get_extra_info("peercert")))
        writer.close()

    listening = await asyncio.start_server(accepted, "127.0.0.1", 0, ssl=server)
    port = listening.sockets[0].getsockname()[1]
    async with listening, asyncio.timeout(10):
        _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=client, server_hostname=name)
        found = await seen
        writer.close()
    return found


@pytest.mark.parametrize("name", ["virt-api.kubevirt.svc", "127.0.0.1"])
async def test_two_roles_of_one_authority_know_each_other(name: str) -> None:
    authority = make_authority("polyvisor", DAY)
    believed = authority.certificate.decode()
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cadata=believed)
    server.verify_mode = ssl.CERT_REQUIRED
    load_pair(server, issue_server(authority, ["virt-api.kubevirt.svc", "127.0.0.1"], DAY))
    client = ssl.create_default_context(cadata=believed)
    load_pair(client, issue_client(authority, "kubevirt.io:system:client:virt-api", DAY))
    assert await handshake(server, client, name) == "kubevirt.io:system:client:virt-api"


async def test_a_clients_pair_is_no_servers() -> None:
    authority = make_authority("polyvisor", DAY)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    load_pair(server, issue_client(authority, "virt-api.kubevirt.svc", DAY))
    client = ssl.create_default_context(cadata=authority.certificate.decode())
    with pytest.raises(ssl.SSLCertVerificationError):
        await handshake(server, client, "virt-api.kubevirt.svc")


def test_a_leaf_does_not_outlive_its_authority() -> None:
    authority = make_authority("polyvisor", DAY)
    leaf = parsed(issue_server(authority, ["a"], 30 * DAY))
    assert leaf.not_valid_after_utc <= parsed(authority).not_valid_after_utc
    assert signed_by(leaf, parsed(authority))
    assert not signed_by(leaf, parsed(make_authority("polyvisor", DAY)))
