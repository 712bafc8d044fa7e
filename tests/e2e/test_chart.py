"""The chart means to Go's template engine, which is Helm's, what it means to our own renderer."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
import yaml

from polyvisor import __version__
from polyvisor.installation.render import CHART, assignment, defaults, manifests, merged
from tests.needs import need

MAIN = Path(__file__).parent / "tools" / "template" / "main.go"
VALUES = [
    [],
    [
        "image.tag=v9",
        "api.replicas=3",
        "networkPolicies=false",
        "monitoring.enabled=true",
        "configuration.hypervisors=[{name: qemu}]",
    ],
]


@pytest.mark.e2e
@pytest.mark.parametrize("given", VALUES)
def test_the_chart_is_the_same_to_helms_engine(given: list[str]) -> None:
    need("go")
    values = defaults()
    for text in given:
        values = merged(values, assignment(text))
    scope = {
        "Values": values,
        "Release": {"Namespace": "machines", "Name": "polyvisor"},
        "Chart": {"Name": "polyvisor", "Version": __version__, "AppVersion": __version__},
    }
    templates = [str(path) for path in sorted(Path(str(CHART / "templates")).iterdir())]
    done = subprocess.run(
        ["go", "run", str(MAIN), *templates], input=json.dumps(scope), capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    helms = [one for one in yaml.safe_load_all(done.stdout) if one]
    ours = [
        one
        for one in manifests("machines", [assignment(text) for text in given])
        if one["kind"] not in ("Namespace", "CustomResourceDefinition")
    ]
    assert sorted(map(json.dumps, helms)) == sorted(map(json.dumps, ours))
