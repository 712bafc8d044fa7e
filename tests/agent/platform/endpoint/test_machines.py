"""Machines on real hosts: libvirt's daemon, guests that boot from images which were uploaded to it."""

from __future__ import annotations

import pytest

from polyvisor.api.resources import ENDPOINTS, NAMESPACES, NODES, PODS, VMIS
from polyvisor.drivers.qemu import boot_sector
from polyvisor.kube import ApiError
from tests.agent.platform.endpoint.guests import (
    DEMO,
    DISK,
    Shell,
    console_of,
    domains,
    mapped,
    node_of,
    vmi_pod,
    volumes,
)
from tests.agent.platform.endpoint.guests import clean as clean
from tests.agent.platform.endpoint.guests import world as world
from tests.agent.platform.endpoint.hosts import GUEST, HypervisorHost
from tests.agent.platform.endpoint.test_hosts import by_socket, by_ssh, by_tls, ssh_secret, tls_secret
from tests.agent.platform.endpoint.world import World, condition, phase, reason

pytestmark = pytest.mark.root
REACHABLE = "HypervisorReachable"


@pytest.mark.parametrize("transport", ["unix", "ssh", "tls"])
async def test_a_guest_boots_from_an_image_that_was_brought_to_its_host(
    world: World, host: HypervisorHost, pool: str, transport: str
) -> None:
    ways = {
        "unix": (by_socket(host), None),
        "ssh": (by_ssh(host), ssh_secret(host)),
        "tls": (by_tls(host), tls_secret(host.authority)),
    }
    endpoint, secret = ways[transport]
    await world.add(mapped(endpoint), secret)
    await world.create("web", "rack4", volumes=[DISK])
    vmi = await world.running("web")
    assert vmi["status"]["nodeName"] == "endpoint-rack4"
    hypervisor = vmi["status"]["hypervisor"]
    assert (hypervisor["driver"], hypervisor["endpoint"]) == ("qemu", "rack4")
    assert hypervisor["domain"]["name"] == "default_web"
    assert hypervisor["version"]
    assert boot_sector.DONE in await console_of(world, vmi, boot_sector.DONE)
    assert domains(host) == ["default_web"]
    uid = vmi["metadata"]["uid"]
    assert f"polyvisor-{uid}-root.qcow2" in volumes(host)
    await world.delete("web")
    await world.gone("web")
    assert domains(host) == []
    assert not [name for name in volumes(host) if uid in name]


async def test_a_guest_with_kernel_disks_and_cloud_init_is_used_and_powers_itself_off(
    world: World, host: HypervisorHost, pool: str
) -> None:
    await world.add(mapped(by_ssh(host)), ssh_secret(host))
    await world.create("demo", "rack4", **DEMO)
    vmi = await world.running("demo")
    said = await console_of(world, vmi, b"host name from-afar")
    assert b"Linux" in said or b"polyvisor-demo" in said
    shell = Shell(await node_of(world).open(vmi, "console"))
    await shell.says("", rb"login: ")
    await shell.says("root", rb"# ")
    assert await shell.says("hostname", rb"from-afar\r")
    sizes = await shell.says("cat /sys/block/vd?/size | tr '\\n' ' '; echo end", rb"(\d+) (\d+) [\d ]*end")
    assert int(sizes[2]) * 512 == 16 << 20
    await node_of(world).ask(vmi, "pause")
    await world.until(VMIS, "demo", lambda one: condition(one, "Paused") == "True")
    await node_of(world).ask(vmi, "unpause")
    await world.until(VMIS, "demo", lambda one: condition(one, "Paused") == "")
    await shell.says("poweroff", rb"poweroff")
    await world.until(VMIS, "demo", lambda one: phase(one) == "Succeeded")
    await world.until(
        PODS, vmi_pod(vmi, await world.client.list(PODS, "default")), lambda pod: phase(pod) == "Succeeded"
    )
    assert domains(host) == []
    assert not [name for name in volumes(host) if vmi["metadata"]["uid"] in name]
    await world.delete("demo")
    await world.gone("demo")


async def test_a_guest_goes_on_without_the_agent_and_is_found_again(
    world: World, host: HypervisorHost, pool: str
) -> None:
    await world.add(mapped(by_ssh(host)), ssh_secret(host))
    await world.create("web", "rack4", volumes=[DISK])
    before = await world.running("web")
    number = host.virsh("domid", "default_web")
    with pytest.raises(ApiError, match="endpoint rack4 has virtual machines on its host: default/web"):
        await world.client.delete(ENDPOINTS, "rack4")
    await world.stop_agent()
    assert host.virsh("domid", "default_web") == number
    await world.start_agent()
    stopped = {"metadata": {"annotations": {"hypervisor.kubevirt.io/drivers": ""}}}
    await world.client.patch(NODES, "endpoint-rack4", stopped)
    await world.until(NODES, "endpoint-rack4", lambda one: "qemu" in str(one["metadata"]["annotations"]), None)
    after = await world.client.get(VMIS, "web", "default")
    assert after["status"]["phaseTransitionTimestamps"] == before["status"]["phaseTransitionTimestamps"]
    assert host.virsh("domid", "default_web") == number
    await world.delete("web")
    await world.gone("web")
    await world.client.delete(ENDPOINTS, "rack4")


async def test_a_host_that_is_away_says_nothing_of_its_guests(world: World, host: HypervisorHost, pool: str) -> None:
    await world.add(mapped(by_tls(host)), tls_secret(host.authority))
    await world.create("web", "rack4", volumes=[DISK])
    await world.running("web")
    number = host.virsh("domid", "default_web")
    host.kill_daemon()
    try:
        vmi = await world.until(VMIS, "web", lambda one: condition(one, "Ready") == "Unknown")
        assert reason(vmi, "Ready") == "EndpointUnreachable"
        assert phase(vmi) == "Running"
        away = await world.until(
            NODES, "endpoint-rack4", lambda one: condition(one, "HypervisorReachable") == "False", None
        )
        assert condition(away, "Ready") == "True"
        assert "hypervisor.kubevirt.io/unreachable" in [one["key"] for one in away["spec"]["taints"]]
    finally:
        host.start_daemon()
    await world.until(VMIS, "web", lambda one: condition(one, "Ready") == "True")
    assert host.virsh("domid", "default_web") == number
    await world.delete("web")
    await world.gone("web")


async def test_a_machine_deleted_while_its_host_is_away_waits_or_is_fenced(
    world: World, host: HypervisorHost, pool: str
) -> None:
    await world.add(mapped(by_socket(host)))
    for name in ("waits", "fenced"):
        await world.create(name, "rack4", volumes=[DISK])
        await world.running(name)
    host.kill_daemon()
    try:
        for name in ("waits", "fenced"):
            await world.delete(name)
            vmi = await world.until(VMIS, name, lambda one: reason(one, "Synchronized") == "EndpointUnreachable")
            message = next(c["message"] for c in vmi["status"]["conditions"] if c["type"] == "Synchronized")
            assert f"polyvisor endpoint fence rack4 default/{name}" in message
        word = {"metadata": {"annotations": {"hypervisor.kubevirt.io/fenced": "true"}}}
        await world.client.patch(VMIS, "fenced", word, "default")
        await world.gone("fenced", pods=False)
    finally:
        host.start_daemon()
    await world.gone("waits")
    assert domains(host) == ["default_fenced"]
    host.virsh("destroy", "default_fenced")
    host.virsh("undefine", "default_fenced")


async def test_domains_of_others_are_never_touched(world: World, host: HypervisorHost, pool: str) -> None:
    host.create(GUEST.format(kind="qemu", name="default_web"))
    try:
        await world.add(mapped(by_socket(host)))
        await world.create("web", "rack4", volumes=[DISK])
        vmi = await world.running("web")
        assert vmi["status"]["hypervisor"]["domain"]["name"] == f"default_web-{vmi['metadata']['uid'][:8]}"
        taken = host.virsh("domuuid", "default_web")
        await world.create("other", "rack4", volumes=[DISK], domain={"firmware": {"uuid": taken}})
        other = await world.until(VMIS, "other", lambda one: phase(one) == "Failed")
        assert "which is not this machine's" in str(other["status"]["conditions"])
        for name in ("web", "other"):
            await world.delete(name)
        await world.gone("web")
        await world.gone("other")
        assert domains(host) == ["default_web"]
        assert host.virsh("domstate", "default_web") == "running"
    finally:
        host.virsh("destroy", "default_web")


async def test_a_machine_that_may_not_go_to_an_endpoint_is_refused(world: World, host: HypervisorHost) -> None:
    await world.add(
        {
            **by_socket(host),
            "spec": {**by_socket(host)["spec"], "allowedNamespaces": {"selector": {"matchLabels": {"a": "b"}}}},
        }
    )
    with pytest.raises(ApiError, match="namespace default may not use endpoint rack4"):
        await world.create("web", "rack4", volumes=[DISK])
    with pytest.raises(ApiError, match="there is no HypervisorEndpoint 'rack5'"):
        await world.create("web", "rack5", volumes=[DISK])
    await world.client.patch(NAMESPACES, "default", {"metadata": {"labels": {"a": "b"}}})
    with pytest.raises(ApiError, match="endpoint rack4 runs qemu, and the machine asks for lxc"):
        await world.create("web", "rack4", volumes=[DISK], hypervisor={"driver": "lxc", "virtType": "lxc"})
    probe = {"guestAgentPing": {}}
    with pytest.raises(ApiError, match="agent is asked by users alone"):
        await world.create("web", "rack4", volumes=[DISK], livenessProbe=probe)
