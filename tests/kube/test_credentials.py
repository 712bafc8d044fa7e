"""Credentials from plug-ins: real programs, small ones."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from polyvisor.kube.config import ConfigError, from_kubeconfig
from polyvisor.kube.credentials import CredentialsError
from polyvisor.standalone.identity import Identity, ensure_identity

V1 = "client.authentication.k8s.io/v1"
Plugin = Callable[..., dict[str, Any]]


@pytest.fixture
def plugin(tmp_path: Path) -> Plugin:
    """Write a plug-in that answers with a status and records how it was asked; return the ``exec`` entry."""

    def write(status: dict[str, Any] | None = None, *, script: str = "", **entry: Any) -> dict[str, Any]:
        path = tmp_path / "plugin"
        answer = {"apiVersion": V1, "kind": "ExecCredential", "status": status or {"token": "of-the-plug-in"}}
        (tmp_path / "answer").write_text(json.dumps(answer))
        path.write_text(
            f'#!/bin/sh\nprintf "%s\\n" "$KUBERNETES_EXEC_INFO" >>{tmp_path}/asked\n'
            f'printf "%s\\n" "$@" "$OF_ENV" >{tmp_path}/given\n{script or f"cat {tmp_path}/answer"}\n'
        )
        path.chmod(0o755)
        return {"apiVersion": V1, "command": "./plugin", "interactiveMode": "Never", **entry}

    return write


def kubeconfig(folder: Path, user: dict[str, Any], **cluster: Any) -> Path:
    content = {
        "current-context": "here",
        "contexts": [{"name": "here", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": {"server": "https://127.0.0.1:1", **cluster}}],
        "users": [{"name": "u", "user": user}],
    }
    path = folder / "kubeconfig"
    path.write_text(yaml.safe_dump(content))
    return path


def test_a_plug_in_gives_the_token(tmp_path: Path, plugin: Plugin) -> None:
    entry = plugin(args=["get-token", "--x"], env=[{"name": "OF_ENV", "value": "e"}], provideClusterInfo=True)
    found = from_kubeconfig(kubeconfig(tmp_path, {"exec": entry}, **{"tls-server-name": "other"}))
    assert found.authorization() == "Bearer of-the-plug-in"
    assert (tmp_path / "given").read_text().split() == ["get-token", "--x", "e"]
    asked = json.loads((tmp_path / "asked").read_text())
    assert asked["kind"] == "ExecCredential"
    assert asked["spec"]["interactive"] is False
    assert asked["spec"]["cluster"]["tls-server-name"] == "other"


async def test_it_is_run_again_only_when_the_credentials_expire(tmp_path: Path, plugin: Plugin) -> None:
    def at(offset: timedelta) -> str:
        return (datetime.now(UTC) + offset).isoformat().replace("+00:00", "Z")

    def times() -> int:
        return len((tmp_path / "asked").read_text().splitlines())

    entry = plugin({"token": "short", "expirationTimestamp": at(timedelta(seconds=1))})
    found = from_kubeconfig(kubeconfig(tmp_path, {"exec": entry}))
    assert times() == 1
    plugin({"token": "long", "expirationTimestamp": at(timedelta(hours=1))})
    await found.prepare()
    assert (found.authorization(), times()) == ("Bearer long", 2)
    assert (found.authorization(), times()) == ("Bearer long", 2)


def test_a_plug_in_gives_a_client_certificate(tmp_path: Path, plugin: Plugin) -> None:
    identity: Identity = ensure_identity(tmp_path)
    status = {"clientCertificateData": identity.cert.read_text(), "clientKeyData": identity.key.read_text()}
    found = from_kubeconfig(kubeconfig(tmp_path, {"exec": plugin(status)}))
    assert found.authorization() == ""
    with pytest.raises(ConfigError, match="gave a client certificate that cannot be used"):
        from_kubeconfig(kubeconfig(tmp_path, {"exec": plugin({**status, "clientKeyData": "nonsense"})}))


@pytest.mark.parametrize(
    ("entry", "script", "message"),
    [
        (
            {"command": "no-such-plugin", "installHint": "Install it."},
            "",
            "no-such-plugin is not installed. Install it",
        ),
        ({}, "exit 3", "failed with exit code 3"),
        ({}, "echo secret-text", "did not print an ExecCredential object"),
        ({"apiVersion": "client.authentication.k8s.io/v1beta1"}, "", "the kubeconfig asks for .*v1beta1"),
        ({"apiVersion": "v9"}, "", "exec.apiVersion 'v9' is not supported"),
        ({"command": ""}, "", "exec.command must name a program"),
        ({"interactiveMode": "Always"}, "", "there is no terminal"),
    ],
)
def test_plug_ins_that_give_nothing(
    tmp_path: Path, plugin: Plugin, entry: dict[str, Any], script: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        from_kubeconfig(kubeconfig(tmp_path, {"exec": plugin(script=script, **entry)}))
    assert str(tmp_path / "kubeconfig") in str(caught.value)
    assert "secret-text" not in str(caught.value)


def test_a_later_failure_is_an_error_of_the_call(tmp_path: Path, plugin: Plugin) -> None:
    found = from_kubeconfig(kubeconfig(tmp_path, {"exec": plugin({"token": "x", "expirationTimestamp": "2020-01-01"})}))
    plugin(script="exit 1")
    with pytest.raises(CredentialsError, match="exit code 1") as caught:
        found.authorization()
    assert (caught.value.code, caught.value.reason) == (401, "Unauthorized")


def test_an_auth_provider_is_used_until_its_token_expires(tmp_path: Path) -> None:
    def of(**config: str) -> dict[str, Any]:
        return {"auth-provider": {"name": "oidc", "config": config}}

    assert from_kubeconfig(kubeconfig(tmp_path, of(**{"id-token": "t"}))).authorization() == "Bearer t"
    with pytest.raises(ConfigError, match=re.escape("expired at 2020-01-01 00:00 UTC")):
        from_kubeconfig(kubeconfig(tmp_path, of(**{"access-token": "t", "expiry": "2020-01-01T00:00:00Z"})))
    with pytest.raises(ConfigError, match="holds no token"):
        from_kubeconfig(kubeconfig(tmp_path, of()))
