"""What decodes images in virt-handler's own container, which is privileged: nobody, with nothing but the image."""

from __future__ import annotations

import json

import pytest

from polyvisor.agent.images import decoding
from tests.e2e.nodes import NodesCluster

pytestmark = [pytest.mark.e2e, pytest.mark.proof]
SCRIPT = """
import json, subprocess, tempfile
from pathlib import Path
from polyvisor.agent.images import decoding
with tempfile.TemporaryDirectory() as folder:
    image = Path(folder, "image")
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", image, "3M"], check=True)
    image.chmod(0o444)
    command = decoding._command(decoding._Task((), image, 5))
    last = len(command) - 1 - command[::-1].index("/usr/bin/qemu-img")
    look = "id -u; id -G; echo /*; grep CapEff /proc/self/status; ls /sys/class/net /var/lib/kubelet"
    done = subprocess.run([*command[:last], "/usr/bin/sh", "-c", look], capture_output=True, text=True)
    lines = done.stdout.splitlines()
    print(json.dumps([decoding.confinement(), decoding.virtual_size(image, "qcow2", "it"), lines, done.stderr]))
"""


def test_the_decoder_of_a_node_agent_is_confined(pods: NodesCluster) -> None:
    where = ("--namespace=kubevirt", "exec", "daemonset/virt-handler", "--container=virt-handler", "--")
    said = pods.kubectl(*where, "python3", "-c", SCRIPT)
    confinement, size, (user, groups, root, *rest), complaints = json.loads(said.splitlines()[-1])
    assert (confinement, size) == (decoding.SANDBOX, 3 << 20)
    assert (user, groups) == (str(decoding.USER), str(decoding.USER)), complaints
    assert set(root.split()) <= {"/bin", "/dev", "/image", "/lib", "/lib64", "/usr"}
    assert not any("CapEff" in line and int(line.split()[1], 16) for line in rest)
    assert "/var/lib/kubelet" in complaints, "the node's folders are not there"
