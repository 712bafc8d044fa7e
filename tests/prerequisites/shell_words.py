"""Which programs a shell script runs: the words in the place of a command, as far as they are written out."""

from __future__ import annotations

import re
from collections.abc import Iterator

KEYWORDS = {
    "for",
    "if",
    "then",
    "else",
    "elif",
    "fi",
    "do",
    "done",
    "while",
    "until",
    "!",
    "{",
    "}",
    "time",
    "exec",
    "case",
    "esac",
}
BUILTINS = set(
    "[ [[ : . break compgen cd command continue declare echo eval exit export false local mapfile printf pwd "
    "read return set shift source test trap true type ulimit umask unset wait getopts hash jobs kill".split()
)
BEFORE = {"sudo", "env", "nice"}
HERE = re.compile(r"<<-?\s*(['\"]?)(\w+)\1[^\n]*\n.*?^\s*\2$", re.S | re.M)
FUNCTION = re.compile(r"^\s*(?:function\s+)?([\w-]+)\s*\(\)", re.M)
NAME = re.compile(r"[A-Za-z0-9_./+-]+")


def programs(script: str) -> Iterator[str]:
    """Yield each program; functions of the script and what the shell does itself are left out."""
    text = HERE.sub("\n", script)
    functions = set(FUNCTION.findall(text))
    for simple in _simple(text):
        words = list(simple)
        while words and (words[0] in KEYWORDS or re.match(r"\w+\+?=", words[0]) or words[0] == '"$privileged"'):
            if words[0] in ("case", "for"):
                words = []
                break
            words.pop(0)
        while words and (words[0].startswith('"${') or words[0] in BEFORE):
            first = words.pop(0)
            if first in BEFORE:
                yield first
                while words and (words[0].startswith("-") or "=" in words[0]):
                    words.pop(0)
        if words[:2] == ["command", "-v"] and len(words) > 2:
            words = words[2:]
        if (
            words
            and NAME.fullmatch(words[0])
            and re.search("[a-z]", words[0])
            and words[0][0] != "-"
            and words[0] not in BUILTINS | functions | KEYWORDS
        ):
            yield words[0]


def _simple(text: str) -> Iterator[list[str]]:
    """Split a script into simple commands, each a list of words; what is in quotes is one word, mostly hidden."""
    words: list[str] = []
    piped: list[list[str]] = []
    word, place, depth = "", 0, 0
    inner: list[str] = []

    def end_word() -> None:
        nonlocal word
        if word:
            words.append(word)
        word = ""

    while place < len(text):
        char = text[place]
        if char == "\\":
            word += "" if text[place + 1 : place + 2] == "\n" else "_"
            place += 2
            continue
        if char == "#" and not word:
            place = (text.find("\n", place) + len(text)) % len(text) if "\n" in text[place:] else len(text)
            continue
        if char == "'":
            end = text.find("'", place + 1)
            word += "'_'"
            place = (end if end > 0 else len(text)) + 1
            continue
        if char == '"':
            end, found = _double(text, place + 1)
            inner += found
            quoted = text[place:end]
            word += quoted if quoted.startswith('"${') and "privileged" in quoted else '"_"'
            place = end
            continue
        if text.startswith("$((", place):
            place = text.find("))", place) + 2
            word += "$_"
            continue
        if text.startswith("$(", place):
            end = _closing(text, place + 2)
            inner.append(text[place + 2 : end])
            word += "$_"
            place = end + 1
            continue
        if text.startswith("${", place):
            place = text.find("}", place) + 1
            word += "$_"
            continue
        if char in " \t":
            end_word()
        elif char in "<>":
            end_word()
            while place < len(text) and text[place] in "<>&| \t":
                place += 1
            while place < len(text) and text[place] not in " \t\n;|&)":
                place += 1
            continue
        elif char in "\n;|&()":
            end_word()
            piped.append(words)
            words = []
            if char == ")" and not depth:  # what went before is a pattern of `case`
                piped = []
            elif char != "|" or text[place - 1] == "|":
                yield from piped
                piped = []
            depth = max(0, depth + (char == "(") - (char == ")"))
        else:
            word += char
        place += 1
    end_word()
    yield from [*piped, words]
    for each in inner:
        yield from _simple(each)


def _closing(text: str, place: int) -> int:
    depth = 1
    while place < len(text):
        if text[place] == "'":
            place = text.find("'", place + 1)
            if place < 0:
                return len(text)
        depth += (text[place] == "(") - (text[place] == ")")
        if not depth:
            return place
        place += 1
    return len(text)


def _double(text: str, place: int) -> tuple[int, list[str]]:
    inner = []
    while place < len(text) and text[place] != '"':
        if text[place] == "\\":
            place += 1
        elif text.startswith("$(", place) and not text.startswith("$((", place):
            end = _closing(text, place + 2)
            inner.append(text[place + 2 : end])
            place = end
        place += 1
    return place + 1, inner
