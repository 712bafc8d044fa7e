"""What a cluster can do wrong to Polyvisor: each has one clear message or condition, and the rest goes on."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from polyvisor.api.resources import SECRETS, VMIS
from polyvisor.controllers.certificates import Lifetimes, roles
from polyvisor.process.certificates import now
from polyvisor.process.pairs import Pair
from tests.e2e.cluster import cluster, free_port
from tests.e2e.goprograms import NoGo
from tests.e2e.installation import ENABLED, Installation, eventually
from tests.needs import unmet
from tests.server.test_webhooks import vmi

Obj = dict[str, Any]
pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def installation() -> Iterator[Installation]:
    try:
        with cluster("kube-controller-manager") as control_plane, ExitStack() as stack:
            found = Installation(control_plane, stack)
            found.install()
            found.start_controller("one")
            found.start_api()
            eventually(lambda: found.ready("api"), why=lambda: control_plane.tail("api"))
            eventually(found.available, why=lambda: control_plane.tail("api"))
            yield found
    except NoGo as missing:
        unmet(str(missing))


def _degraded(installation: Installation) -> str:
    """Return what the KubeVirt object's condition says beside that nobody runs our Pods here."""
    found = json.loads(installation.cluster.kubectl("get", "kubevirt", "kubevirt", "-n", "kubevirt", "-o", "json"))
    conditions = {one["type"]: one for one in (found.get("status") or {}).get("conditions") or []}
    degraded = conditions.get("Degraded") or {}
    return str(degraded.get("message")) if degraded.get("reason") == "WrongInstallation" else ""


def _works(installation: Installation, name: str) -> None:
    """Machines are still looked at."""
    installation.create(VMIS, {**vmi(), "metadata": {"name": name, "namespace": "default"}})
    path = "jsonpath={.status.phase}"
    eventually(lambda: installation.cluster.kubectl("get", "vmi", name, "-o", path) == "Pending")
    installation.cluster.kubectl("delete", "vmi", name)


@pytest.mark.parametrize("module", ["server", "controllers", "agent"])
def test_a_broken_kubeconfig_ends_a_process_with_one_sentence(module: str, tmp_path: Path) -> None:
    broken = tmp_path / "kubeconfig"
    broken.write_text("current-context: x\ncontexts: []\n")
    more = {"agent": ["--node-name=n", "--health-port=0"], "controllers": ["--health-port=0"]}.get(module, ["--port=0"])
    command = [sys.executable, "-P", "-m", f"polyvisor.{module}", f"--kubeconfig={broken}", *more]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    lines = [line for line in (done.stdout + done.stderr).splitlines() if line]
    assert len(lines) == 1
    assert f"{broken}: contexts has no entry 'x'" in json.loads(lines[0])["message"]


def test_who_may_not_install_is_told_so(installation: Installation) -> None:
    installation.cluster.kubectl("create", "serviceaccount", "nobody", "-n", "kubevirt")
    path = installation.cluster.folder / "nobody.kubeconfig"
    path.write_text(installation.cluster.kubeconfig_for(installation.token("nobody")))
    command = [str(Path(sys.executable).with_name("polyvisor")), f"--kubeconfig={path}", "install"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 8
    assert "is forbidden" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_process_without_rights_says_which_it_lacks(installation: Installation) -> None:
    installation.start("lacking", "server", "nobody", f"--port={free_port()}")
    log = installation.cluster.folder / "lacking.log"
    eventually(lambda: "kubevirts.kubevirt.io is forbidden" in log.read_text())
    assert not installation.ready("lacking")
    installation.running["lacking"].terminate()
    assert installation.running["lacking"].wait(20) == 0


def test_definitions_of_another_project_are_told_and_the_rest_goes_on(installation: Installation) -> None:
    eventually(lambda: _degraded(installation) == "")
    label = ("label", "crd", "virtualmachines.kubevirt.io", "--overwrite")
    installation.cluster.kubectl(*label, "app.kubernetes.io/part-of=kubevirt")
    eventually(lambda: "virtualmachines.kubevirt.io is not Polyvisor's" in _degraded(installation), 90)
    refused = installation.polyvisor("install")
    assert refused.returncode == 1
    assert "virtualmachines.kubevirt.io that is not Polyvisor's" in refused.stderr
    _works(installation, "beside")
    installation.cluster.kubectl(*label, "app.kubernetes.io/part-of=polyvisor")
    eventually(lambda: _degraded(installation) == "", 90)


def test_an_unknown_driver_is_refused_and_told_where_it_could_not_be(installation: Installation) -> None:
    patch = json.dumps({"spec": {"configuration": {"hypervisors": [{"name": "qemu"}, {"name": "beowulf"}]}}})
    change = ("patch", "kubevirt", "kubevirt", "-n", "kubevirt", "--type=merge", "-p")
    said = "spec.configuration.hypervisors[1].name: no driver has the name 'beowulf'"
    assert said in installation.cluster.kubectl(*change, patch, check=False)
    installation.running["api"].terminate()
    installation.running["api"].wait(20)
    installation.cluster.kubectl(*change, patch)
    eventually(lambda: said in _degraded(installation))
    installation.start_api()
    eventually(lambda: installation.ready("api"), why=lambda: installation.cluster.tail("api"))
    eventually(installation.available)
    _works(installation, "still")
    installation.cluster.kubectl(*change, json.dumps({"spec": {"configuration": {"hypervisors": ENABLED}}}))
    eventually(lambda: _degraded(installation) == "")


def test_an_expired_certificate_is_replaced(installation: Installation) -> None:
    async def expire(client: Any) -> bytes:
        authority = await client.get(SECRETS, "kubevirt-ca", "kubevirt")
        pair = Pair(*(base64.b64decode(authority["data"][key]) for key in ("tls.crt", "tls.key")))
        (role,) = [one for one in roles("kubevirt") if one.secret == "kubevirt-virt-api-certs"]
        old = role.issue(pair, timedelta(hours=1), now() - Lifetimes().leaf)
        secret = await client.get(SECRETS, role.secret, "kubevirt")
        encoded = {
            key: base64.b64encode(one).decode() for key, one in (("tls.crt", old.certificate), ("tls.key", old.key))
        }
        await client.update(SECRETS, {**secret, "data": secret["data"] | encoded})
        return bytes(old.certificate)

    expired = base64.b64encode(installation.act(expire)).decode()
    path = "jsonpath={.data.tls\\.crt}"
    shown = ("get", "secret", "kubevirt-virt-api-certs", "-n", "kubevirt", "-o", path)
    eventually(lambda: installation.cluster.kubectl(*shown) not in ("", expired))
    eventually(installation.available)
    _works(installation, "renewed")
