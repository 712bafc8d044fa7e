"""Kubeconfigs: each way to say who one is, and what is said of one that cannot be used."""

from __future__ import annotations

import base64
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from polyvisor.kube import config
from polyvisor.kube.config import ConfigError, default_paths, discover, from_kubeconfig, in_cluster
from polyvisor.standalone.identity import Identity, ensure_identity

Write = Callable[..., Path]


@pytest.fixture(scope="module")
def identity(tmp_path_factory: pytest.TempPathFactory) -> Identity:
    return ensure_identity(tmp_path_factory.mktemp("identity"))


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(user: dict[str, Any] | None = None, **cluster: Any) -> Path:
        path = tmp_path / "kubeconfig"
        content = {
            "current-context": "here",
            "contexts": [
                {"name": "here", "context": {"cluster": "c", "user": "u", "namespace": "work"}},
                {"name": "other", "context": {"cluster": "d"}},
            ],
            "clusters": [
                {"name": "c", "cluster": {"server": "http://127.0.0.1:8080/", **cluster}},
                {"name": "d", "cluster": {"server": "http://example.org"}},
            ],
            "users": [{"name": "u", "user": user or {}}],
        }
        path.write_text(yaml.safe_dump(content))
        return path

    return write


def test_plain_connection_and_another_context(write: Write) -> None:
    found = from_kubeconfig(write())
    assert (found.server, found.namespace, found.authorization()) == ("http://127.0.0.1:8080", "work", "")
    assert found.loopback
    other = from_kubeconfig(write(), "other")
    assert (other.server, other.namespace, other.loopback) == ("http://example.org", "default", False)


def test_token_goes_before_token_file(write: Write, tmp_path: Path) -> None:
    (tmp_path / "t").write_text("of the file\n")
    assert from_kubeconfig(write({"token": "secret"})).authorization() == "Bearer secret"
    assert from_kubeconfig(write({"token": "secret", "tokenFile": "t"})).authorization() == "Bearer secret"


def test_token_file_is_read_again_when_it_is_old(write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "t").write_text("first\n")
    found = from_kubeconfig(write({"tokenFile": "t"}))
    assert found.authorization() == "Bearer first"
    (tmp_path / "t").write_text("second\n")
    assert found.authorization() == "Bearer first"
    monkeypatch.setattr(config, "TOKEN_LIFETIME", -1.0)
    assert found.authorization() == "Bearer second"


def test_user_name_and_password(write: Write) -> None:
    found = from_kubeconfig(write({"username": "me", "password": "p:w"}))
    assert found.authorization() == "Basic " + base64.b64encode(b"me:p:w").decode()


@pytest.mark.parametrize("inline", [True, False])
def test_certificates_by_file_or_inline(write: Write, identity: Identity, inline: bool) -> None:
    def given(key: str, path: Path) -> dict[str, str]:
        if inline:
            return {f"{key}-data": base64.b64encode(path.read_bytes()).decode()}
        return {key: str(path)}

    user = given("client-certificate", identity.cert) | given("client-key", identity.key)
    found = from_kubeconfig(
        write(user, server="https://127.0.0.1:1", **given("certificate-authority", identity.ca)), "here"
    )
    assert found.ssl_context is not None
    assert found.ssl_context.verify_mode == ssl.CERT_REQUIRED
    assert len(found.ssl_context.get_ca_certs()) >= 1


def test_verification_is_off_only_where_asked(write: Write) -> None:
    found = from_kubeconfig(write(None, server="https://127.0.0.1:1", **{"insecure-skip-tls-verify": True}))
    assert found.ssl_context is not None
    assert found.ssl_context.verify_mode == ssl.CERT_NONE
    named = from_kubeconfig(write(None, server="https://127.0.0.1:1", **{"tls-server-name": "api"}))
    assert named.server_name == "api"
    assert named.ssl_context is not None
    assert named.ssl_context.verify_mode == ssl.CERT_REQUIRED


@pytest.mark.parametrize(
    ("user", "cluster", "says"),
    [
        ({}, {"server": "ftp://x"}, "no http"),
        ({}, {"server": None}, "no http"),
        ({}, {"server": "https://x", "certificate-authority-data": "?"}, "not base64"),
        ({}, {"server": "https://x", "certificate-authority": "gone.pem"}, "'gone.pem' cannot be read"),
        ({}, {"server": "https://x", "certificate-authority-data": "eA=="}, "certificates cannot be used"),
        (
            {"client-certificate-data": "eA==", "client-key-data": "eA=="},
            {"server": "https://x"},
            "certificates cannot be used",
        ),
    ],
)
def test_what_cannot_be_honoured_is_named(write: Write, user: Any, cluster: Any, says: str) -> None:
    path = write(user, **cluster)
    with pytest.raises(ConfigError, match=says) as caught:
        from_kubeconfig(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is not a kubeconfig"),
        (b"- a\n", "is not a kubeconfig"),
        (b"a: [", "is not YAML"),
        (b"\xff\xfe\x00\x01", "is not YAML"),
        (b"a: 1\n", "has no current-context"),
        (b"current-context: x\n", "contexts has no entry 'x'"),
        (b"current-context: x\ncontexts: 5\n", "contexts has no entry 'x'"),
        (b"current-context: [x]\ncontexts: []\n", "contexts has no entry"),
        (b"current-context: x\ncontexts: [{name: x, context: {cluster: c}}]\n", "clusters has no entry 'c'"),
        (b"current-context: x\ncontexts: [{name: x, context: 7}]\n", "clusters has no entry ''"),
        (
            b"current-context: x\ncontexts: [{name: x, context: {cluster: c, user: u}}]\n"
            b"clusters: [{name: c, cluster: {server: 'http://x'}}]\n",
            "users has no entry 'u'",
        ),
    ],
)
def test_broken_file_is_one_sentence(tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "kubeconfig"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        from_kubeconfig(path)
    assert says in str(caught.value)
    assert str(path) in str(caught.value)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        from_kubeconfig(tmp_path / "none")


def test_the_files_that_exist_apply(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there = tmp_path / "there"
    there.touch()
    monkeypatch.setenv("KUBECONFIG", f"{tmp_path}/none:{there}")
    assert default_paths() == [there]
    monkeypatch.setenv("KUBECONFIG", f"{tmp_path}/none:{tmp_path}/neither")
    assert default_paths() == [tmp_path / "none"]


def test_several_files_count_as_one_in_which_the_first_entry_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    first, second = tmp_path / "one" / "config", tmp_path / "two" / "config"
    first.write_text(
        "contexts: [{name: both, context: {cluster: far, user: me, namespace: team}}]\n"
        "users: [{name: other, user: {token: no}}]\n"
    )
    second.write_text(
        "current-context: both\n"
        "contexts: [{name: both, context: {cluster: nowhere}}]\n"
        "clusters: [{name: far, cluster: {server: 'http://far:1'}}]\n"
        "users: [{name: me, user: {tokenFile: token}}]\n"
    )
    (tmp_path / "two" / "token").write_text("mine")
    monkeypatch.setenv("KUBECONFIG", f"{first}:{tmp_path}/none:{second}")
    found = from_kubeconfig()
    assert (found.server, found.namespace, found.authorization()) == ("http://far:1", "team", "Bearer mine")
    with pytest.raises(ConfigError, match=f"{first}:{second}: contexts has no entry 'gone'"):
        from_kubeconfig(context="gone")


def test_service_account(tmp_path: Path, identity: Identity, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(ConfigError, match="not inside a cluster"):
        in_cluster(tmp_path)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "fd00::1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "6443")
    (tmp_path / "token").write_text("mine\n")
    (tmp_path / "namespace").write_text("work\n")
    (tmp_path / "ca.crt").write_bytes(identity.ca.read_bytes())
    found = in_cluster(tmp_path)
    assert (found.server, found.namespace) == ("https://[fd00::1]:6443", "work")
    assert found.authorization() == "Bearer mine"


def test_kubeconfig_that_is_named_goes_before_the_service_account(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    monkeypatch.setenv("KUBECONFIG", str(write()))
    assert discover().server == "http://127.0.0.1:8080"
