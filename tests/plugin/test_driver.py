"""A driver from another package goes the same ways as Polyvisor's own: registry, kit, command line, launcher."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import libvirt
import pytest
from polyvisor_driver_test import LibvirtTestDriver

from polyvisor.domain import render
from polyvisor.drivers import GROUP, load, registry
from polyvisor.testing import Case, DriverKit, bench, claims, corpus
from polyvisor.testing.schema import newer

DRIVER = LibvirtTestDriver()
MANIFEST = """
apiVersion: kubevirt.io/v1
kind: VirtualMachineInstance
metadata: {name: pretended, namespace: default}
spec:
  hypervisor: {driver: test}
  domain: {memory: {guest: 64Mi}, devices: {%s}}
"""


class TestKit(DriverKit):
    driver = DRIVER
    needs_a_host = False


def plain() -> Case:
    return next(case for case in corpus(DRIVER) if case.id == "plain")


def polyvisor(installed: Path, *arguments: str, text: str = "") -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": os.fspath(installed)}
    command = [sys.executable, "-m", "polyvisor.cli", *arguments]
    return subprocess.run(command, env=environment, input=text, capture_output=True, text=True, timeout=60, check=False)


def test_the_product_does_not_have_it() -> None:
    assert "test" not in registry()


def test_its_entry_point_is_found(installed: Path) -> None:
    (found,) = distributions(name="polyvisor-driver-test", path=[os.fspath(installed)])
    points = [point for point in found.entry_points if point.group == GROUP]
    loaded = load(points)
    assert loaded.problems == ()
    assert loaded.names() == ("test",)


def test_features_shows_its_table(installed: Path) -> None:
    done = polyvisor(installed, "features", "--driver", "test", "--feature", "lifecycle.adopt", "-o", "json")
    assert done.returncode == 0, done.stderr
    assert "gone with the launcher" in done.stdout


@pytest.mark.parametrize(("more", "code"), [("rng: {}", 0), ("tpm: {}", 3)])
def test_explain_judges_by_its_table(installed: Path, tmp_path: Path, more: str, code: int) -> None:
    (tmp_path / "vmi.yaml").write_text(MANIFEST % more)
    done = polyvisor(installed, "explain", os.fspath(tmp_path / "vmi.yaml"), "-o", "json")
    assert done.returncode == code, done.stdout + done.stderr
    assert '"test"' in done.stdout


def test_drivers_probes_it(installed: Path, tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": os.fspath(installed)}
    script = f"""if True:
        import json
        from pathlib import Path
        from polyvisor.drivers import registry
        found = registry().get("test").probe(Path({os.fspath(tmp_path)!r}))
        print(json.dumps([found.available, found.virt_types, found.version]))
    """
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [True, ["test"], "0.0.2"]


def test_libvirt_takes_every_domain_of_the_corpus(tmp_path: Path) -> None:
    (tmp_path / "node.xml").write_text("<node/>")
    connection = libvirt.open(f"test://{tmp_path}/node.xml")
    known = [c for c in corpus(DRIVER) if not any(newer(DRIVER.features[id_].min_libvirt) for id_ in c.features)]
    assert len(known) > 100
    for case in known:
        domain = connection.defineXML(render(case.vmi, DRIVER, case.context))
        domain.undefine()
    connection.close()


@claims(DRIVER, "lifecycle.start", "lifecycle.pause", "lifecycle.shutdown", "lifecycle.events")
def test_a_machine_lives_through_a_launcher() -> None:
    case = plain()
    xml = render(case.vmi, DRIVER, case.context)
    with bench(DRIVER, case.vmi) as one:
        agent = one.launch()
        assert agent.greeting["hello"]["driver"] == "test"
        started = agent.result("start", xml=xml)
        assert started["state"] == "running"
        assert agent.result("start", xml=xml)["id"] == started["id"]
        assert agent.result("pause")["state"] == "paused"
        assert agent.result("resume")["state"] == "running"
        agent.result("shutdown")
        assert agent.until("shutoff")["reason"] == "shutdown"
        assert agent.result("start", xml=xml)["state"] == "shutoff"
        agent.close()


@pytest.mark.parametrize("paused", [True, False])
def test_a_machine_may_start_paused_and_be_destroyed(paused: bool) -> None:
    case = plain()
    arguments: dict[str, Any] = {"xml": render(case.vmi, DRIVER, case.context), "paused": paused}
    with bench(DRIVER, case.vmi) as one:
        agent = one.launch()
        assert agent.result("start", **arguments)["state"] == ("paused" if paused else "running")
        agent.result("destroy")
        assert agent.until("shutoff")["reason"] == "destroyed"
        agent.close()


@claims(DRIVER, "lifecycle.adopt")
def test_a_machine_outlives_its_launcher() -> None:
    case = plain()
    with bench(DRIVER, case.vmi) as one:
        first = one.launch()
        started = first.result("start", xml=render(case.vmi, DRIVER, case.context))
        one.kill()
        second = one.launch()
        assert second.result("start", xml=render(case.vmi, DRIVER, case.context))["id"] == started["id"]
