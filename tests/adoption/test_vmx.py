"""Machines of VMX files: libvirt reads the file, the machine is converted and rendered, and libvirt writes it again."""

from __future__ import annotations

from pathlib import Path

import libvirt
import pytest

from polyvisor.adoption import Conversion, Mapping, PoolMapping, convert
from polyvisor.api import VirtualMachineInstance
from polyvisor.domain import DiskSource, DomainContext, render
from polyvisor.drivers.vmware import VmwareDriver
from tests.drivers.test_vmware_wire import stand_in

DRIVER = VmwareDriver()
PLAIN = {
    "config.version": "8",
    "virtualHW.version": "7",
    "displayName": "web",
    "memsize": "1024",
    "numvcpus": "4",
    "uuid.bios": "56 4d 9b ef ac d9 44 e0-88 f0 ae a8 b9 10 35 15",
    "guestOS": "other-64",
    "scsi0.present": "true",
    "scsi0.virtualDev": "lsilogic",
    "scsi0:0.present": "true",
    "scsi0:0.deviceType": "scsi-hardDisk",
    "scsi0:0.fileName": "{folder}/web.vmdk",
    "floppy0.present": "false",
}
NETWORK = {
    "ethernet0.present": "true",
    "ethernet0.virtualDev": "e1000",
    "ethernet0.connectionType": "nat",
    "ethernet0.addressType": "generated",
    "ethernet0.generatedAddress": "00:0c:29:00:00:01",
}
DISC = {
    "ide0:0.present": "true",
    "ide0:0.deviceType": "cdrom-image",
    "ide0:0.fileName": "{folder}/tools.iso",
}
FILES = {
    "plain": PLAIN,
    "two sockets": PLAIN | {"cpuid.coresPerSocket": "2"},
    "vlance": PLAIN | NETWORK | {"ethernet0.virtualDev": "vlance"},
    "vmxnet3": PLAIN | NETWORK | {"ethernet0.virtualDev": "vmxnet3"},
    "disc": PLAIN | NETWORK | DISC,
    "two disks": PLAIN
    | {
        "scsi0:1.present": "true",
        "scsi0:1.deviceType": "scsi-hardDisk",
        "scsi0:1.fileName": "{folder}/data.vmdk",
        "scsi0:1.writeThrough": "true",
    },
}
MADE_ANEW = (".addressType", ".generatedAddress", ".address", ".checkMACAddress", ".startConnected", "displayName")


@pytest.fixture
def vmware(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> libvirt.virConnect:
    stand_in(tmp_path, monkeypatch, "vmware", "VMware Workstation")
    return libvirt.open("vmwarews:///session")


def rendered(found: Conversion) -> str:
    spec = found.machine["spec"]["template"]["spec"]
    names = [volume["name"] for volume in spec["volumes"]]
    paths = [volume["spec"]["csi"]["volumeAttributes"]["path"] for volume in found.volumes]
    disks = {name: DiskSource(Path(path), "vmdk") for name, path in zip(names, paths, strict=True)}
    metadata = {"name": "web", "namespace": "default", "uid": "0f0e0d0c-0000-4000-8000-000000000001"}
    vmi = VirtualMachineInstance.model_validate({"metadata": metadata, "spec": spec})
    return render(vmi, DRIVER, DomainContext("vmware", disks=disks))


def entries(vmx: str) -> dict[str, str]:
    lines = (line.partition(" = ") for line in vmx.splitlines())
    return {key: value.strip('"') for key, _, value in lines}


@pytest.mark.parametrize("id_", FILES)
def test_file_that_is_written_again_has_what_the_first_one_had(
    id_: str, vmware: libvirt.virConnect, tmp_path: Path
) -> None:
    given = {key: value.format(folder=tmp_path) for key, value in FILES[id_].items()}
    xml = vmware.domainXMLFromNative("vmware-vmx", "".join(f'{key} = "{value}"\n' for key, value in given.items()))
    found = convert(xml, Mapping(storage=(PoolMapping("home", "home", str(tmp_path)),)))
    assert found.driver == "vmware"
    assert found.problems == ()
    vmware.defineXML(rendered(found))
    again = entries((tmp_path / "default_web.vmx").read_text())
    wanted = {key: value for key, value in given.items() if not key.endswith(MADE_ANEW)}
    assert {key: again.get(key) for key in wanted} == wanted
    if "ethernet0.present" in given:
        assert "00:0c:29:00:00:01" in (again.get("ethernet0.generatedAddress"), again.get("ethernet0.address"))
