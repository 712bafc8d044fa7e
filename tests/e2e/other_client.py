"""Drives a machine with a client that others wrote for KubeVirt; run by its own interpreter, with a kubeconfig."""

import sys

from ocp_resources.resource import get_client
from ocp_resources.virtual_machine import VirtualMachine

NAME = "theirs"
BOOT = {"image": "localhost/polyvisor/demo-kernel:1", "kernelPath": "/boot/vmlinuz", "initrdPath": "/boot/initrd.img"}
SPEC = {
    "terminationGracePeriodSeconds": 5,
    "domain": {
        "memory": {"guest": "96Mi"},
        "devices": {},
        "firmware": {"kernelBoot": {"kernelArgs": "console=ttyS0", "container": BOOT}},
    },
}
BODY = {
    "apiVersion": "kubevirt.io/v1",
    "kind": "VirtualMachine",
    "metadata": {"name": NAME, "namespace": "default"},
    "spec": {"runStrategy": "Halted", "template": {"spec": SPEC}},
}


def said(*words: object) -> None:
    sys.stdout.write(f"SAID {' '.join(map(str, words))}\n")


vm = VirtualMachine(client=get_client(config_file=sys.argv[1]), name=NAME, namespace="default", body=BODY)
vm.deploy(wait=True)
said("made")
vm.start(wait=True)
vm.vmi.wait_until_running(timeout=120)
first = vm.vmi.instance.metadata.uid
said("started", vm.printable_status, vm.vmi.status)
vm.vmi.pause(wait=True)
said("held", vm.printable_status)
vm.vmi.unpause(wait=True)
vm.restart(wait=True)
said("restarted", vm.vmi.instance.metadata.uid != first)
vm.stop(wait=True)
said("stopped", vm.printable_status)
vm.clean_up()
said("gone", vm.exists is None)
