"""Helm: a chart with a machine, a Service and what else charts bring is installed, upgraded, rolled back, removed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.e2e.goprograms import NoGo, program
from tests.e2e.standalone import KERNEL

from .conftest import Run

pytestmark = [pytest.mark.e2e, pytest.mark.proof]

CHART = Path(__file__).with_name("chart")
NAME = "helmed"
KINDS = "vm,svc,sa,secret,pvc"


@pytest.fixture(scope="module")
def helm(run: Run) -> Run:
    try:
        path = program("helm")
    except NoGo as error:
        pytest.fail(str(error))

    def helm(*arguments: str | Path, **options: object) -> object:
        return run(path, *arguments, **options)

    return helm  # type: ignore[return-value]


@pytest.fixture(scope="module")
def values(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("helm") / "values.json"
    path.write_text(json.dumps({"kernel": KERNEL}))
    return path


def test_a_chart_from_install_to_uninstall(helm: Run, run: Run, kubectl: Run, values: Path) -> None:
    def memory() -> str:
        path = "{.spec.template.spec.domain.memory.guest}"
        return str(kubectl("get", "vm", NAME, "-o", f"jsonpath={path}").stdout)

    given = ("-f", values, "--wait", "--timeout", "120s")
    assert "STATUS: deployed" in helm("install", NAME, CHART, *given).stdout
    kubectl("wait", f"vm/{NAME}", "--for=condition=Ready", "--timeout=120s")
    assert kubectl("get", "svc", NAME, "-o", "jsonpath={.spec.ports[0].port}").stdout == "22"
    assert NAME in helm("list").stdout
    assert "REVISION: 2" in helm("upgrade", NAME, CHART, *given, "--set", "memory=97Mi").stdout
    assert memory() == "97Mi"
    assert kubectl("get", "cm", f"{NAME}-before", "-o", "jsonpath={.data.revision}").stdout == "2"
    assert "Rollback was a success" in helm("rollback", NAME, "1", "--wait").stdout
    assert memory() == "96Mi"
    history = json.loads(helm("history", NAME, "-o", "json").stdout)
    assert [one["status"] for one in history] == ["superseded", "superseded", "deployed"]
    assert "uninstalled" in helm("uninstall", NAME, "--wait", "--timeout", "120s").stdout
    left = kubectl("get", KINDS, "-l", f"app.kubernetes.io/instance={NAME}", "-o", "name").stdout
    assert left == ""
    assert NAME not in helm("list", "--all").stdout


def test_a_chart_that_is_wrong_leaves_nothing(helm: Run, kubectl: Run, values: Path) -> None:
    failed = helm("install", "wrong", CHART, "-f", values, "--set", "memory=none", "--atomic", check=False)
    assert failed.returncode == 1
    assert "spec.template.spec.domain.memory.guest" in failed.stderr
    assert kubectl("get", KINDS, "-l", "app.kubernetes.io/instance=wrong", "-o", "name").stdout == ""


def test_a_chart_is_tried_against_the_server_before_it_is_installed(helm: Run, kubectl: Run, values: Path) -> None:
    shown = helm("install", "tried", CHART, "-f", values, "--dry-run=server").stdout
    assert "kind: VirtualMachine" in shown
    assert "NotFound" in kubectl("get", "vm", "tried", check=False).stderr
