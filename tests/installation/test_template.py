from __future__ import annotations

import pytest

from polyvisor.installation.template import TemplateError, render

SCOPE = {"Values": {"name": "x", "on": True, "off": False, "list": [1, {"a": "b"}], "empty": ""}, "Chart": {"V": "1"}}


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("a: {{ .Values.name }}", "a: x"),
        ("{{.Values.name|quote}}", '"x"'),
        ("{{ .Values.list | toJson }}", '[1,{"a":"b"}]'),
        ('{{ .Values.empty | default (printf "v%s" .Chart.V) }}', "v1"),
        ('{{ .Values.name | default "y" }}', "x"),
        ("{{ .Values.on }}", "true"),
        ("a\n{{- if .Values.on }}\nb\n{{- end }}\nc", "a\nb\nc"),
        ("a\n{{- if .Values.off }}\nb {{ .Values.nothing }}\n{{- end }}\nc", "a\nc"),
        ("{{ if .Values.on }}{{ if .Values.off }}a{{ end }}b{{ end }}", "b"),
        ('{{ if contains "\\"a\\":\\"b\\"" (.Values.list | toJson) }}a{{ end }}', "a"),
        ('{{ if .Values.list | toJson | contains "c" }}a{{ end }}', ""),
        ("{{ if or .Values.off .Values.name }}a{{ end }}", "a"),
        ("{{ if or .Values.off .Values.empty }}a{{ end }}", ""),
    ],
)
def test_what_is_understood(text: str, wanted: str) -> None:
    assert render(text, SCOPE) == wanted


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{{ .Values.nothing }}", r"no \.Values\.nothing"),
        ("{{ .Values.list }}", "toJson"),
        ("{{ .Values.name | upper }}", "'upper' is no function"),
        ('{{ include "a" . }}', "not understood"),
        ("{{ range .Values.list }}{{ end }}", "not understood"),
        ("{{ if .Values.on }}", "without an end"),
        ("{{ end }}", "without an if"),
        ("{{ .Values.name .Values.name }}", "not understood"),
        ('{{ .Values.name | default (printf "%d" 1 }}', "understood|closed"),
    ],
)
def test_what_is_not_is_refused(text: str, said: str) -> None:
    with pytest.raises(TemplateError, match=said):
        render(text, SCOPE)
