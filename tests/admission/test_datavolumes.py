"""DataVolumes: what is refused, with its place."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from polyvisor.admission import AdmissionContext, admit
from polyvisor.api import Obj
from polyvisor.api.resources import DATAVOLUMES, VMS
from tests.admission.conftest import machine, put

STORAGE = {"resources": {"requests": {"storage": "1Gi"}}}
GOOD: list[Obj] = [
    {"source": {"blank": {}}, "storage": STORAGE},
    {"source": {"upload": {}}, "pvc": {"accessModes": ["ReadWriteOnce"], **STORAGE}, "contentType": "archive"},
    {"source": {"pvc": {"namespace": "a", "name": "b"}}, "storage": {}},
    {"source": {"http": {"url": "https://example.org/d.qcow2", "extraHeaders": ["X-A: b"]}}, "storage": STORAGE},
    {"source": {"registry": {"url": "docker://registry.example/team/d:1", "secretRef": "s"}}, "storage": STORAGE},
]
BAD: list[tuple[Obj, str, str]] = [
    ({"source": {"blank": {}}}, "spec", "no storage is asked for"),
    ({"source": {"blank": {}}, "storage": STORAGE, "pvc": STORAGE}, "spec", "exclude each other"),
    ({"storage": STORAGE}, "spec.source", "one of blank, http, pvc, registry, upload"),
    ({"source": {"blank": {}, "upload": {}}, "storage": STORAGE}, "spec.source", "blank and upload exclude"),
    ({"source": {"blank": {}}, "storage": {}}, "spec.storage.resources.requests.storage", "required"),
    (
        {"source": {"pvc": {"namespace": "a", "name": "b"}}, "pvc": {}},
        "spec.pvc.resources.requests.storage",
        "required",
    ),
    (
        {"source": {"blank": {}}, "storage": {"resources": {"requests": {"storage": "0"}}}},
        "spec.storage.resources.requests.storage",
        "such as 1Gi",
    ),
    (
        {"source": {"upload": {}}, "storage": {**STORAGE, "volumeMode": "Block"}, "contentType": "archive"},
        "spec.storage.volumeMode",
        "an archive becomes a folder",
    ),
    ({"source": {"http": {"url": "file:///etc/shadow"}}, "storage": STORAGE}, "spec.source.http.url", "http://"),
    ({"source": {"http": {"url": "http://["}}, "storage": STORAGE}, "spec.source.http.url", "http://"),
    (
        {"source": {"http": {"url": "http://a/b", "extraHeaders": ["A: b\nC: d"]}}, "storage": STORAGE},
        "spec.source.http.extraHeaders[0]",
        "X-Name: value",
    ),
    ({"source": {"registry": {"url": "team/d:1"}}, "storage": STORAGE}, "spec.source.registry.url", "docker://"),
    ({"source": {"pvc": {"namespace": "a", "name": "../b"}}, "storage": STORAGE}, "spec.source.pvc.name", "lower-case"),
    ({"source": {"blank": {}}, "storage": STORAGE, "contentType": "iso"}, "spec.contentType", "kubevirt, archive"),
    ({"source": {"blank": {}}, "storage": STORAGE, "contentType": "archive"}, "spec.contentType", "by http or upload"),
    ({"source": {"s3": {"url": "http://a/b"}}, "storage": STORAGE}, "spec.source.s3", "not implemented"),
]


def outcome(spec: Obj, context: AdmissionContext, old: Obj | None = None) -> Any:
    obj = {"apiVersion": DATAVOLUMES.api_version, "kind": "DataVolume", "metadata": {"name": "d", "namespace": "n"}}
    return admit("UPDATE" if old else "CREATE", DATAVOLUMES, {**obj, "spec": spec}, old, context)


@pytest.mark.parametrize("spec", GOOD, ids=str)
def test_admitted(spec: Obj, context: AdmissionContext) -> None:
    assert outcome(spec, context).problems == []


@pytest.mark.parametrize(("spec", "field", "words"), BAD, ids=[f"{field}: {words}" for _, field, words in BAD])
def test_refused(spec: Obj, field: str, words: str, context: AdmissionContext) -> None:
    problems = outcome(spec, context).problems
    assert [problem for problem in problems if problem.field == field and words in problem.message], problems


def test_a_data_volume_does_not_change(context: AdmissionContext) -> None:
    made = outcome(GOOD[0], context).obj
    assert outcome(copy.deepcopy(GOOD[0]), context, made).problems == []
    problems = outcome(GOOD[1], context, made).problems
    assert [problem.field for problem in problems] == ["spec"]
    assert "make another" in problems[0].message


@pytest.mark.parametrize(
    ("template", "field", "words"),
    [
        ({"metadata": {"name": "other"}}, "metadata.name", "no volume of spec.template.spec.volumes uses"),
        ({"metadata": {}}, "metadata.name", "the name of the DataVolume"),
        ({"metadata": {"name": "d"}, "spec": {"source": {}, "storage": STORAGE}}, "spec.source", "give one of"),
    ],
)
def test_templates(template: Obj, field: str, words: str, context: AdmissionContext) -> None:
    good = {"metadata": {"name": "d"}, "spec": GOOD[0]}
    vm = machine(put("volumes.0", {"name": "root", "dataVolume": {"name": "d"}}))
    vm["spec"]["dataVolumeTemplates"] = [good]
    assert admit("CREATE", VMS, vm, None, context).problems == []
    vm["spec"]["dataVolumeTemplates"] = [good | template]
    problems = admit("CREATE", VMS, vm, None, context).problems
    found = [p for p in problems if p.field == f"spec.dataVolumeTemplates[0].{field}" and words in p.message]
    assert found, problems
