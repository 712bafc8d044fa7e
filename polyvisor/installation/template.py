"""The part of Helm's template language that our chart keeps to: values, pipelines of a few functions, and ``if``.

What isn't obvious: anything else is an error, never passed over, so that the chart cannot come to mean one thing to
Helm and another to us. Values are looked up strictly too: a name that ``values.yaml`` lacks is a mistake in the chart.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

ACTION = re.compile(r"\{\{(-?)\s*(.*?)\s*(-?)\}\}", re.DOTALL)
TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|\(|\)|\||[^\s()|"]+')


class TemplateError(Exception):
    """A template uses what is not there."""


def render(text: str, scope: Mapping[str, Any]) -> str:
    """Return a template's text for a scope of ``Values``, ``Release`` and ``Chart``."""
    out: list[str] = []
    shown = [True]
    position = 0
    trim = False
    for match in ACTION.finditer(text):
        plain = text[position : match.start()]
        if trim:
            plain = plain.lstrip()
        if match[1]:
            plain = plain.rstrip()
        if all(shown):
            out.append(plain)
        trim, position = bool(match[3]), match.end()
        action = match[2]
        if action.startswith("if "):
            shown.append(bool(_evaluate(action[3:], scope)))
        elif action == "end":
            if len(shown) == 1:
                raise TemplateError("an end without an if")
            shown.pop()
        elif all(shown):
            out.append(_written(_evaluate(action, scope)))
    if len(shown) != 1:
        raise TemplateError("an if without an end")
    rest = text[position:]
    out.append(rest.lstrip() if trim else rest)
    return "".join(out)


def _evaluate(expression: str, scope: Mapping[str, Any]) -> Any:
    tokens = TOKEN.findall(expression)
    value = _pipeline(tokens, scope)
    if tokens:
        raise TemplateError(f"{expression!r} is not understood")
    return value


def _pipeline(tokens: list[str], scope: Mapping[str, Any]) -> Any:
    value = _command(tokens, scope, ())
    while tokens and tokens[0] == "|":
        tokens.pop(0)
        value = _command(tokens, scope, (value,))
    return value


def _command(tokens: list[str], scope: Mapping[str, Any], piped: tuple[Any, ...]) -> Any:
    if not tokens:
        raise TemplateError("an expression ends too soon")
    head = tokens.pop(0)
    if head in FUNCTIONS:
        arguments = []
        while tokens and tokens[0] not in ("|", ")"):
            arguments.append(_operand(tokens.pop(0), tokens, scope))
        return FUNCTIONS[head](*arguments, *piped)
    if piped:
        raise TemplateError(f"{head!r} is no function of ours ({', '.join(FUNCTIONS)})")
    return _operand(head, tokens, scope)


def _operand(token: str, tokens: list[str], scope: Mapping[str, Any]) -> Any:
    if token == "(":
        inner = _pipeline(tokens, scope)
        if not tokens or tokens.pop(0) != ")":
            raise TemplateError("a parenthesis is not closed")
        return inner
    if token.startswith('"'):
        return json.loads(token)
    if re.fullmatch(r"-?\d+", token):
        return int(token)
    if not token.startswith("."):
        raise TemplateError(f"{token!r} is not understood")
    value: Any = scope
    for part in token[1:].split("."):
        if not isinstance(value, Mapping) or part not in value:
            raise TemplateError(f"there is no {token}")
        value = value[part]
    return value


def _written(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (dict, list)):
        raise TemplateError("a list or map has to go through toJson")
    return str(value)


def _printf(pattern: str, *arguments: Any) -> str:
    if re.search(r"%(?!s)", pattern):
        raise TemplateError(f"printf {pattern!r}: only %s is understood")
    return pattern % tuple(_written(argument) for argument in arguments)


FUNCTIONS: dict[str, Any] = {
    "contains": lambda part, whole: part in whole,
    "default": lambda other, value: value or other,
    "or": lambda *values: next((value for value in values[:-1] if value), values[-1]),
    "printf": _printf,
    "quote": lambda value: json.dumps(_written(value)),
    "toJson": lambda value: json.dumps(value, separators=(",", ":"), sort_keys=True),
}
