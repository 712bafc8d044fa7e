"""Volumes made of texts: discs for a machine with disks, folders for one with a root filesystem."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from polyvisor.agent.errors import AgentError, UnsafePath
from polyvisor.agent.storage.making import Inputs, prepare
from polyvisor.agent.storage.sources import Places

from ..conftest import Layout, Make, PlainDriver, TreeDriver, member, tar


def label(image: Path) -> str:
    return image.read_bytes()[0x8028:0x8048].decode().strip()


def on_disc(image: Path) -> dict[str, str]:
    """Read the files of an ISO."""

    def isoinfo(*arguments: str) -> str:
        command = ["isoinfo", "-R", "-i", image, *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    found = {name.removeprefix("/"): isoinfo("-x", name) for name in isoinfo("-f").splitlines()}
    return {name: text for name, text in found.items() if text}


def test_config_drive(places: Places, home: Path, make_vmi: Make) -> None:
    source = {"userDataBase64": "dXNlcg==", "networkDataSecretRef": {"name": "n"}}
    inputs = Inputs(secrets={"n": {"networkdata": b"{}"}})
    domain = {"firmware": {"uuid": "5d307ca9-b3ef-428c-8861-06e72d69f223"}}
    vmi = make_vmi({"name": "init", "cloudInitConfigDrive": source}, domain=domain, hostname="given")
    image = prepare(vmi, PlainDriver(), home, places, inputs).files["init"].path
    assert label(image) == "config-2"
    files = on_disc(image)
    meta = json.loads(files.pop("openstack/latest/meta_data.json"))
    assert files == {"openstack/latest/user_data": "user", "openstack/latest/network_data.json": "{}"}
    assert meta == {"instance_id": "one.default", "hostname": "given", "uuid": "5d307ca9-b3ef-428c-8861-06e72d69f223"}


def test_config_drive_in_a_root_filesystem(layout: Layout, places: Places, home: Path, make_vmi: Make) -> None:
    layout.image("t:1", tar(member("sbin/init", b"#!", mode=0o755)))
    seed = {"name": "init", "cloudInitConfigDrive": {"userData": "user", "networkData": "{}"}}
    root = prepare(
        make_vmi({"name": "root", "containerDisk": {"image": "t:1"}}, seed), TreeDriver(), home, places, Inputs()
    ).root
    assert root
    found = root / "var/lib/cloud/seed/config_drive/openstack/latest"
    assert (found / "user_data").read_text() == "user"
    assert sorted(path.name for path in found.iterdir()) == ["meta_data.json", "network_data.json", "user_data"]


TEXTS = [
    {"name": "maps", "configMap": {"name": "m", "volumeLabel": "Mine"}},
    {"name": "words", "secret": {"secretName": "s"}},
    {
        "name": "self",
        "downwardAPI": {
            "fields": [
                {"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}},
                {"path": "deep/name", "fieldRef": {"fieldPath": "metadata.name"}},
                {"path": "one", "fieldRef": {"fieldPath": "metadata.annotations['a/b']"}},
            ]
        },
    },
    {"name": "answers", "sysprep": {"configMap": {"name": "a"}}},
]
POD = {"metadata": {"name": "virt-launcher-one", "labels": {"b": 'x"y', "a": "1"}, "annotations": {"a/b": "note"}}}
TEXT_INPUTS = Inputs(
    secrets={"s": {"password": b"s3cret"}},
    configmaps={"m": {"key.conf": b"value", "Upper.Case": b"1"}, "a": {"Autounattend.xml": b"<x/>"}},
    pod=POD,
)


def test_texts_become_discs(places: Places, home: Path, make_vmi: Make) -> None:
    files = prepare(make_vmi(*TEXTS), PlainDriver(), home, places, TEXT_INPUTS).files
    labels = {name: label(file.path) for name, file in files.items()}
    assert labels == {"maps": "Mine", "words": "cfgdata", "self": "cfgdata", "answers": "unattendCfg"}
    assert on_disc(files["maps"].path) == {"key.conf": "value", "Upper.Case": "1"}
    assert on_disc(files["words"].path) == {"password": "s3cret"}
    told = {"labels": 'a="1"\nb="x\\"y"', "deep/name": "virt-launcher-one", "one": "note"}
    assert on_disc(files["self"].path) == told
    assert {file.path.stat().st_mode & 0o777 for file in files.values()} == {0o600}


def test_texts_become_folders(layout: Layout, places: Places, home: Path, make_vmi: Make) -> None:
    layout.image("t:1", tar(member("sbin/init", b"#!", mode=0o755)))
    vmi = make_vmi({"name": "root", "containerDisk": {"image": "t:1"}}, *TEXTS[:3])
    prepared = prepare(vmi, TreeDriver(), home, places, TEXT_INPUTS)
    assert sorted(prepared.folders) == ["maps", "self", "words"]
    assert (prepared.folders["maps"] / "key.conf").read_text() == "value"
    assert (prepared.folders["self"] / "deep/name").read_text() == "virt-launcher-one"


ACCOUNT = {"name": "account", "serviceAccount": {"serviceAccountName": "worker"}}
TOKEN = Inputs(account={"token": b"t", "namespace": b"default", "ca.crt": b"c"})


def test_a_service_account_is_a_disc_or_a_folder(layout: Layout, places: Places, home: Path, make_vmi: Make) -> None:
    disc = prepare(make_vmi(ACCOUNT), PlainDriver(), home, places, TOKEN).files["account"].path
    assert (label(disc), on_disc(disc)) == ("cfgdata", {"token": "t", "namespace": "default", "ca.crt": "c"})
    layout.image("t:1", tar(member("sbin/init", b"#!", mode=0o755)))
    tree = home.with_name("tree")
    tree.mkdir()
    vmi = make_vmi({"name": "root", "containerDisk": {"image": "t:1"}}, ACCOUNT)
    assert (prepare(vmi, TreeDriver(), tree, places, TOKEN).folders["account"] / "token").read_text() == "t"


def test_without_a_kubelet_there_are_no_service_accounts(places: Places, home: Path, make_vmi: Make) -> None:
    with pytest.raises(AgentError, match="service account worker: a kubelet hands out their tokens") as caught:
        prepare(make_vmi(ACCOUNT), PlainDriver(), home, places, Inputs())
    assert not caught.value.retry


@pytest.mark.parametrize(
    ("volume", "message"),
    [
        ({"configMap": {"name": "gone"}}, "ConfigMap gone does not exist yet; waiting"),
        ({"secret": {"secretName": "gone"}}, "Secret gone does not exist yet; waiting"),
        ({"sysprep": {"secret": {"name": "gone"}}}, "Secret gone does not exist yet; waiting"),
        ({"sysprep": {"configMap": {"name": "m"}}}, "no key autounattend.xml"),
        ({"cloudInitConfigDrive": {"secretRef": {"name": "gone"}}}, "Secret gone .* waiting"),
    ],
)
def test_a_text_that_is_missing_is_waited_for(
    places: Places, home: Path, make_vmi: Make, volume: dict[str, Any], message: str
) -> None:
    with pytest.raises(AgentError, match=message) as caught:
        prepare(make_vmi({"name": "v", **volume}), PlainDriver(), home, places, TEXT_INPUTS)
    assert caught.value.retry
    assert not list(home.iterdir())


def test_an_optional_text_may_be_missing(places: Places, home: Path, make_vmi: Make) -> None:
    vmi = make_vmi({"name": "v", "configMap": {"name": "gone", "optional": True}})
    assert on_disc(prepare(vmi, PlainDriver(), home, places, Inputs()).files["v"].path) == {}


@pytest.mark.parametrize("key", ["../evil", "/etc/evil", "a/../../b", ".."])
def test_a_key_is_no_way_out(places: Places, home: Path, make_vmi: Make, key: str) -> None:
    inputs = Inputs(configmaps={"m": {key: b"x"}})
    vmi = make_vmi({"name": "v", "configMap": {"name": "m"}})
    if key.startswith("/"):
        prepare(vmi, PlainDriver(), home, places, inputs)
        assert not Path("/etc/evil").exists()
        return
    with pytest.raises(UnsafePath):
        prepare(vmi, PlainDriver(), home, places, inputs)
    assert not list(home.iterdir())
    assert not list(home.parent.glob("**/evil"))
