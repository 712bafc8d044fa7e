"""``create vm``: manifests from virtctl's flags, each of which admission understands."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest
import yaml

from .conftest import Cli


def made(cli: Cli, *flags: str) -> dict[str, Any]:
    result = cli("create", "vm", "--name", "web", *flags)
    assert result.code == 0, result.err
    found: dict[str, Any] = yaml.safe_load(result.out)
    return found


def test_plain(cli: Cli) -> None:
    vm = made(cli)
    assert vm == {
        "apiVersion": "kubevirt.io/v1",
        "kind": "VirtualMachine",
        "metadata": {"name": "web"},
        "spec": {
            "runStrategy": "Always",
            "template": {
                "metadata": {},
                "spec": {
                    "domain": {"devices": {}, "memory": {"guest": "512Mi"}, "resources": {}},
                    "terminationGracePeriodSeconds": 180,
                },
            },
        },
    }


def test_a_name_is_found_where_none_is_given(cli: Cli) -> None:
    names = {yaml.safe_load(cli("create", "vm").out)["metadata"]["name"] for _ in range(3)}
    assert len(names) == 3
    assert all(name.startswith("vm-") for name in names)


def test_volumes_and_boot_order(cli: Cli) -> None:
    flags = ["--volume-containerdisk", "src:registry:5000/os@sha256:abc,bootorder:1", "--volume-pvc", "src:ns/data"]
    spec = made(cli, *flags, "-n", "ns", "--volume-sysprep", "src:answers,type:secret")["spec"]["template"]["spec"]
    assert spec["volumes"] == [
        {"name": "web-containerdisk-0", "containerDisk": {"image": "registry:5000/os@sha256:abc"}},
        {"name": "data", "persistentVolumeClaim": {"claimName": "data"}},
        {"name": "sysprepdisk", "sysprep": {"secret": {"name": "answers"}}},
    ]
    disks = spec["domain"]["devices"]["disks"]
    assert disks[0] == {"name": "web-containerdisk-0", "disk": {}, "bootOrder": 1}
    assert disks[1] == {"name": "sysprepdisk", "cdrom": {}}


def test_imports(cli: Cli) -> None:
    vm = made(
        cli,
        *("--volume-import", "type:http,url:http://x/y.img,size:2Gi,name:os"),
        *("--volume-import", "type:blank,size:1Gi"),
        *("--volume-import", "type:ds,src:images/debian"),
        *("--volume-import", "type:pvc,src:images/old"),
    )
    specs = [each["spec"] for each in vm["spec"]["dataVolumeTemplates"]]
    assert specs[0]["source"] == {"http": {"url": "http://x/y.img"}}
    assert specs[0]["storage"]["resources"]["requests"]["storage"] == "2Gi"
    assert specs[1]["source"] == {"blank": {}}
    assert specs[2]["sourceRef"] == {"kind": "DataSource", "namespace": "images", "name": "debian"}
    assert specs[3]["source"] == {"pvc": {"namespace": "images", "name": "old"}}
    assert vm["spec"]["template"]["spec"]["volumes"][0] == {"name": "os", "dataVolume": {"name": "os"}}


def test_cloud_init(cli: Cli, tmp_path: Path) -> None:
    password = tmp_path / "password"
    password.write_text("s3cret: yes\n")
    spec = made(cli, "--user", "me", "--password-file", str(password), "--ssh-key", "ssh-ed25519 A a,ssh-ed25519 B b")[
        "spec"
    ]["template"]["spec"]
    (volume,) = spec["volumes"]
    text = volume["cloudInitNoCloud"]["userData"]
    assert text.startswith("#cloud-config\n")
    assert yaml.safe_load(text) == {
        "user": "me",
        "password": "s3cret: yes",
        "chpasswd": {"expire": False},
        "ssh_authorized_keys": ["ssh-ed25519 A a", "ssh-ed25519 B b"],
    }
    given = base64.b64encode(b"#cloud-config\n").decode()
    spec = made(cli, "--cloud-init", "configdrive", "--cloud-init-user-data", given)["spec"]["template"]["spec"]
    assert spec["volumes"] == [{"name": "cloudinitdisk", "cloudInitConfigDrive": {"userDataBase64": given}}]


def test_older_forms_of_imports(cli: Cli) -> None:
    spec = made(cli, "--volume-blank", "size:1Gi,name:data", "--volume-clone-pvc", "src:default/os,name:root")["spec"]
    new = made(
        cli, "--volume-import", "type:pvc,src:default/os,name:root", "--volume-import", "type:blank,size:1Gi,name:data"
    )
    assert spec == new["spec"]


def test_instance_types_and_preferences(cli: Cli) -> None:
    spec = made(cli, "--instancetype", "virtualmachineinstancetype/small", "--preference", "linux")["spec"]
    assert spec["instancetype"] == {"kind": "VirtualMachineInstancetype", "name": "small"}
    assert spec["preference"] == {"name": "linux"}
    assert "memory" not in spec["template"]["spec"]["domain"]
    spec = made(cli, "--volume-pvc", "src:os", "--infer-instancetype", "--infer-preference-from", "os")["spec"]
    assert spec["instancetype"] == spec["preference"] == {"inferFromVolume": "os"}


def test_access_credentials(cli: Cli) -> None:
    flags = ["--access-cred", "src:keys,method:ga,user:me", "--access-cred", "src:pass,type:password"]
    first, second = made(cli, *flags)["spec"]["template"]["spec"]["accessCredentials"]
    assert first["sshPublicKey"]["source"] == {"secret": {"secretName": "keys"}}
    assert first["sshPublicKey"]["propagationMethod"] == {"qemuGuestAgent": {"users": ["me"]}}
    assert second["userPassword"]["propagationMethod"] == {"qemuGuestAgent": {}}


def test_a_driver_can_be_named(cli: Cli) -> None:
    assert made(cli, "--driver", "lxc")["spec"]["template"]["spec"]["hypervisor"] == {"driver": "lxc"}


def test_what_is_made_is_taken(on_server: Cli, tmp_path: Path) -> None:
    text = on_server("create", "vm", "--name", "taken", "--volume-containerdisk", "src:x/y:1", "--user", "me").out
    file = tmp_path / "vm.yaml"
    file.write_text(text)
    assert on_server("create", "-f", str(file)).code == 0
    assert on_server("delete", "vm", "taken").code == 0


@pytest.mark.parametrize(
    "flags",
    [
        ["--run-strategy", "Sometimes"],
        ["--memory", "much"],
        ["--memory", "-1Mi"],
        ["--memory", "1Gi", "--instancetype", "small"],
        ["--instancetype", "pod/small"],
        ["--instancetype", "small", "--infer-instancetype"],
        ["--infer-preference"],
        ["--volume-containerdisk", "name:x"],
        ["--volume-containerdisk", "src:x,name:-"],
        ["--volume-containerdisk", "src:x,colour:red"],
        ["--volume-containerdisk", "src:x,src:y"],
        ["--volume-containerdisk", "src:x,bootorder:0"],
        ["--volume-containerdisk", "src:x,bootorder:1", "--volume-pvc", "src:y,bootorder:1"],
        ["--volume-pvc", "src:a", "--volume-pvc", "src:a"],
        ["--volume-pvc", "src:other/a", "-n", "mine"],
        ["--volume-import", "type:tape,size:1Gi"],
        ["--volume-import", "type:http,url:http://x"],
        ["--volume-import", "type:pvc"],
        ["--volume-sysprep", "src:x,type:disk"],
        ["--cloud-init", "floppy", "--user", "me"],
        ["--cloud-init", "none", "--user", "me"],
        ["--cloud-init-user-data", "%%%"],
        ["--cloud-init-user-data", "eA==", "--user", "me"],
        ["--password-file", "/no/such/file"],
        ["--access-cred", "type:ssh"],
        ["--access-cred", "src:x,method:ga"],
        ["--access-cred", "src:x,type:password,method:nocloud"],
        ["--access-cred", "src:x,method:pigeon,user:me"],
    ],
)
def test_wrong_flags(cli: Cli, flags: list[str]) -> None:
    result = cli("create", "vm", "--name", "web", *flags)
    assert result.code == 2
    assert result.err.startswith("polyvisor: --")
    assert result.out == ""


def test_create_without_anything(cli: Cli) -> None:
    assert cli("create").code == 2
